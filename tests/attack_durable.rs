//! What was found by attacking a durable runtime: each test fails without the mend that came with it.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use millstream::{
    AppendError, Builder, Context, DeadLetterFilter, Draft, Envelope, Event, ExpectedVersion, Handler, HandlerError,
    Json, PersistError, Replay, Retention, Retry, Runtime, Stage, Start,
    store::{CommitError, Committed, Memory, Op, PartitionId, Redb, Store, StoreFuture},
    testing::{self, HookedStore, Probe, StoreHooks, TestKit},
};
use redb::backends::InMemoryBackend;
use serde::{Deserialize, Serialize};
use serde_json::json;

type Seen = Arc<Mutex<Vec<u64>>>;

/// Keeps from whoever appends what has become of it, until it is open.
struct Gate(tokio::sync::watch::Sender<bool>);

impl Gate {
    fn store() -> HookedStore<Self> {
        HookedStore::new(Memory::new(), Self(tokio::sync::watch::Sender::new(true)))
    }

    fn open(&self) {
        self.0.send_replace(true);
    }

    fn close(&self) {
        self.0.send_replace(false);
    }
}

impl StoreHooks for Gate {
    fn append(
        &self,
        store: &Arc<dyn Store>,
        partition: PartitionId,
        batch: Vec<Op>,
    ) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let (landed, mut open) = (store.append(partition, batch), self.0.subscribe());
        Box::pin(async move {
            drop(open.wait_for(|open| *open).await);
            landed.await
        })
    }
}

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

#[test]
fn a_name_that_subscribed_and_was_never_opened_gets_what_came_after_whoever_runs_meanwhile() {
    let (store, late) = (Memory::new(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("late", &Seen::default()))?;
        kit.emit(number(7))?.await?;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("other", &Seen::default()))?;
        for id in 0..3_000 {
            kit.emit(number(id))?;
            if id % 500 == 0 {
                kit.settle().await;
            }
        }
        kit.settle().await;
        assert!(kit.health().findings.iter().any(|finding| finding.contains("`late`")), "{:?}", kit.health());
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("late", &late))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!((seen(&late).len(), seen(&late)[0]), (3_001, 7));
}

#[test]
fn what_is_forgotten_before_anybody_drove_is_forgotten() {
    let (store, late) = (Memory::new(), Seen::default());
    testing::run(on(&store).retention(Retention::All), async |kit: TestKit| {
        kit.on("number", keep("gone", &Seen::default()))?;
        kit.emit(number(1))?;
        kit.settle().await;
        Ok(())
    });
    testing::run(on(&store).retention(Retention::All), async |kit: TestKit| {
        kit.forget("gone");
        kit.settle().await;
        assert_eq!(kit.health().findings, [""; 0]);
        kit.on("number", keep("gone", &late))?;
        kit.emit(number(2))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&late), [2], "a name that was forgotten begins at the end");
}

#[test]
fn what_waited_for_a_forgotten_name_reaches_nobody_else() {
    let (store, other) = (Memory::new(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", fail("gone"))?;
        kit.emit(number(1))?;
        drive(&kit).await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.settle().await;
        kit.forget("gone");
        kit.settle().await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("other", &other))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&other), [0; 0]);
}

#[test]
fn a_name_that_is_taken_over_while_its_handler_runs_loses_nothing() {
    let (store, new) = (Memory::new(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        let stuck = kit.on("number", (|_: Json| pending::<()>()).named("old").concurrency(1))?;
        for id in 0..3 {
            kit.emit(number(id))?;
        }
        drive(&kit).await;
        kit.off(stuck);
        kit.on("number", keep("new", &new).was("old"))?;
        drive(&kit).await;
        kit.emit(number(3))?;
        drive(&kit).await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("new", &new).was("old"))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&new), [0, 1, 2, 3]);
}

#[test]
fn a_handler_that_is_replaced_does_not_do_again_what_the_one_before_did() {
    let (store, all) = (Memory::new(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        let failing = {
            let all = Arc::clone(&all);
            move |Json(event): Json, context: Context| {
                let all = Arc::clone(&all);
                async move {
                    if context.attempt() == 1 {
                        return Err(HandlerError::transient("closed"));
                    }
                    all.lock().unwrap().push(id_of(&event));
                    Ok(())
                }
            }
        };
        let first = kit.on("number", failing.named("one").retry(Retry::fixed(Duration::from_mins(1))))?;
        kit.emit(number(1))?;
        drive(&kit).await;
        kit.off(first);
        kit.on("number", keep("one", &all))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&all), [1]);
}

