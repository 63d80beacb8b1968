//! No commit of a durable runtime is larger than the store takes, however much comes together, and what can never be written is refused
//! at the door.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use millstream::{
    DeadLetterFilter, Draft, ExpectedVersion, Handler, HandlerError, Json, Refusal, Retry, Runtime,
    store::{CommitError, Committed, MAX_BATCH_BYTES, Memory, Op, PartitionId, Store, StoreFuture, tables},
    testing::{self, HeldPartition, HookedStore, StoreHooks, TestKit},
};
use serde_json::json;
use tokio::sync::watch;

/// Keeps an outcome that the store may refuse waiting until it is open, and knows the largest batch that the store was given.
struct Gate {
    open: watch::Sender<bool>,
    largest: AtomicUsize,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Gate {
    fn store() -> HookedStore<Self> {
        let open = watch::Sender::new(true);
        HookedStore::new(Memory::new(), Self { open, largest: AtomicUsize::new(0), refused: Arc::default() })
    }

    fn note(&self, batch: &[Op]) {
        let size = |op: &Op| match op {
            Op::Append { records, .. } => records.iter().map(|record| record.bytes.len()).sum(),
            Op::Put { value, .. } | Op::PutNew { value, .. } => value.len(),
            _ => 0,
        };
        self.largest.fetch_max(batch.iter().map(size).sum(), Ordering::Relaxed);
    }

    fn largest(&self) -> usize {
        self.largest.load(Ordering::Relaxed)
    }

    fn refused(&self) -> Vec<String> {
        self.refused.lock().unwrap().clone()
    }
}

impl StoreHooks for Gate {
    fn append(
        &self,
        store: &Arc<dyn Store>,
        partition: PartitionId,
        batch: Vec<Op>,
    ) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.note(&batch);
        store.append(partition, batch)
    }

    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.note(&batch);
        let waits = batch.iter().any(|op| matches!(op, Op::PutNew { table: tables::ONCE, .. }));
        let (committed, mut open) = (held.commit(batch), self.open.subscribe());
        let refused = Arc::clone(&self.refused);
        Box::pin(async move {
            if waits {
                drop(open.wait_for(|open| *open).await);
            }
            committed.await.inspect_err(|error| refused.lock().unwrap().push(error.to_string()))
        })
    }
}

/// An event of 900 KB.
fn large(name: &'static str, id: u64) -> Draft {
    Draft::json(name, json!({"id": id, "text": "x".repeat(900_000)}))
}

type Seen = Arc<Mutex<Vec<u64>>>;

fn keep(name: &'static str, seen: &Seen) -> impl Handler<(Json,)> + use<> {
    let seen = Arc::clone(seen);
    let handler = move |Json(event): Json| {
        let seen = Arc::clone(&seen);
        async move { seen.lock().unwrap().push(event["id"].as_u64().unwrap()) }
    };
    handler.named(name)
}

async fn drive(kit: &TestKit) {
    drop(tokio::time::timeout(Duration::from_secs(1), kit.runtime().process()).await);
}

#[test]
fn many_large_events_that_come_at_once_are_all_written() {
    let (store, seen) = (Gate::store(), Seen::default());
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("a", keep("keep", &seen))?;
        kit.settle().await;
        for receipt in kit.emit_all((0..80).map(|id| large("a", id)))? {
            receipt.await?;
        }
        kit.settle().await;
        Ok(())
    });
    assert_eq!(*seen.lock().unwrap(), (0..80).collect::<Vec<_>>());
    assert!(store.hooks().largest() <= MAX_BATCH_BYTES / 2, "{}", store.hooks().largest());
}

#[test]
fn many_large_events_that_are_due_at_once_all_come() {
    let (store, seen) = (Gate::store(), Seen::default());
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("a", keep("keep", &seen))?;
        for id in 0..80 {
            kit.emit(large("a", id).delay(Duration::from_mins(1)))?.await?;
        }
        kit.settle().await;
        kit.advance(Duration::from_secs(61)).await;
        kit.settle().await;
        kit.assert_balanced();
        Ok(())
    });
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, (0..80).collect::<Vec<_>>());
    assert!(
        store.hooks().largest() <= MAX_BATCH_BYTES / 2 && store.hooks().refused().is_empty(),
        "{}",
        store.hooks().largest()
    );
}

