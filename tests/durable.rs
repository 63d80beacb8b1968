//! A durable runtime: what was accepted is handled, over restarts, failures and delays.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{self, Waker},
    time::Duration,
};

use millstream::{
    Builder, Context, DeadLetterFilter, Draft, Event, Handler, HandlerError, Json, Key, OnError, Priority, Refusal,
    Replay, Retry, Runtime, Start,
    store::{CommitError, Committed, Memory, Op, PartitionId, Redb, Store, StoreFuture},
    testing::{self, FaultyStore, HookedStore, Probe, StoreHooks, TestKit},
};
use redb::backends::InMemoryBackend;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "order.placed", key = "id")]
struct OrderPlaced {
    id: u64,
}

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "stock.reserved")]
struct StockReserved {
    order: u64,
}

fn on(store: &Memory) -> Builder {
    Runtime::builder().store(store.clone())
}

type Seen = Arc<Mutex<Vec<u64>>>;

fn numbers(seen: &Seen) -> impl Handler<(OrderPlaced,)> + use<> {
    let seen = Arc::clone(seen);
    (move |order: OrderPlaced| {
        let seen = Arc::clone(&seen);
        async move { seen.lock().unwrap().push(order.id) }
    })
    .named("numbers")
}

#[test]
fn what_is_emitted_is_handled_and_what_is_returned_too() {
    let store = Memory::new();
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", (|order: OrderPlaced| async move { StockReserved { order: order.id } }).named("reserve"))?;
        let stock = Probe::<StockReserved>::new();
        kit.on("stock.*", stock.handler().named("stock"))?;
        for id in 0..10 {
            kit.emit(OrderPlaced { id })?.await?;
        }
        let report = kit.settle().await;
        assert_eq!((report.handled, report.dead), (20, 0));
        let orders: Vec<_> = stock.received().into_iter().map(|stock| stock.order).collect();
        assert_eq!(orders, (0..10).collect::<Vec<_>>());
        Ok(())
    });
}

/// A batch of emits lands once it may.
struct Gate(Arc<Semaphore>);

impl StoreHooks for Gate {
    fn append(
        &self,
        store: &Arc<dyn Store>,
        partition: PartitionId,
        batch: Vec<Op>,
    ) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let (gate, store) = (Arc::clone(&self.0), Arc::clone(store));
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            store.append(partition, batch).await
        })
    }
}

/// How often somebody was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl task::Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Else each emit would cost a look at the store for nothing.
#[tokio::test(start_paused = true)]
async fn an_emit_wakes_whoever_drives_once_it_has_landed_and_not_before() {
    let gate = Arc::new(Semaphore::new(1));
    let store = HookedStore::new(Memory::new(), Gate(Arc::clone(&gate)));
    let (runtime, seen) = (Runtime::builder().store(store).build().unwrap(), Seen::default());
    runtime.on("order.*", numbers(&seen)).unwrap();
    let (mut run, wakes) = (pin!(runtime.run()), Arc::new(Wakes::default()));
    let (waker, woken) = (Waker::from(Arc::clone(&wakes)), || wakes.0.swap(0, Ordering::Relaxed));
    let mut drive = || {
        wakes.0.store(1, Ordering::Relaxed);
        while woken() > 0 {
            assert!(run.as_mut().poll(&mut task::Context::from_waker(&waker)).is_pending());
        }
    };
    drive();
    let receipts: Vec<_> = (0..100).map(|id| runtime.emit(OrderPlaced { id }).unwrap()).collect();
    assert_eq!(woken(), 0);
    gate.add_permits(100);
    for receipt in receipts {
        receipt.await.unwrap();
    }
    assert!(woken() > 0);
    drive();
    assert_eq!(*seen.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn whoever_processes_is_told_when_an_event_is_due_that_has_not_landed_yet() {
    let gate = Arc::new(Semaphore::new(0));
    let store = HookedStore::new(Memory::new(), Gate(Arc::clone(&gate)));
    let runtime = Runtime::builder().store(store).build().unwrap();
    assert_eq!(runtime.process().await.unwrap().next_deadline, None);
    drop(runtime.emit(Draft::new(OrderPlaced { id: 1 }).delay(Duration::from_secs(5))).unwrap());
    let open = async {
        tokio::task::yield_now().await;
        gate.add_permits(1);
    };
    let (report, ()) = tokio::join!(runtime.process(), open);
    assert!(report.unwrap().next_deadline.is_some());
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let (store, seen) = (Memory::new(), Seen::default());
    for round in 0..3 {
        testing::run(on(&store), async |kit: TestKit| {
            kit.on("order.*", numbers(&seen))?;
            kit.emit(OrderPlaced { id: round * 2 })?;
            kit.settle().await;
            kit.emit(OrderPlaced { id: round * 2 + 1 })?.await?;
            Ok(())
        });
    }
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", numbers(&seen))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(*seen.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_backoff_survives_a_restart_and_holds_its_key_alone() {
    let (store, seen) = (Memory::new(), Seen::default());
    let handler = |fails: bool| {
        let seen = Arc::clone(&seen);
        (move |order: OrderPlaced, context: Context| {
            let seen = Arc::clone(&seen);
            async move {
                if order.id == 1 && fails {
                    return Err(HandlerError::transient("closed"));
                }
                seen.lock().unwrap().push(order.id * 10 + u64::from(context.attempt()));
                Ok(())
            }
        })
        .named("bank")
        .ordered_by_key()
        .retry(Retry::fixed(Duration::from_hours(1)))
    };
    let draft = |id| Draft::new(OrderPlaced { id }).key(Key::from(id % 2));
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", handler(true))?;
        for id in [1, 2, 3, 4, 5] {
            kit.emit(draft(id))?;
        }
        assert!(tokio::time::timeout(Duration::from_mins(1), kit.runtime().process()).await.is_err());
        assert_eq!(*seen.lock().unwrap(), [21, 41]);
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", handler(false))?;
        kit.settle().await;
        assert_eq!(*seen.lock().unwrap(), [21, 41, 12, 31, 51]);
        Ok(())
    });
}

