//! When handlers and events go, and that a panic while they go is contained.

use std::{
    future::{Future, pending},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use millstream::{
    BoxError, Draft, Event, Handler, Json, OnError, Overflow, Runtime, Stage, chain,
    store::{Memory, PartitionId, Store},
    testing,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;

/// Panics when it is dropped, unless it is defused.
#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(name = "bomb")]
struct Bomb {
    is_armed: bool,
}

const ARMED: Bomb = Bomb { is_armed: true };

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.is_armed || std::thread::panicking(), "a bomb went off");
    }
}

/// Makes a closure hold the whole of what it names.
fn keep<T>(_: &T) {}

/// Calls a function when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// An error that is a bomb.
#[derive(Debug)]
struct BombError(#[expect(dead_code, reason = "it is only dropped")] Bomb);

impl std::fmt::Display for BombError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an armed error")
    }
}

impl std::error::Error for BombError {}

// The test kit's timeline would keep the events, so these two go without it.

#[tokio::test]
async fn an_event_that_panics_while_it_is_dropped_is_counted_and_the_others_go_on() {
    let runtime = Runtime::builder().build().unwrap();
    runtime.on("bomb", || async {}).unwrap();
    runtime.on("tick", || async {}).unwrap();
    runtime.emit(ARMED).unwrap();
    runtime.emit(Draft::json("tick", json!(1))).unwrap();
    assert_eq!(runtime.process().await.unwrap().handled, 2);
    let book = runtime.stats().deliveries;
    assert_eq!((book.handled, book.dead, book.panics), (2, 0, 1));
    runtime.emit(Bomb { is_armed: false }).unwrap();
    runtime.process().await.unwrap();
    assert_eq!(runtime.stats().deliveries.panics, 1);
    assert!(runtime.stats().balances());
}

#[test]
fn an_event_of_its_own_that_panics_while_a_handler_drops_it_fails_the_delivery() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("bomb", |bomb: Bomb| async move { drop(bomb) })?;
        kit.emit(ARMED)?;
        kit.settle().await;
        let book = kit.stats().deliveries;
        assert_eq!((book.handled, book.dead, book.panics), (0, 1, 1));
        Ok(())
    });
}

#[tokio::test]
async fn an_event_that_nobody_wants_or_that_has_no_room_may_panic_while_it_is_dropped() {
    let runtime = Runtime::builder().queue_size(1).overflow(Overflow::DropOldest).build().unwrap();
    runtime.emit(ARMED).unwrap();
    runtime.emit(ARMED).unwrap();
    runtime.process().await.unwrap();
    let stats = runtime.stats();
    assert_eq!((stats.events.unrouted, stats.events.dropped.overflow), (1, 1));
    assert_eq!(stats.deliveries.panics, 1, "the one that was dropped for room went with the emitter");
}

#[test]
fn a_handler_that_panics_when_its_attempt_is_dropped_has_failed_at_once_or_later() {
    testing::run(Runtime::builder(), async |kit| {
        let leaves = |waits: bool| {
            move || {
                let bomb = ARMED;
                async move {
                    let _bomb = bomb;
                    if waits {
                        tokio::task::yield_now().await;
                    }
                }
            }
        };
        kit.on("a", leaves(false))?;
        kit.on("a", leaves(true))?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        let book = kit.stats().deliveries;
        assert_eq!((book.handled, book.dead, book.panics), (0, 2, 2));
        Ok(())
    });
}

/// Its own future panics while it is dropped, after it has ended.
struct EndsBadly(Bomb, bool);

impl Future for EndsBadly {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        assert!(self.0.is_armed);
        if std::mem::take(&mut self.1) {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(())
    }
}

#[test]
fn a_future_that_panics_while_it_is_dropped_after_its_end_has_failed() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("a", || EndsBadly(ARMED, false))?;
        kit.on("a", || EndsBadly(ARMED, true))?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        let book = kit.stats().deliveries;
        assert_eq!((book.handled, book.dead, book.panics), (0, 2, 2));
        Ok(())
    });
}

