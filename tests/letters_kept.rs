//! No dead letter is lost, whatever becomes of the batch that it is in.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::time::Duration;

use millstream::{
    Context, DeadLetterFilter, Draft, Handler, HandlerError, Json, Runtime,
    store::Memory,
    testing::{self, TestKit},
};
use serde_json::json;
use tokio::sync::watch;

/// An event of 1 MB.
fn large(id: u64) -> Draft {
    Draft::json("number", json!({"id": id, "text": "x".repeat(1_000_000)}))
}

/// Drives for a while in which no retry is due.
async fn drive(kit: &TestKit) {
    drop(tokio::time::timeout(Duration::from_secs(1), kit.runtime().process()).await);
}

/// How many handlers have read what another one writes.
const STALE: u64 = 80;

#[test]
fn outcomes_that_are_too_late_are_all_dead_letters_however_large_their_events() {
    let gate = watch::Sender::new(false);
    testing::run(Runtime::builder().store(Memory::new()), async |kit: TestKit| {
        let opened = gate.subscribe();
        let handler = move |Json(event): Json, context: Context| {
            let mut opened = opened.clone();
            async move {
                let (id, storage) = (event["id"].as_u64().unwrap(), context.storage("n"));
                // Whoever reads nothing is never too late.
                let row = if id < STALE { "read" } else { "written" };
                if id < STALE {
                    storage.get(row).await?;
                }
                opened.wait_for(|is_open| *is_open).await.unwrap();
                storage.put(row, id.to_string()).await?;
                Ok::<_, HandlerError>(Draft::json("done", json!(id)).idempotency_key(id.to_string()))
            }
        };
        kit.on("number", handler.named("one").concurrency(1_000))?;
        for id in 0..STALE + 2 {
            kit.emit(large(id))?.await?;
        }
        drive(&kit).await;
        gate.send_replace(true);
        kit.settle().await;
        let dead = kit.dead_letters(&DeadLetterFilter::all()).len();
        let handled = kit.storage("n").get("read").await?.is_some();
        assert_eq!((dead, handled), (usize::try_from(STALE - 1)?, true));
        Ok(())
    });
}