#[test]
fn a_strict_order_behind_a_backoff_survives_a_restart_whatever_the_classes() {
    let (store, seen) = (Memory::new(), Seen::default());
    let handler = |fails: bool| {
        let seen = Arc::clone(&seen);
        (move |order: OrderPlaced| {
            let seen = Arc::clone(&seen);
            async move {
                if fails {
                    return Err(HandlerError::transient("closed"));
                }
                seen.lock().unwrap().push(order.id);
                Ok(())
            }
        })
        .named("bank")
        .strict_key_order()
        .retry(Retry::fixed(Duration::from_hours(1)))
    };
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", handler(true))?;
        let classes = [Priority::Normal, Priority::Low, Priority::Critical, Priority::High, Priority::Low];
        for (id, class) in (1..).zip(classes) {
            kit.emit(Draft::new(OrderPlaced { id }).key("a user").priority(class))?.await?;
        }
        assert!(tokio::time::timeout(Duration::from_mins(1), kit.runtime().process()).await.is_err());
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", handler(false))?;
        kit.settle().await;
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 4, 5]);
        Ok(())
    });
}

/// Fails the first attempt of each, and all of those below 10 while the bank is closed.
fn accounts(seen: &Seen, is_open: bool) -> impl Handler<(OrderPlaced, Context)> + use<> {
    let seen = Arc::clone(seen);
    let handler = move |order: OrderPlaced, context: Context| {
        let seen = Arc::clone(&seen);
        async move {
            if order.id < 10 && !is_open {
                return Err(HandlerError::permanent("the bank is closed"));
            }
            if order.id == 10 && context.attempt() == 1 {
                return Err(HandlerError::transient("try again"));
            }
            seen.lock().unwrap().push(order.id);
            Ok(())
        }
    };
    handler.named("accounts").ordered_by_key().retry(Retry::fixed(Duration::from_mins(1)))
}

#[test]
fn a_replay_that_is_cut_off_takes_no_key_from_one_in_backoff() {
    let (store, seen) = (Memory::new(), Seen::default());
    let of_one_user = |id| Draft::new(OrderPlaced { id }).key("a user");
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", accounts(&seen, false))?;
        kit.emit(Draft::new(OrderPlaced { id: 1 }).key("another"))?;
        kit.emit(of_one_user(2))?;
        let _ = tokio::time::timeout(Duration::from_secs(1), kit.runtime().run()).await;
        kit.emit(of_one_user(10))?;
        let _ = tokio::time::timeout(Duration::from_secs(1), kit.runtime().run()).await;
        // The second one is due a second later, when nobody is there.
        assert_eq!(kit.replay(&Replay::all().rate(1.try_into()?)).replayed, 2);
        let _ = tokio::time::timeout(Duration::from_millis(100), kit.runtime().run()).await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", accounts(&seen, true))?;
        kit.emit(of_one_user(11))?;
        kit.settle().await;
        let seen: Vec<_> = seen.lock().unwrap().iter().copied().filter(|id| *id >= 10).collect();
        assert_eq!(seen, [10, 11], "11 was emitted behind 10, which is in backoff");
        Ok(())
    });
}