#[test]
fn an_error_that_panics_while_it_is_dropped_is_the_failure_that_it_was() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("a", || async { Err::<(), BoxError>(BombError(ARMED).into()) })?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        assert_eq!(kit.assert_one_dead_letter().failures[0].message, "an armed error");
        assert_eq!(kit.stats().deliveries.panics, 1);
        Ok(())
    });
}

#[test]
fn a_handler_that_panics_while_it_is_taken_back_or_shut_down_does_no_harm() {
    testing::run(Runtime::builder(), async |kit| {
        let holds = || {
            let bomb = ARMED;
            move || {
                let _held = &bomb;
                async {}
            }
        };
        let never_driven = kit.on("a", holds())?;
        assert!(kit.off(never_driven));
        let driven = kit.on("a", holds())?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        assert!(kit.off(driven));
        kit.on("a", holds())?;
        let filter = ARMED;
        kit.on(
            "a",
            (|| async {}).filter(move |_| {
                let whole = &filter;
                whole.is_armed
            }),
        )?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        let report = kit.shutdown(Duration::ZERO).await?;
        assert_eq!((report.parked.len(), report.abandoned.len()), (0, 0));
        let book = kit.stats().deliveries;
        assert_eq!((book.handled, book.panics), (3, 3), "those that were driven are counted, the others logged");
        Ok(())
    });
}

#[test]
fn a_handler_that_is_taken_back_goes_at_once_where_nothing_runs() {
    testing::run(Runtime::builder(), async |kit| {
        let held = Arc::new(());
        let holds = |held: &Arc<()>| {
            let held = Arc::clone(held);
            move || {
                keep(&held);
                async {}
            }
        };
        let (first, second) = (kit.on("a", holds(&held))?, kit.on("a", holds(&held))?);
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        assert_eq!(Arc::strong_count(&held), 3);
        assert!(kit.off(first));
        assert_eq!(Arc::strong_count(&held), 2);
        assert!(!kit.off(first), "it is not there any more");
        kit.off(second);
        kit.on("a", holds(&held))?;
        assert_eq!(kit.runtime().clear(), 1);
        assert_eq!(Arc::strong_count(&held), 1);
        let stream = kit.runtime().stream::<Json>("a");
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        drop(stream);
        assert_eq!(kit.describe().subscriptions.len(), 0);
        Ok(())
    });
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "a driver with a task of its own, which nothing else wakes, joined at the end"
)]
async fn a_handler_that_is_taken_back_goes_while_the_runtime_is_driven_and_idle() {
    let runtime = Runtime::builder().build().unwrap();
    let gone = Arc::new(Notify::new());
    let notify = Arc::clone(&gone);
    let held = OnDrop(move || notify.notify_one());
    let handler = move || {
        keep(&held);
        async {}
    };
    let id = runtime.on("a", handler).unwrap();
    let driver = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.run().await }
    });
    runtime.emit(Draft::json("a", json!(1))).unwrap();
    runtime.process().await.unwrap();
    // The driver has its last turns, and sleeps.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(runtime.off(id));
    let soon = tokio::time::timeout(Duration::from_secs(10), gone.notified()).await;
    assert!(soon.is_ok(), "nobody woke the driver");
    runtime.shutdown(Duration::ZERO).await.unwrap();
    driver.await.unwrap().unwrap();
}

#[test]
fn a_handler_in_flight_goes_when_its_last_delivery_has_ended() {
    testing::run(Runtime::builder(), async |kit| {
        let held = Arc::new(());
        let kept = Arc::clone(&held);
        let id = kit.on("a", move || {
            keep(&kept);
            pending::<()>()
        })?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.advance(Duration::from_secs(1)).await;
        assert!(kit.off(id));
        assert_eq!(Arc::strong_count(&held), 2);
        kit.settle().await;
        assert_eq!((Arc::strong_count(&held), kit.stats().deliveries.timeouts), (1, 1));
        Ok(())
    });
}