#[test]
fn letters_follow_a_name_that_changes() {
    let (store, new) = (Memory::new(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        let dies = (|_: Json| async { Err::<(), _>(HandlerError::permanent("no")) }).named("old").ordered_by_key();
        kit.on("number", dies.halt_key_on_dead())?;
        for id in 1..=2 {
            kit.emit(number(id).key("k"))?;
        }
        kit.settle().await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("new", &new).was("old").ordered_by_key().halt_key_on_dead())?;
        kit.settle().await;
        assert_eq!(seen(&new), [0; 0], "the key is still halted");
        let letters = kit.dead_letters(&DeadLetterFilter::all());
        assert_eq!(letters[0].subscription.as_deref(), Some("new"));
        assert_eq!(kit.replay(&Replay::all()).replayed, 1);
        kit.settle().await;
        assert_eq!(seen(&new), [1, 2]);
        Ok(())
    });
}

#[test]
fn a_letter_that_never_had_its_key_lets_no_halted_key_go_on() {
    let (store, all) = (Memory::new(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        let handler = {
            let all = Arc::clone(&all);
            move |Json(event): Json| {
                let all = Arc::clone(&all);
                async move {
                    if id_of(&event) == 1 {
                        return Err(HandlerError::permanent("no"));
                    }
                    all.lock().unwrap().push(id_of(&event));
                    Ok(())
                }
            }
        };
        let filter = |event: &Envelope| {
            assert!(event.header("odd").is_none(), "an odd one");
            true
        };
        kit.on("number", handler.named("one").ordered_by_key().halt_key_on_dead().filter(filter))?;
        kit.emit(number(1).key("k"))?;
        kit.emit(number(2).key("k"))?;
        kit.emit(number(3).key("k").header("odd", "yes"))?;
        kit.settle().await;
        let letters = kit.dead_letters(&DeadLetterFilter::all());
        assert_eq!(letters.len(), 2);
        kit.purge(&DeadLetterFilter::all().numbers([letters[1].number]));
        kit.settle().await;
        assert_eq!(seen(&all), [0; 0]);
        Ok(())
    });
}

#[test]
fn a_delayed_event_that_waited_for_room_gives_all_of_it_back() {
    let store = Gate::store();
    let gate = store.hooks();
    testing::run(Runtime::builder().store(store.clone()).queue_size(1), async |kit: TestKit| {
        kit.on("number", keep("one", &Seen::default()))?;
        gate.close();
        let first = kit.emit(number(1))?;
        let mut late = Box::pin(kit.runtime().emit_wait(number(2).delay(Duration::from_secs(5))));
        assert!(futures::poll!(&mut late).is_pending(), "there is room for one");
        gate.open();
        late.await?.await?;
        first.await?;
        kit.advance(Duration::from_mins(1)).await;
        assert_eq!((kit.stats().held, kit.stats().deliveries.handled), (0, 2));
        Ok(())
    });
}

#[test]
fn a_delayed_event_that_a_shutdown_finds_before_the_store_has_it_is_handed_back() {
    let store = Gate::store();
    let gate = store.hooks();
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        gate.close();
        let first = kit.emit(number(1))?;
        let late = kit.emit(number(2).delay(Duration::from_secs(5)))?;
        let report = kit.shutdown(Duration::ZERO).await?;
        assert_eq!(report.parked.len(), 1);
        assert!(matches!(late.await, Err(PersistError::Refused { .. })));
        gate.open();
        first.await?;
        assert_eq!((kit.stats().held, kit.stats().events.parked), (0, 1));
        Ok(())
    });
}

#[test]
fn a_loop_letter_that_was_replayed_does_not_come_back() {
    let store = Memory::new();
    testing::run(on(&store).max_event_depth(1), async |kit: TestKit| {
        kit.on("number", (|_: Json| async { number(1) }).named("loop"))?;
        kit.emit(number(1))?;
        kit.settle().await;
        let letters = kit.dead_letters(&DeadLetterFilter::all());
        assert_eq!(letters.len(), 1);
        Ok(())
    });
    testing::run(on(&store).max_event_depth(1), async |kit: TestKit| {
        kit.settle().await;
        assert_eq!(kit.replay(&Replay::all()).replayed, 1);
        kit.settle().await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.settle().await;
        assert_eq!(kit.dead_letters(&DeadLetterFilter::all()).len(), 0);
        Ok(())
    });
}

