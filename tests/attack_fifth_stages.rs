//! What a fifth attack on durable operator stages has found: each test fails without the mend that came with it.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use millstream::{
    Builder, DeadLetterFilter, Draft, Envelope, Event, Handler, Runtime, Stage, Start, Timestamp, chain,
    operators::durable::Durable,
    store::{CommitError, Committed, Memory, Op, PartitionId, Store, StoreFuture, Table, tables},
    testing::{self, HeldPartition, HookedStore, Probe, StoreHooks, TestKit},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

fn on(store: &(impl Store + Clone)) -> Builder {
    Runtime::builder().store(store.clone())
}

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "step", key = "order")]
struct Step {
    order: u32,
    is_answer: bool,
}

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "question", key = "order")]
struct Question {
    order: u32,
    asked: u32,
}

/// Each order is asked about once, and the answer goes to the same stage, which asks nothing then.
#[test]
fn a_key_that_sees_what_comes_of_its_own_outputs_is_no_loop_however_often_it_begins_anew() {
    let store = Memory::new();
    for round in 0..2 {
        testing::run(on(&store).max_event_depth(5), async |kit: TestKit| {
            let asks = chain().scan((0, false), |(asked, is_answer): &mut (u32, bool), step: Step| {
                *is_answer = step.is_answer;
                *asked += u32::from(!step.is_answer);
            });
            let asks = asks.filter(|(_, is_answer)| !is_answer).map(|(asked, _)| Question { order: 1, asked });
            kit.stage("asks", Stage::keyed(|step: &Step| step.order, asks))?;
            let answer = |question: Question| async move { Step { order: question.order, is_answer: true } };
            kit.on("question", answer.named("answer"))?;
            for _ in 0..20 {
                kit.emit(Step { order: 1, is_answer: false })?;
                kit.settle().await;
            }
            let letters = kit.dead_letters(&DeadLetterFilter::all());
            assert!(letters.is_empty(), "{round}: {} of {:?}", letters.len(), letters[0].reason());
            assert_eq!(kit.stages()[0].counts.emitted, 20 * (round + 1));
            Ok(())
        });
    }
}

#[test]
fn a_loop_through_a_stage_still_ends_though_events_of_other_roots_come_in_between() {
    testing::run(on(&Memory::new()).max_event_depth(5), async |kit: TestKit| {
        let asks = chain().scan(0, |asked, _: Step| *asked += 1).map(|asked| Question { order: 1, asked });
        kit.stage("asks", Stage::keyed(|step: &Step| step.order, asks))?;
        let again = |question: Question| async move { Step { order: question.order, is_answer: false } };
        kit.on("question", again.named("again"))?;
        for _ in 0..4 {
            kit.emit(Step { order: 1, is_answer: false })?;
        }
        kit.settle().await;
        let letters = kit.dead_letters(&DeadLetterFilter::all());
        assert_eq!(letters.len(), 4, "each root has one");
        assert!(letters.iter().all(|letter| letter.reason().contains("max_event_depth")), "{}", letters[0].reason());
        Ok(())
    });
}

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "order")]
struct Order {
    coupon: Option<u32>,
}

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "seen")]
struct Coupons(String);

/// What comes out of a stage for orders with and without a coupon, with a restart before each.
fn over_restarts<O>(stage: impl Fn() -> Stage<Order, O>) -> Vec<String>
where
    O: Durable<Order, Out = Coupons, State: Send> + Send + 'static,
{
    let (store, probe) = (Memory::new(), Probe::<Coupons>::new());
    for coupon in [None, None, Some(1), None, Some(1)] {
        testing::run(on(&store), async |kit: TestKit| {
            kit.stage("coupons", stage())?;
            kit.on("seen", probe.handler().named("seen"))?;
            kit.settle().await;
            kit.emit(Order { coupon })?;
            kit.settle().await;
            Ok(())
        });
    }
    probe.received().into_iter().map(|seen| seen.0).collect()
}