#[test]
fn an_id_of_another_runtime_takes_nothing_back() {
    testing::run(Runtime::builder(), async |kit| {
        let other = Runtime::builder().build()?;
        let (here, there) = (kit.on("a", || async {})?, other.on("a", || async {})?);
        assert!(!kit.off(there) && !other.off(here));
        assert!(kit.off(here) && other.off(there));
        Ok(())
    });
}

#[test]
fn nothing_is_subscribed_while_a_shutdown_lets_go_of_the_handlers() {
    testing::run(Runtime::builder(), async |kit| {
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let subscribes = |name: &'static str| {
            let (runtime, outcomes) = (kit.runtime().clone(), Arc::clone(&outcomes));
            let held = OnDrop(move || outcomes.lock().unwrap().push(runtime.on(name, || async {}).err()));
            move || {
                keep(&held);
                async {}
            }
        };
        kit.on("driven", subscribes("late.a"))?;
        kit.settle().await;
        kit.emit(Draft::json("driven", json!(1)))?;
        kit.settle().await;
        kit.on("never", subscribes("late.b"))?;
        kit.shutdown(Duration::ZERO).await?;
        assert_eq!(*outcomes.lock().unwrap(), [Some(OnError::Stopped), Some(OnError::Stopped)]);
        assert_eq!(kit.describe().subscriptions.len(), 0);
        Ok(())
    });
}

/// A state of a stage that is a bomb once it is armed.
#[derive(Clone, Default, Serialize, Deserialize)]
struct BombState(u64);

static IS_ARMED: AtomicBool = AtomicBool::new(false);

impl Drop for BombState {
    fn drop(&mut self) {
        assert!(self.0 == 0 || !IS_ARMED.load(Ordering::Relaxed), "a bomb went off");
    }
}

#[tokio::test]
async fn a_state_of_a_stage_that_panics_while_it_is_dropped_stops_nobody() {
    let store = Memory::new();
    let runtime = Runtime::builder().store(store.clone()).build().unwrap();
    let bomb = ARMED;
    let sum = chain().scan(BombState::default(), move |sum: &mut BombState, tick: Tick| {
        keep(&bomb);
        sum.0 += tick.0;
    });
    let stage = Stage::keyed(|tick: &Tick| tick.0, sum.map(|sum| Total(sum.0)));
    runtime.stage("sums", stage).unwrap();
    let totals = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&totals);
    let handler = move |total: Total| {
        let seen = Arc::clone(&seen);
        async move { seen.lock().unwrap().push(total.0) }
    };
    runtime.on("total", handler.named("keep")).unwrap();
    for number in 1..=20 {
        runtime.emit(Tick(number)).unwrap().await.unwrap();
    }
    runtime.process().await.unwrap();
    assert_eq!(totals.lock().unwrap().len(), 20);
    IS_ARMED.store(true, Ordering::Relaxed);
    // What the stage has in memory is dropped with the claim.
    store.claim(PartitionId(0)).await.unwrap();
    runtime.emit(Total(0)).unwrap().await.unwrap();
    while runtime.stats().deliveries.panics < 20 {
        drop(runtime.process().await);
    }
    IS_ARMED.store(false, Ordering::Relaxed);
    runtime.emit(Tick(30)).unwrap().await.unwrap();
    runtime.process().await.unwrap();
    assert_eq!(totals.lock().unwrap().last(), Some(&30));
    IS_ARMED.store(true, Ordering::Relaxed);
    let before = runtime.stats().deliveries.panics;
    runtime.shutdown(Duration::from_secs(1)).await.unwrap();
    assert!(runtime.stats().deliveries.panics > before, "what goes with the stage is in the books of its runtime");
}

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(name = "tick")]
struct Tick(u64);

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(name = "total")]
struct Total(u64);