#[test]
fn a_dead_letter_survives_a_restart_and_is_replayed_under_its_id() {
    let store = Memory::new();
    let mut id = None;
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", Probe::<OrderPlaced>::new().always_fails().handler().named("bank"))?;
        id = Some(kit.emit(OrderPlaced { id: 1 })?.id());
        assert_eq!(kit.settle().await.dead, 1);
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        let bank = Probe::<OrderPlaced>::new();
        kit.on("order.*", bank.handler().named("bank"))?;
        kit.settle().await;
        let letters = kit.dead_letters(&DeadLetterFilter::all());
        assert_eq!(letters.iter().map(|letter| Some(letter.event.id())).collect::<Vec<_>>(), [id]);
        assert_eq!(letters[0].failures.len(), 1);
        kit.replay(&Replay::all());
        assert_eq!(kit.settle().await.handled, 1);
        assert_eq!(bank.received(), [OrderPlaced { id: 1 }]);
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.settle().await;
        kit.assert_no_dead_letters();
        Ok(())
    });
}

#[test]
fn a_delayed_event_survives_a_restart_and_comes_at_its_time() {
    let (store, seen) = (Memory::new(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", numbers(&seen))?;
        kit.emit(Draft::new(OrderPlaced { id: 7 }).delay(Duration::from_mins(1)))?.await?;
        kit.emit(Draft::new(OrderPlaced { id: 8 }).delay(Duration::from_secs(30)))?.await?;
        kit.settle().await;
        assert_eq!(kit.stats().events.delayed, 2);
        kit.advance(Duration::from_secs(40)).await;
        assert_eq!(*seen.lock().unwrap(), [8]);
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", numbers(&seen))?;
        kit.advance(Duration::from_secs(29)).await;
        assert_eq!(*seen.lock().unwrap(), [8]);
        kit.advance(Duration::from_secs(1)).await;
        assert_eq!(*seen.lock().unwrap(), [8, 7]);
        Ok(())
    });
}

#[test]
fn one_of_an_idempotency_key_is_taken() {
    let store = Memory::new();
    testing::run(on(&store), async |kit: TestKit| {
        let bank = Probe::<OrderPlaced>::new();
        kit.on("order.*", bank.handler().named("bank"))?;
        let first = kit.emit(Draft::new(OrderPlaced { id: 1 }).idempotency_key("a"))?;
        let id = first.id();
        let second = kit.emit(Draft::new(OrderPlaced { id: 2 }).idempotency_key("a"))?;
        let other = kit.emit(Draft::new(OrderPlaced { id: 3 }).idempotency_key("a").tenant("acme"))?;
        assert_eq!((first.await?, second.await?), (id, id));
        other.await?;
        kit.settle().await;
        assert_eq!((bank.received().len(), kit.stats().events.dropped.duplicate), (2, 1));
        tokio::time::advance(Duration::from_hours(24)).await;
        kit.emit(Draft::new(OrderPlaced { id: 4 }).idempotency_key("a"))?.await?;
        kit.settle().await;
        assert_eq!(bank.received().len(), 3);
        Ok(())
    });
}

#[test]
fn what_memory_alone_can_do_is_refused_and_the_other_way_round() {
    testing::run(on(&Memory::new()), async |kit: TestKit| {
        let unnamed = kit.on("order.*", |_: OrderPlaced| async {}).unwrap_err();
        assert!(matches!(unnamed, OnError::Unnamed { .. }), "{unnamed}");
        let token = millstream::CancellationToken::new();
        let refused = kit.emit(Draft::new(OrderPlaced { id: 1 }).cancelled_by(&token)).unwrap_err();
        assert!(matches!(refused.reason, Refusal::NotDurable { .. }), "{refused}");
        Ok(())
    });
    testing::run(Runtime::builder(), async |kit: TestKit| {
        let refused = kit.emit(Draft::new(OrderPlaced { id: 1 }).idempotency_key("a")).unwrap_err();
        assert!(matches!(refused.reason, Refusal::NeedsStore { .. }), "{refused}");
        Ok(())
    });
}