#[test]
fn a_state_that_remembers_an_item_which_is_nothing_remembers_it_over_a_restart() {
    let coupons = || chain().map(|order: Order| order.coupon);
    let show = |shown: &dyn std::fmt::Debug| Coupons(format!("{shown:?}"));
    let changes = over_restarts(|| Stage::new(coupons().distinct_until_changed().map(move |coupon| show(&coupon))));
    assert_eq!(changes, ["None", "Some(1)", "None", "Some(1)"]);
    let pairs = over_restarts(|| Stage::new(coupons().pairwise().map(move |pair| show(&pair))));
    assert_eq!(pairs, ["(None, None)", "(None, Some(1))", "(Some(1), None)", "(None, Some(1))"]);
    let firsts = || coupons().scan_first(|before: Option<u32>, _| before).map(move |first| show(&first));
    assert_eq!(over_restarts(|| Stage::new(firsts())), ["None"; 5]);
}

/// Whoever says at each start of a process "from now on" means the first one.
#[test]
fn a_stage_that_the_store_knows_goes_on_where_it_was_whatever_its_beginning_is_now() {
    let (store, probe) = (Memory::new(), Probe::<Coupons>::new());
    let stage = || chain().map(|order: Order| Coupons(format!("{:?}", order.coupon)));
    let begin = |kit: &TestKit| Stage::new(stage()).starting_at(Start::At(kit.now()));
    testing::run(on(&store), async |kit: TestKit| {
        kit.emit(Order { coupon: Some(0) })?.await?;
        kit.advance(Duration::from_secs(1)).await;
        kit.stage("coupons", begin(&kit))?;
        kit.emit(Order { coupon: Some(1) })?;
        kit.settle().await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.emit(Order { coupon: Some(2) })?.await?;
        kit.emit(Order { coupon: Some(3) })?.await?;
        Ok(())
    });
    for _ in 0..2 {
        testing::run(on(&store), async |kit: TestKit| {
            kit.advance(Duration::from_secs(1)).await;
            kit.stage("coupons", begin(&kit))?;
            kit.on("seen", probe.handler().named("seen").starting_at(Start::Earliest))?;
            kit.settle().await;
            Ok(())
        });
    }
    let seen: Vec<_> = probe.received().into_iter().map(|seen| seen.0).collect();
    assert_eq!(seen, ["Some(1)", "Some(2)", "Some(3)"]);
}

#[test]
fn a_handler_that_the_store_knows_goes_on_where_it_was_whatever_its_beginning_is_now() {
    let (store, probe) = (Memory::new(), Probe::<Order>::new());
    for round in 0..2 {
        testing::run(on(&store), async |kit: TestKit| {
            kit.advance(Duration::from_secs(1)).await;
            kit.on("order", probe.handler().named("orders").starting_at(Start::At(kit.now())))?;
            kit.settle().await;
            Ok(())
        });
        testing::run(on(&store), async |kit: TestKit| {
            kit.emit(Order { coupon: Some(round) })?.await?;
            Ok(())
        });
    }
    let seen: Vec<_> = probe.received().into_iter().map(|order| order.coupon).collect();
    assert_eq!(seen, [Some(0)]);
}

/// The row of a file that an earlier build has written, which says nothing of where its reader begins.
async fn forget_since(
    store: &Memory,
    table: Table,
    key: &'static [u8],
    rewrite: fn(Value) -> Vec<u8>,
    read: fn(&[u8]) -> Value,
) {
    let key = Bytes::from_static(key);
    let row = store.reader(PartitionId(0)).get(table, std::slice::from_ref(&key)).await.unwrap().remove(0).unwrap();
    let mut row = read(&row);
    row.as_object_mut().unwrap().remove("since");
    let value = rewrite(row).into();
    let mut partition = store.claim(PartitionId(0)).await.unwrap().partition;
    partition.commit(vec![Op::Put { table, key, value }]).await.unwrap();
}

const BEGINS: Start = Start::At(Timestamp::from_secs(1 << 33));

#[test]
fn a_handler_of_an_earlier_builds_file_begins_where_its_options_say_from_then_on() {
    let (store, probe) = (Memory::new(), Probe::<Order>::new());
    for (is_dated, start) in [(false, BEGINS), (true, BEGINS), (false, Start::Earliest)] {
        let (rows, probe) = (store.clone(), &probe);
        testing::run(on(&store), async move |kit: TestKit| {
            if is_dated {
                let write = |row| serde_json::to_vec(&row).unwrap();
                forget_since(&rows, tables::SUBSCRIPTION, b"orders", write, |row| serde_json::from_slice(row).unwrap())
                    .await;
            }
            kit.on("order", probe.handler().named("orders").starting_at(start))?;
            kit.emit(Order { coupon: None })?.await?;
            kit.settle().await;
            Ok(())
        });
    }
    assert_eq!(probe.received(), []);
}