#[test]
fn what_fails_while_an_outcome_is_tried_waits_until_it_can_be_written() {
    let (store, again) = (Gate::store(), Seen::default());
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        let once = |_: Json| async { Draft::json("b", json!({"id": 0})).idempotency_key("k") };
        kit.on("once", once.named("once"))?;
        for name in ["one", "two", "three"] {
            let fail = |_: Json| async { Err::<(), _>(HandlerError::transient("closed")) };
            kit.on("a", fail.named(name).retry(Retry::fixed(Duration::from_hours(1)).attempts(9)))?;
            let die = |_: Json| async { Err::<(), _>(HandlerError::permanent("no")) };
            kit.on("a", die.named(format!("dead {name}")))?;
        }
        drive(&kit).await;
        store.hooks().open.send_replace(false);
        kit.emit(Draft::json("once", json!({"id": 1})))?.await?;
        drive(&kit).await;
        for id in 0..16 {
            kit.emit(large("a", id))?.await?;
            drive(&kit).await;
        }
        store.hooks().open.send_replace(true);
        for _ in 0..20 {
            drive(&kit).await;
        }
        assert_eq!(kit.dead_letters(&DeadLetterFilter::all()).len(), 3 * 16);
        assert!(kit.health().findings.iter().all(|finding| !finding.contains("failed")), "{:?}", kit.health());
        kit.assert_balanced();
        Ok(())
    });
    assert!(
        store.hooks().largest() <= MAX_BATCH_BYTES / 2 && store.hooks().refused().is_empty(),
        "{}",
        store.hooks().largest()
    );
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        for name in ["one", "two", "three"] {
            kit.on("a", keep(name, &again))?;
        }
        kit.advance(Duration::from_hours(2)).await;
        kit.settle().await;
        assert_eq!(kit.dead_letters(&DeadLetterFilter::all()).len(), 3 * 16);
        Ok(())
    });
    let mut again = again.lock().unwrap().clone();
    again.sort_unstable();
    assert_eq!(again, (0..16).flat_map(|id| [id; 3]).collect::<Vec<_>>());
}

#[test]
fn large_events_that_die_together_are_dead_letters_in_as_many_commits_as_they_need() {
    let store = Gate::store();
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        let fail = |_: Json| async { Err::<(), _>(HandlerError::transient("closed")) };
        kit.on("a", fail.named("fail").retry(Retry::fixed(Duration::from_hours(1)).attempts(2)))?;
        for id in 0..80 {
            kit.emit(large("a", id))?.await?;
        }
        drive(&kit).await;
        kit.advance(Duration::from_hours(2)).await;
        kit.settle().await;
        assert_eq!(kit.dead_letters(&DeadLetterFilter::all()).len(), 80);
        Ok(())
    });
    assert!(
        store.hooks().largest() <= MAX_BATCH_BYTES / 2 && store.hooks().refused().is_empty(),
        "{}",
        store.hooks().largest()
    );
}

#[test]
fn large_events_that_are_stopped_as_a_loop_are_more_than_an_attempt_may_write() {
    let store = Gate::store();
    testing::run(Runtime::builder().store(store.clone()).max_event_depth(1), async |kit: TestKit| {
        let fan_out = |_: Json| async { (0..75).map(|id| large("b", id)).collect::<Vec<_>>() };
        kit.on("b", fan_out.named("fan out").max_outputs(100))?;
        let begin = |_: Json| async { Draft::json("b", json!({"id": 0})) };
        kit.on("a", begin.named("begin"))?;
        kit.emit(Draft::json("a", json!(1)))?.await?;
        kit.settle().await;
        let letters = kit.dead_letters(&DeadLetterFilter::all());
        assert_eq!(letters.len(), 1, "the delivery is given up, not done again for ever");
        assert!(letters[0].reason().contains("may write"), "{}", letters[0].reason());
        Ok(())
    });
    assert!(store.hooks().refused().is_empty());
}