#[test]
fn a_subscription_begins_where_it_says() {
    let store = Memory::new();
    testing::run(on(&store), async |kit: TestKit| {
        for id in 0..3 {
            kit.emit(OrderPlaced { id })?.await?;
        }
        let (early, late) = (Seen::default(), Seen::default());
        kit.on("order.*", numbers(&early).named("early").starting_at(Start::Earliest))?;
        kit.on("order.*", numbers(&late).named("late"))?;
        kit.emit(OrderPlaced { id: 3 })?;
        kit.settle().await;
        assert_eq!(*early.lock().unwrap(), [0, 1, 2, 3]);
        assert_eq!(*late.lock().unwrap(), [3]);
        Ok(())
    });
}

#[test]
fn a_backlog_larger_than_memory_keeps_is_handled_in_order_and_by_urgency() {
    let (store, seen) = (Memory::new(), Seen::default());
    testing::run(on(&store).queue_size(50_000), async |kit: TestKit| {
        kit.on("order.*", numbers(&seen))?;
        kit.settle().await;
        Ok(())
    });
    testing::run(on(&store).queue_size(50_000), async |kit: TestKit| {
        for id in 0..30_000 {
            kit.emit(OrderPlaced { id })?;
        }
        kit.emit(Draft::new(OrderPlaced { id: 99_999 }).priority(Priority::Critical))?.await?;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", numbers(&seen))?;
        kit.settle().await;
        Ok(())
    });
    let seen = seen.lock().unwrap();
    assert_eq!(seen.first(), Some(&99_999));
    assert_eq!(seen[1..], (0..30_000).collect::<Vec<_>>());
}

#[test]
fn all_of_it_works_on_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.redb");
    let seen = Seen::default();
    for round in 0..3 {
        let store = Redb::open(&path).unwrap();
        testing::run(Runtime::builder().store(store), async |kit: TestKit| {
            kit.on("order.*", numbers(&seen))?;
            for id in 0..100 {
                kit.emit(OrderPlaced { id: round * 100 + id })?;
            }
            kit.settle().await;
            Ok(())
        });
    }
    assert_eq!(*seen.lock().unwrap(), (0..300).collect::<Vec<_>>());
}

#[test]
fn json_events_and_their_options_survive() {
    let store = Memory::new();
    testing::run(on(&store), async |kit: TestKit| {
        kit.emit(Draft::json("a.b", json!({"x": 1})).tenant("t").header("h", "v").actor("ann"))?.await?;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let handler = move |context: Context| {
            sink.lock().unwrap().push(serde_json::to_value(context.event()).unwrap());
            async {}
        };
        kit.on("a.*", handler.named("all").starting_at(Start::Earliest))?;
        kit.settle().await;
        let seen = seen.lock().unwrap();
        assert_eq!(
            (&seen[0]["data"], &seen[0]["tenant"], &seen[0]["actor"]),
            (&json!({"x": 1}), &json!("t"), &json!("ann"))
        );
        Ok(())
    });
}

#[test]
fn a_shutdown_writes_how_far_it_came_and_lets_go_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.redb");
    let seen = Seen::default();
    for round in 0..2 {
        testing::run(Runtime::builder().store(Redb::open(&path).unwrap()), async |kit: TestKit| {
            kit.on("order.*", numbers(&seen))?;
            kit.emit(OrderPlaced { id: round })?;
            kit.emit(Draft::json("nobody.wants", json!(1)))?;
            let report = kit.shutdown(Duration::from_secs(1)).await?;
            assert_eq!((report.handled, report.parked.len()), (1, 0));
            drop(Redb::open(&path)?);
            Ok(())
        });
    }
    assert_eq!(*seen.lock().unwrap(), [0, 1]);
}

#[test]
fn what_comes_while_nobody_is_subscribed_waits_for_the_name() {
    let store = Memory::new();
    testing::run(on(&store), async |kit: TestKit| {
        let (first, second) = (Seen::default(), Seen::default());
        let id = kit.on("order.*", numbers(&first))?;
        kit.emit(OrderPlaced { id: 1 })?;
        kit.settle().await;
        kit.off(id);
        kit.emit(OrderPlaced { id: 2 })?;
        kit.settle().await;
        assert!(kit.health().findings.iter().any(|finding| finding.contains("`numbers`")), "{:?}", kit.health());
        kit.on("order.*", numbers(&second))?;
        kit.emit(OrderPlaced { id: 3 })?;
        kit.settle().await;
        assert_eq!((first.lock().unwrap().clone(), second.lock().unwrap().clone()), (vec![1], vec![2, 3]));
        Ok(())
    });
}