#[test]
fn a_stage_of_an_earlier_builds_file_begins_where_its_options_say_from_then_on() {
    let (store, probe) = (Memory::new(), Probe::<Coupons>::new());
    for (is_dated, start) in [(false, BEGINS), (true, BEGINS), (false, Start::Earliest)] {
        let (rows, probe) = (store.clone(), &probe);
        testing::run(on(&store), async move |kit: TestKit| {
            if is_dated {
                let write = |row| rmp_serde::to_vec_named(&row).unwrap();
                forget_since(&rows, Table("stage"), b"coupons\0", write, |row| rmp_serde::from_slice(row).unwrap())
                    .await;
            }
            let coupons = chain().map(|order: Order| Coupons(format!("{:?}", order.coupon)));
            kit.stage("coupons", Stage::new(coupons).starting_at(start))?;
            kit.on("seen", probe.handler().named("seen"))?;
            kit.emit(Order { coupon: None })?.await?;
            kit.settle().await;
            Ok(())
        });
    }
    assert_eq!(probe.received(), []);
}

/// As those that handlers return.
#[test]
fn delayed_outputs_of_one_id_and_one_due_time_all_come_with_that_id() {
    let ids = Arc::new(Mutex::new(Vec::new()));
    testing::run(on(&Memory::new()), async |kit: TestKit| {
        let due = kit.now() + Duration::from_mins(1);
        let draft = kit.runtime().create(Draft::json("later", json!(1))).at(due);
        let given = draft.id().unwrap();
        kit.stage("twice", Stage::new(chain().map(move |_: Order| draft.clone())))?;
        let noted = Arc::clone(&ids);
        let note = move |event: Arc<Envelope>| {
            noted.lock().unwrap().push(event.id());
            async {}
        };
        kit.on("later", note.named("note"))?;
        for _ in 0..2 {
            kit.emit(Order { coupon: None })?.await?;
            kit.settle().await;
        }
        kit.advance(Duration::from_mins(2)).await;
        assert_eq!(kit.stats().events.delayed, 0, "{:?}", kit.stats().events);
        assert_eq!(*ids.lock().unwrap(), [given; 2]);
        Ok(())
    });
}

/// No commit lands that removes the row by which a stage is known.
struct Unforgettable;

impl StoreHooks for Unforgettable {
    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let is_last = |op: &Op| matches!(op, Op::Delete { table, .. } if table.0 == "stage");
        if batch.iter().any(is_last) { Box::pin(std::future::pending()) } else { held.commit(batch) }
    }
}

#[test]
fn a_stage_whose_process_ended_while_it_was_forgotten_does_not_go_on_with_what_is_left() {
    const ORDERS: u32 = 40;
    let (store, probe) = (Memory::new(), Probe::<Question>::new());
    let stage = || {
        let counts = chain().scan((0, 0), |(order, count), step: Step| {
            *order = step.order;
            *count += 1;
        });
        Stage::keyed(|step: &Step| step.order, counts.map(|(order, asked)| Question { order, asked }))
    };
    let ask = async |kit: &TestKit| {
        for order in 0..ORDERS {
            kit.emit(Step { order, is_answer: false }).unwrap();
        }
        kit.settle().await;
    };
    testing::run(on(&store), async |kit: TestKit| {
        kit.stage("counts", stage())?;
        ask(&kit).await;
        ask(&kit).await;
        Ok(())
    });
    testing::run(on(&HookedStore::new(store.clone(), Unforgettable)), async |kit: TestKit| {
        kit.runtime().forget("counts");
        assert!(tokio::time::timeout(Duration::from_secs(1), kit.runtime().process()).await.is_err());
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.stage("counts", stage())?;
        kit.on("question", probe.handler().named("questions"))?;
        ask(&kit).await;
        let why = kit.stages()[0].parked.clone();
        assert!(why.as_ref().is_some_and(|why| why.contains("forget")), "{why:?} {:?}", probe.received());
        kit.runtime().forget("counts");
        kit.settle().await;
        ask(&kit).await;
        let asked: Vec<_> = probe.received().iter().map(|question| question.asked).collect();
        assert_eq!(asked, [vec![1; ORDERS as usize], vec![2; ORDERS as usize]].concat(), "from where it was given on");
        Ok(())
    });
}