#[test]
fn two_of_a_key_are_never_handled_at_once_after_a_restart_however_they_came_to_wait() {
    let store = Memory::new();
    let (most, all) = (Arc::new(Mutex::new((0, 0))), Seen::default());
    let handler = |fails: bool| {
        let (most, all) = (Arc::clone(&most), Arc::clone(&all));
        let handler = move |Json(event): Json| {
            let (most, all) = (Arc::clone(&most), Arc::clone(&all));
            async move {
                match (id_of(&event), fails) {
                    (1, true) => return Err(HandlerError::permanent("no")),
                    (2, true) => return Err(HandlerError::transient("closed")),
                    _ => {}
                }
                {
                    let mut most = most.lock().unwrap();
                    most.0 += 1;
                    most.1 = most.1.max(most.0);
                }
                tokio::time::sleep(Duration::from_secs(5)).await;
                most.lock().unwrap().0 -= 1;
                all.lock().unwrap().push(id_of(&event));
                Ok(())
            }
        };
        handler.named("one").ordered_by_key().concurrency(8).retry(Retry::fixed(Duration::from_mins(10)).attempts(9))
    };
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", handler(true))?;
        kit.emit(number(1).key("k"))?;
        kit.settle().await;
        for id in 2..=3 {
            kit.emit(number(id).key("k"))?;
        }
        drive(&kit).await;
        // Due in ten minutes, as the retry is.
        kit.replay(&Replay::all());
        drive(&kit).await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        tokio::time::sleep(Duration::from_mins(20)).await;
        kit.on("number", handler(false))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(most.lock().unwrap().1, 1);
    let mut order = seen(&all);
    order.retain(|id| *id > 1);
    assert_eq!((order, seen(&all).len()), (vec![2, 3], 3));
}

#[tokio::test]
async fn whoever_awaits_a_receipt_learns_of_the_end_of_the_runtime() {
    let store = Redb::builder().open_on(InMemoryBackend::new()).unwrap();
    for _ in 0..50 {
        let runtime = Runtime::builder().store(store.clone()).build().unwrap();
        let receipts: Vec<_> = (0..20).map(|id| runtime.emit(number(id)).unwrap()).collect();
        drop(runtime);
        for receipt in receipts {
            drop(tokio::time::timeout(Duration::from_secs(5), receipt.into_future()).await.expect("he is told"));
        }
    }
}

#[tokio::test]
async fn a_runtime_that_is_dropped_gives_its_file_back_with_all_that_was_emitted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.redb");
    for round in 0..20 {
        let runtime = Runtime::builder().store(Redb::open(&path).unwrap()).retention(Retention::All).build().unwrap();
        let seen = Seen::default();
        runtime.on("number", keep("one", &seen).starting_at(Start::Earliest)).unwrap();
        if round % 2 == 0 {
            runtime.process().await.unwrap();
        }
        for id in 0..100 {
            runtime.emit(number(id)).unwrap();
        }
    }
    let runtime = Runtime::builder().store(Redb::open(&path).unwrap()).build().unwrap();
    let mut all = runtime.history("number").unwrap().events();
    let mut count = 0;
    while futures::StreamExt::next(&mut all).await.is_some() {
        count += 1;
    }
    // What is handed over together lands together; what waited behind it was never in the store.
    assert!(count >= 20, "{count}");
}

#[test]
fn what_is_replayed_or_purged_while_the_store_is_lost_is_neither_lost_nor_done_twice() {
    let (store, all) = (Memory::new(), Seen::default());
    let dies = || (|_: Json| async { Err::<(), _>(HandlerError::permanent("no")) }).named("one");
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", dies())?;
        for id in 0..4 {
            kit.emit(number(id))?;
        }
        kit.settle().await;
        // Another has claimed the partition: the next commit fails.
        drop(store.claim(PartitionId(0)).await?);
        let letters = kit.dead_letters(&DeadLetterFilter::all());
        kit.emit(number(4))?;
        let other = kit.runtime().clone();
        let mut driving = Box::pin(async move { other.process().await.map(drop) });
        assert!(futures::poll!(&mut driving).is_pending() || kit.health().findings.is_empty());
        assert_eq!(kit.replay(&Replay::of(DeadLetterFilter::all().numbers([letters[0].number]))).replayed, 1);
        kit.purge(&DeadLetterFilter::all().numbers([letters[1].number]));
        drop(driving);
        kit.settle().await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("one", &all))?;
        kit.settle().await;
        kit.replay(&Replay::all());
        kit.settle().await;
        Ok(())
    });
    let mut all = seen(&all);
    all.sort_unstable();
    assert_eq!(all, [0, 2, 3, 4]);
}