#[test]
fn a_key_keeps_its_order_over_a_restart_where_there_was_no_room_to_write_who_waits() {
    let (store, seen) = (Gate::store(), Seen::default());
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        let once = |_: Json| async { Draft::json("b", json!({"id": 0})).idempotency_key("k") };
        kit.on("once", once.named("once"))?;
        let fail = |_: Json| async { Err::<(), _>(HandlerError::transient("closed")) };
        kit.on("a", fail.named("fill").retry(Retry::fixed(Duration::from_hours(9)).attempts(9)))?;
        let may_fail = Arc::new(tokio::sync::Notify::new());
        let held = Arc::clone(&may_fail);
        let later = move |_: Json| {
            let held = Arc::clone(&held);
            async move {
                held.notified().await;
                Err::<(), _>(HandlerError::transient("closed"))
            }
        };
        let later = later.named("ordered").ordered_by_key().retry(Retry::fixed(Duration::from_hours(1)).attempts(9));
        kit.on("k", later.timeout(Duration::from_hours(1)))?;
        drive(&kit).await;
        for id in [1, 2] {
            kit.emit(large("k", id).key("k"))?.await?;
        }
        drive(&kit).await;
        store.hooks().open.send_replace(false);
        kit.emit(Draft::json("once", json!({"id": 1})))?.await?;
        drive(&kit).await;
        for id in 0..18 {
            kit.emit(large("a", id))?.await?;
            drive(&kit).await;
        }
        may_fail.notify_one();
        drive(&kit).await;
        store.hooks().open.send_replace(true);
        drive(&kit).await;
        kit.emit(large("k", 3).key("k"))?.await?;
        drive(&kit).await;
        Ok(())
    });
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("k", keep("ordered", &seen).ordered_by_key())?;
        kit.advance(Duration::from_hours(2)).await;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
}

/// Emits so many large events, one after the other.
async fn emit_large(kit: &TestKit, count: u64) -> testing::Outcome {
    for id in 0..count {
        kit.emit(large("a", id))?.await?;
    }
    Ok(())
}

#[test]
fn many_large_events_whose_time_is_up_at_once_are_all_given_up() {
    let store = Gate::store();
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        let hang = (|_: Json| std::future::pending::<()>()).named("hang").timeout(Duration::from_mins(1));
        kit.on("a", hang.concurrency(100))?;
        emit_large(&kit, 90).await?;
        kit.settle().await;
        assert_eq!(kit.stats().deliveries.dead, 90);
        kit.assert_balanced();
        Ok(())
    });
    assert!(store.hooks().refused().is_empty(), "{:?}", store.hooks().refused());
}

#[test]
fn a_name_with_more_letters_than_a_commit_takes_changes_without_a_loss() {
    let store = Gate::store();
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        let die = |_: Json| async { Err::<(), _>(HandlerError::permanent("never")) };
        kit.on("a", die.named("old"))?;
        emit_large(&kit, 130).await?;
        kit.settle().await;
        Ok(())
    });
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("a", keep("new", &Seen::default()).was("old"))?;
        kit.settle().await;
        assert_eq!(kit.dead_letters(&DeadLetterFilter::all().subscription("new")).len(), 130);
        Ok(())
    });
    let hooks = store.hooks();
    assert!(hooks.refused().is_empty() && hooks.largest() <= MAX_BATCH_BYTES / 2, "{:?}", hooks.refused());
}

#[test]
fn what_no_commit_has_room_for_is_refused_at_the_door() {
    testing::run(Runtime::builder().store(Memory::new()).max_event_size(1 << 30), async |kit: TestKit| {
        let huge = |bytes: usize| Draft::json("a", json!("x".repeat(bytes)));
        let refused = kit.emit(huge(MAX_BATCH_BYTES / 4)).unwrap_err();
        let Refusal::TooLargeToStore { bytes, limit, .. } = refused.reason else { panic!("{}", refused.reason) };
        assert!(limit == MAX_BATCH_BYTES / 4 && bytes > limit);
        assert!(refused.reason.to_string().contains(&limit.to_string()));
        kit.emit(huge(MAX_BATCH_BYTES / 5))?.await?;
        let part = || huge(MAX_BATCH_BYTES / 10);
        let aggregate = kit.aggregate("a", "1");
        aggregate.append(ExpectedVersion::New, [part(), part(), part()]).await?;
        let error = aggregate.append(ExpectedVersion::Any, [part(), part(), part(), part()]).await.unwrap_err();
        assert!(error.to_string().contains(&(MAX_BATCH_BYTES / 4 * 3).to_string()), "{error}");
        Ok(())
    });
}
