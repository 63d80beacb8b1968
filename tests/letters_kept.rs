//! No dead letter is lost, whatever becomes of the batch that it is in.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use millstream::{
    Context, DeadLetterFilter, Draft, Handler, HandlerError, Json, Replay, Runtime,
    store::{CommitError, Committed, Memory, Op, StoreFuture, tables},
    testing::{self, HeldPartition, HookedStore, StoreHooks, TestKit},
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
fn outcomes_that_are_too_late_begin_again_and_are_all_there_however_large_their_events() {
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
        assert_eq!((dead, handled, kit.stats().deliveries.handled), (0, true, STALE + 2));
        let stats = kit.stats();
        assert!(stats.deliveries.conflicts >= STALE - 1);
        assert_eq!((stats.events.emitted, stats.events.dropped.unsaved), (2 * (STALE + 2), 0), "nothing was lost");
        assert!(kit.health().findings.is_empty(), "{:?}", kit.health());
        Ok(())
    });
}

#[test]
fn outcomes_whose_version_is_taken_are_all_dead_letters_however_large_their_events() {
    testing::run(Runtime::builder().store(Memory::new()), async |kit: TestKit| {
        let handler = |_: Json| async { Draft::json("done", json!(1)).aggregate("order", "7", 1) };
        kit.on("number", handler.named("one").concurrency(1_000))?;
        for id in 0..STALE {
            kit.emit(large(id))?.await?;
        }
        kit.settle().await;
        let dead = kit.dead_letters(&DeadLetterFilter::all()).len();
        assert_eq!((dead, kit.stats().deliveries.handled), (usize::try_from(STALE - 1)?, 1));
        Ok(())
    });
}

/// Loses so many of the commits with which dead letters go.
struct Loses(AtomicUsize);

impl StoreHooks for Loses {
    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let removes = batch.iter().any(|op| matches!(op, Op::Delete { table, .. } if *table == tables::DEAD));
        if !removes || self.0.load(Relaxed) == 0 {
            return held.commit(batch);
        }
        self.0.fetch_sub(1, Relaxed);
        held.lose();
        Box::pin(async { Err(CommitError::unknown(std::io::Error::other("it is lost"))) })
    }
}

/// The numbers in the events of the dead letters, and how many letters were dropped.
fn letters(kit: &TestKit) -> (Vec<u64>, u64) {
    let letters = kit.dead_letters(&DeadLetterFilter::all());
    (
        letters.iter().map(|letter| letter.event.data().to_json().unwrap().as_u64().unwrap()).collect(),
        kit.stats().dead_letters_dropped,
    )
}

#[test]
fn letters_whose_replay_is_lost_while_others_took_their_places_are_there_again_and_none_is_counted_twice() {
    let store = HookedStore::new(Memory::new(), Loses(AtomicUsize::new(0)));
    testing::run(Runtime::builder().store(store.clone()).dead_letter_size(2), async |kit: TestKit| {
        let runtime = kit.runtime().clone();
        let handler = move |Json(event): Json| {
            let is_third = event == 3;
            let replayed = if is_third { runtime.replay(&Replay::all()).replayed } else { 0 };
            async move { Err::<(), _>(HandlerError::permanent(format!("{replayed} are replayed"))) }
        };
        kit.on("number", handler.named("die"))?;
        for (ids, found) in [(1..=2, (vec![1, 2], 0)), (3..=4, (vec![1, 2, 3, 4], 0)), (5..=5, (vec![2, 3, 4, 5], 1))] {
            for id in ids {
                kit.emit(Draft::json("number", json!(id)))?.await?;
            }
            kit.settle().await;
            assert_eq!(letters(&kit), found);
            store.hooks().0.store(1, Relaxed);
        }
        Ok(())
    });
}
