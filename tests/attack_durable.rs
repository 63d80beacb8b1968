//! What was found by attacking a durable runtime: each test fails without the mend that came with it.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use millstream::{
    Builder, Context, DeadLetterFilter, Draft, Handler, HandlerError, Json, Replay, Retention, Retry, Runtime, Start,
    store::{Memory, Redb},
    testing::{self, TestKit},
};
use redb::backends::InMemoryBackend;
use serde_json::json;

type Seen = Arc<Mutex<Vec<u64>>>;

fn on(store: &Memory) -> Builder {
    Runtime::builder().store(store.clone())
}

fn number(id: u64) -> Draft {
    Draft::json("number", json!(id))
}

fn id_of(event: &serde_json::Value) -> u64 {
    event.as_u64().or_else(|| event["id"].as_u64()).unwrap()
}

/// Keeps what it sees.
fn keep(name: &'static str, seen: &Seen) -> impl Handler<(Json,)> + use<> {
    let seen = Arc::clone(seen);
    let handler = move |Json(event): Json| {
        let seen = Arc::clone(&seen);
        async move { seen.lock().unwrap().push(id_of(&event)) }
    };
    handler.named(name)
}

/// Fails always, with the next attempt in an hour.
fn fail(name: &'static str) -> impl Handler<(Json,)> {
    (|_: Json| async { Err::<(), _>(HandlerError::transient("closed")) })
        .named(name)
        .retry(Retry::fixed(Duration::from_hours(1)).attempts(9))
}

/// Drives for a while in which no retry is due.
async fn drive(kit: &TestKit) {
    drop(tokio::time::timeout(Duration::from_secs(1), kit.runtime().process()).await);
}

fn seen(seen: &Seen) -> Vec<u64> {
    seen.lock().unwrap().clone()
}

/// Its rows fill a commit while it takes over what the tail has.
#[test]
fn who_joins_the_tail_gets_all_of_it_however_much_of_it_fails() {
    let (store, first) = (Memory::new(), Seen::default());
    let text = "x".repeat(900_000);
    testing::run(on(&store).retention(Retention::All), async |kit: TestKit| {
        kit.on("number", keep("first", &first))?;
        kit.settle().await;
        for id in 0..40 {
            kit.emit(Draft::json("number", json!({"id": id, "text": text})))?;
        }
        kit.settle().await;
        kit.on("number", fail("second").starting_at(Start::Earliest))?;
        drive(&kit).await;
        assert_eq!(kit.stats().deliveries.waiting, 40);
        Ok(())
    });
    let second = Seen::default();
    testing::run(on(&store).retention(Retention::All), async |kit: TestKit| {
        kit.on("number", keep("second", &second))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&second).len(), 40);
}