#[test]
fn a_subscription_to_a_backlog_is_served_by_whoever_drives_already() {
    let all = Seen::default();
    testing::run(on(&Memory::new()).retention(Retention::All), async |kit: TestKit| {
        kit.emit(number(1))?.await?;
        let runtime = kit.runtime().clone();
        let mut running = tokio::task::JoinSet::new();
        running.spawn(async move { runtime.run().await.map(drop) });
        tokio::time::sleep(Duration::from_secs(5)).await;
        kit.on("number", keep("one", &all).starting_at(Start::Earliest))?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(seen(&all), [1]);
        kit.shutdown(Duration::from_secs(1)).await?;
        for ended in running.join_all().await {
            ended?;
        }
        Ok(())
    });
}

#[test]
fn a_parked_key_that_is_to_go_on_before_anybody_drove_goes_on() {
    let (store, panics) = (Memory::new(), Arc::new(Mutex::new(true)));
    let stage = || {
        let panics = Arc::clone(&panics);
        let ids = millstream::chain().map(|event: Arc<Envelope>| id_of(&event.data().to_json().unwrap()));
        let late = ids.debounce(Duration::from_secs(5)).map(move |id| {
            assert!(!*panics.lock().unwrap(), "it panics");
            Draft::json("late", json!(id))
        });
        Stage::keyed(|event: &Arc<Envelope>| event.key().unwrap().clone(), late).pattern("number")
    };
    testing::run(on(&store), async |kit: TestKit| {
        kit.stage("late", stage())?;
        kit.emit(number(1).key("k"))?;
        kit.settle().await;
        kit.advance(Duration::from_mins(1)).await;
        assert_eq!(kit.stages()[0].parked_keys, 1);
        Ok(())
    });
    *panics.lock().unwrap() = false;
    testing::run(on(&store), async |kit: TestKit| {
        kit.stage("late", stage())?;
        kit.unpark("late", None, &"k".into());
        kit.settle().await;
        assert_eq!((kit.stages()[0].parked_keys, kit.stages()[0].counts.emitted), (0, 1));
        Ok(())
    });
}

#[test]
fn a_subscription_that_had_all_it_can_have_in_hand_goes_on_after_a_crash() {
    let (store, all) = (Memory::new(), Seen::default());
    testing::run(on(&store).queue_size(10_000), async |kit: TestKit| {
        let slow = |_: Json| async { tokio::time::sleep(Duration::from_secs(1)).await };
        kit.on("number", slow.named("one").concurrency(1))?;
        for id in 0..3_000 {
            kit.emit(number(id))?;
        }
        drop(tokio::time::timeout(Duration::from_millis(10_500), kit.runtime().process()).await);
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("one", &all))?;
        let done = tokio::time::timeout(Duration::from_mins(1), kit.runtime().process()).await;
        assert!(done.is_ok(), "it goes on: {:?}", kit.stats().deliveries);
        Ok(())
    });
    assert_eq!(seen(&all), (10..3_000).collect::<Vec<_>>());
}

#[test]
fn a_halted_key_waits_for_whoever_has_its_name_next() {
    testing::run(Runtime::builder().store(Memory::new()), async |kit| {
        let first = Probe::<Json>::new().fails(1);
        let id = kit.on("a", first.handler().named("s").ordered_by_key().halt_key_on_dead())?;
        for number in 1..=3 {
            kit.emit(Draft::json("a", json!(number)).key("k"))?;
        }
        kit.settle().await;
        kit.off(id);
        let second = Probe::<Json>::new();
        kit.on("a", second.handler().named("s").ordered_by_key().halt_key_on_dead())?;
        kit.settle().await;
        kit.emit(Draft::json("a", json!(4)).key("other"))?;
        kit.settle().await;
        assert_eq!((first.attempts(), second.received()), (1, vec![Json(json!(4))]));
        kit.replay(&Replay::all());
        kit.settle().await;
        assert_eq!(second.received(), [4, 1, 2, 3].map(|number| Json(json!(number))));
        Ok(())
    });
}

