//! The flow that survives.

use std::{path::Path, time::Duration};

use anyhow::Result;
use millstream::{
    Context, Draft, Event, Handler, HandlerError, Replay, Retry, Runtime, Stage, Start, State, chain, store::Redb,
};
use serde::{Deserialize, Serialize};

/// Orders in all.
pub(crate) const ORDERS: u64 = 400;
/// Who orders.
pub(crate) const CUSTOMERS: u64 = 7;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "order.placed", key = "customer")]
struct OrderPlaced {
    id: u64,
    customer: u64,
    cents: u64,
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "order.paid", key = "customer")]
struct OrderPaid {
    id: u64,
    customer: u64,
    cents: u64,
}

/// A customer has paid nothing more for a while: time for a statement.
#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "statement.due", key = "customer")]
struct StatementDue {
    customer: u64,
}

/// What the outside world is like: whether the bank takes all cards.
#[derive(Clone, Copy)]
struct Bank {
    takes_all_cards: bool,
}

/// What an order costs.
pub(crate) fn cents_of(id: u64) -> u64 {
    100 + id * 37 % 900
}

/// Fails for a moment now and then, and for some cards until the bank has mended its ways.
async fn charge(State(bank): State<Bank>, order: OrderPlaced, context: Context) -> Result<OrderPaid, HandlerError> {
    if order.id % 17 == 5 && !bank.takes_all_cards {
        return Err(HandlerError::permanent("the card was declined"));
    }
    if order.id % 5 == 2 && context.attempt() == 1 {
        return Err(HandlerError::transient("the bank is busy"));
    }
    // A real bank would be given this key, and would charge a card once however often it is asked.
    println!("charged {} {}", order.id, context.effect_key("charge"));
    Ok(OrderPaid { id: order.id, customer: order.customer, cents: order.cents })
}

/// Adds up in the runtime's own storage: what it writes is committed with the delivery, so each payment counts once.
async fn ledger(paid: OrderPaid, context: Context) -> Result<(), HandlerError> {
    let book = context.storage("ledger");
    for (key, more) in [(format!("total {}", paid.customer), paid.cents), ("paid".to_owned(), 1)] {
        let before: u64 = book.get_json(&key).await.map_err(HandlerError::transient)?.unwrap_or_default();
        book.put_json(&key, &(before + more)).await.map_err(HandlerError::transient)?;
    }
    Ok(())
}

/// One statement a customer, however often the timer starts again.
async fn send_statement(due: StatementDue, context: Context) -> Result<(), HandlerError> {
    let sent = context.storage("statements");
    sent.put_json(format!("{}", due.customer), &true).await.map_err(HandlerError::transient)
}

fn runtime(path: &Path, takes_all_cards: bool) -> Result<Runtime> {
    let store = Redb::open(path)?;
    let runtime = Runtime::builder().store(store).state(Bank { takes_all_cards }).build()?;
    let retry = Retry::fixed(Duration::from_millis(20));
    runtime.on("order.placed", charge.named("charge").ordered_by_key().retry(retry).starting_at(Start::Earliest))?;
    // One after the other: they add to the same rows.
    runtime.on("order.paid", ledger.named("ledger").concurrency(1).starting_at(Start::Earliest))?;
    runtime.on("statement.due", send_statement.named("statements").starting_at(Start::Earliest))?;
    let quiet =
        chain().debounce(Duration::from_millis(300)).map(|paid: OrderPaid| StatementDue { customer: paid.customer });
    let stage = Stage::keyed(|paid: &OrderPaid| paid.customer, quiet).starting_at(Start::Earliest);
    runtime.stage("quiet", stage)?;
    Ok(runtime)
}

/// Places the orders that are not placed yet, and works until nothing is left to do.
pub(crate) async fn live(path: &Path, is_second: bool) -> Result<()> {
    let runtime = runtime(path, is_second)?;
    // `run` ends with the shutdown at the end of the work; the first of the two that fails ends both.
    let drive = async { Ok(runtime.run().await?) };
    tokio::try_join!(drive, work(&runtime, is_second))?;
    Ok(())
}

async fn work(runtime: &Runtime, is_second: bool) -> Result<()> {
    for id in 0..ORDERS {
        let order = OrderPlaced { id, customer: id % CUSTOMERS, cents: cents_of(id) };
        // The second process places all of them again: the key says which the store has.
        let draft = Draft::new(order).idempotency_key(format!("order {id}"));
        runtime.emit_wait(draft).await?.await?;
    }
    settle(runtime).await?;
    if is_second {
        let replayed = runtime.replay(&Replay::all()).replayed;
        println!("the bank takes all cards now: {replayed} dead letters are replayed");
        settle(runtime).await?;
        println!("{}", report(runtime).await?);
    }
    runtime.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

/// Until nothing is left, timers of the stage among it.
async fn settle(runtime: &Runtime) -> Result<()> {
    while let Some(next) = runtime.process().await?.next_deadline {
        tokio::time::sleep_until(runtime.clock().instant_of(next)).await;
    }
    Ok(())
}

async fn report(runtime: &Runtime) -> Result<serde_json::Value> {
    let (ledger, statements) = (runtime.storage("ledger"), runtime.storage("statements"));
    let (mut totals, mut sent) = (Vec::new(), 0);
    for customer in 0..CUSTOMERS {
        totals.push(ledger.get_json::<u64>(format!("total {customer}")).await?.unwrap_or_default());
        sent += u64::from(statements.get(format!("{customer}")).await?.is_some());
    }
    let paid: u64 = ledger.get_json("paid").await?.unwrap_or_default();
    let dead = runtime.stats().dead_letters;
    Ok(serde_json::json!({ "paid": paid, "totals": totals, "statements": sent, "dead_letters": dead }))
}