#[test]
fn an_orphan_is_forgotten_on_purpose_and_a_name_is_changed_on_purpose() {
    let (store, seen) = (Memory::new(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", numbers(&seen))?;
        kit.on("order.*", numbers(&Seen::default()).named("other"))?;
        kit.settle().await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.emit(OrderPlaced { id: 1 })?;
        kit.on("order.*", numbers(&seen).named("renamed").was("numbers"))?;
        kit.settle().await;
        assert_eq!(*seen.lock().unwrap(), [1]);
        kit.forget("other");
        kit.forget("renamed");
        kit.settle().await;
        assert_eq!(kit.health().findings, Vec::<String>::new());
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("order.*", numbers(&seen).named("renamed"))?;
        kit.settle().await;
        assert_eq!(*seen.lock().unwrap(), [1]);
        assert_eq!(kit.health().findings, Vec::<String>::new());
        Ok(())
    });
}

#[test]
fn all_is_handled_once_and_in_order_however_little_of_the_log_is_kept_in_memory() {
    for recent in [1, 300, 1_000] {
        testing::run(Runtime::builder().store(Memory::new()).recent_bytes(recent), async |kit: TestKit| {
            let seen = Arc::new(Mutex::new(Vec::new()));
            for name in ["one", "two"] {
                let seen = Arc::clone(&seen);
                let keep = move |Json(event): Json| {
                    seen.lock().unwrap().push((name, event.as_u64().unwrap()));
                    async {}
                };
                kit.on("number", keep.named(name).concurrency(1))?;
            }
            for round in 0..20 {
                kit.emit_all((0..10).map(|id| Draft::json("number", json!(round * 10 + id))))?;
                if round % 3 == 0 {
                    kit.settle().await;
                }
            }
            kit.settle().await;
            for name in ["one", "two"] {
                let own: Vec<_> =
                    seen.lock().unwrap().iter().filter(|(of, _)| *of == name).map(|(_, id)| *id).collect();
                assert_eq!(own, (0..200).collect::<Vec<_>>(), "{recent}");
            }
            kit.assert_balanced();
            Ok(())
        });
    }
}

async fn a_second_one_is_refused(store: impl Store + Clone) {
    let build = || Runtime::builder().store(store.clone()).build();
    let first = build().unwrap();
    let refused = build().unwrap_err();
    assert_eq!(refused.refused()[0].setting(), "store");
    let why = refused.to_string();
    assert!(why.contains("durable.rs") && why.contains("shut it down"), "{why}");
    first.on("a", (|_: Json| async {}).named("a")).unwrap();
    first.emit(Draft::json("a", json!(1))).unwrap().await.unwrap();
    assert_eq!(first.process().await.unwrap().handled, 1, "nobody has fenced it");
    let clone = first.clone();
    drop(first);
    assert!(build().is_err(), "a clone of it lives");
    clone.shutdown(Duration::from_secs(1)).await.unwrap();
    let second = build().unwrap();
    assert!(build().is_err(), "a stopped one holds nothing, and the second does");
    drop(second);
    build().unwrap();
}

#[tokio::test]
async fn a_second_runtime_on_a_clone_of_a_store_is_refused_while_the_first_lives() {
    a_second_one_is_refused(Memory::new()).await;
    a_second_one_is_refused(Redb::builder().open_on(InMemoryBackend::new()).unwrap()).await;
    a_second_one_is_refused(FaultyStore::new(Memory::new(), 1).one_in(0)).await;
}

#[test]
fn of_more_letters_than_a_smaller_room_has_the_oldest_go_and_are_counted() {
    let store = Memory::new();
    testing::run(on(&store), async |kit: TestKit| {
        let die = (|_: OrderPlaced| async { Err::<(), _>(HandlerError::permanent("no")) }).named("die");
        kit.on("order.*", die)?;
        for id in 1..=5 {
            kit.emit(OrderPlaced { id })?.await?;
        }
        kit.settle().await;
        Ok(())
    });
    for dropped in [3, 0] {
        testing::run(on(&store).dead_letter_size(2), async |kit: TestKit| {
            kit.settle().await;
            let letters = kit.dead_letters(&DeadLetterFilter::all());
            assert_eq!(letters.iter().map(|letter| letter.number).collect::<Vec<_>>(), [4, 5]);
            assert_eq!(kit.stats().dead_letters_dropped, dropped);
            kit.shutdown(Duration::from_secs(1)).await?;
            Ok(())
        });
    }
}