#[test]
fn no_tenant_has_the_idempotency_key_of_another() {
    testing::run(on(&Memory::new()), async |kit: TestKit| {
        let pairs = [(None, "\0k"), (Some(""), "\0k"), (Some("a"), "b\0k"), (Some("a\0b"), "k"), (None, "a\0b\0k")];
        for (tenant, key) in pairs {
            let draft = number(1).idempotency_key(key);
            let receipt = kit.emit(tenant.into_iter().fold(draft, Draft::tenant))?;
            assert_eq!(receipt.clone().await?, receipt.id(), "{tenant:?} {key:?}");
        }
        Ok(())
    });
}

#[test]
fn an_aggregate_at_the_last_version_has_no_next_one() {
    testing::run(on(&Memory::new()), async |kit: TestKit| {
        kit.emit(number(1).aggregate("order", "7", u64::MAX))?.await?;
        let order = kit.aggregate("order", "7");
        assert!(matches!(order.append(ExpectedVersion::Any, [number(2)]).await, Err(AppendError::Unsaved { .. })));
        kit.emit(number(1).aggregate("order", "8", u64::MAX - 2))?.await?;
        let order = kit.aggregate("order", "8");
        assert_eq!(order.append(ExpectedVersion::Any, [number(2), number(3)]).await?.version, u64::MAX);
        Ok(())
    });
}

#[test]
fn an_error_of_any_length_is_written() {
    let store = Memory::new();
    testing::run(on(&store), async |kit: TestKit| {
        let fails = |_: Json| async { Err::<(), _>(HandlerError::transient("ä".repeat(40 << 20))) };
        kit.on("number", fails.named("one").retry(Retry::fixed(Duration::from_secs(1)).attempts(3)))?;
        kit.emit(number(1))?;
        assert_eq!(kit.settle().await.dead, 1);
        assert!(kit.dead_letters(&DeadLetterFilter::all())[0].reason().len() < 10_000);
        Ok(())
    });
}

static IS_MUTE: AtomicBool = AtomicBool::new(false);

/// An event that cannot be written any more once it is mute.
#[derive(Clone, Debug, Deserialize)]
struct Mute(u64);

impl Event for Mute {
    const NAME: &'static str = "mute";
}

impl Serialize for Mute {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if IS_MUTE.load(Ordering::Relaxed) {
            return Err(serde::ser::Error::custom("it is mute"));
        }
        self.0.serialize(serializer)
    }
}

#[test]
fn an_event_that_cannot_be_written_again_is_not_written_wrong() {
    let (store, all) = (Memory::new(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        let dies = |mute: Mute| async move {
            IS_MUTE.store(true, Ordering::Relaxed);
            if mute.0 == 1 {
                Err::<(), _>(HandlerError::permanent("no"))
            } else {
                Err(HandlerError::transient("closed"))
            }
        };
        kit.on("mute", dies.named("one").retry(Retry::fixed(Duration::from_hours(1))))?;
        kit.settle().await;
        for id in 1..=2 {
            kit.emit(Mute(id))?.await?;
        }
        drive(&kit).await;
        assert_eq!(kit.dead_letters(&DeadLetterFilter::all()).len(), 1);
        Ok(())
    });
    IS_MUTE.store(false, Ordering::Relaxed);
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("mute", keep("one", &all))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&all), [1, 2]);
}

#[test]
fn thousands_that_were_due_at_one_time_while_nobody_ran_come_once_each() {
    let (store, all) = (Memory::new(), Seen::default());
    testing::run(on(&store).queue_size(10_000), async |kit: TestKit| {
        kit.on("number", keep("one", &all))?;
        let due = kit.now() + Duration::from_mins(10);
        for id in 0..5_000 {
            kit.emit(number(id).at(due))?;
        }
        kit.settle().await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        tokio::time::sleep(Duration::from_hours(1)).await;
        kit.on("number", keep("one", &all))?;
        kit.settle().await;
        Ok(())
    });
    let mut all = seen(&all);
    all.sort_unstable();
    assert_eq!(all, (0..5_000).collect::<Vec<_>>());
}
