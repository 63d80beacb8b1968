//! More of what an engine gets wrong: user code that panics where only errors are expected, wakers that come back in, and
//! whoever waits for something that has happened already.

use std::{
    fmt,
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::sync_channel,
    },
    task::{Context as TaskContext, Poll, Wake, Waker},
    time::Duration,
};

use futures::FutureExt;
use millstream::{
    CancellationToken, Context, DeadLetterFilter, Death, Draft, Event, Fate, Handler, HandlerError, Json, Overflow,
    Priority, Quota, Refusal, Replay, Retry, Runtime, Share,
    testing::{self, Probe},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

fn numbered(n: u32) -> Draft {
    Draft::json("a", json!(n))
}

fn numbers(probe: &Probe<Json>) -> Vec<u64> {
    probe.received().into_iter().filter_map(|Json(n)| n.as_u64()).collect()
}

/// Fails instead of hanging where a thread waits for itself.
fn within_ten_seconds(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = sync_channel(1);
    let thread = std::thread::spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
        let _ = done.send(result.is_ok());
    });
    assert_eq!(ended.recv_timeout(10 * SECOND), Ok(true), "a thread waits for itself, or the test failed");
    assert!(thread.join().is_ok());
}

/// An error that cannot be shown.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        unreachable!("unspeakable")
    }
}

impl std::error::Error for Unspeakable {}

#[test]
fn an_error_that_panics_while_it_is_shown_fails_its_delivery_alone() {
    testing::run(Runtime::builder(), async |kit| {
        let retried = || async { Err::<(), _>(HandlerError::transient(Unspeakable)) };
        kit.on("a", retried.retry(Retry::fixed(SECOND).attempts(2)))?;
        kit.on("a", || async { Err::<(), _>(Unspeakable) })?;
        let other = Probe::<Json>::new();
        kit.on("a", other.handler())?;
        kit.emit(numbered(1))?;
        kit.settle().await;
        let book = kit.stats().deliveries;
        assert_eq!((book.handled, book.dead, book.retried), (1, 2, 1));
        assert_eq!(other.attempts(), 1);
        let letter = &kit.dead_letters(&DeadLetterFilter::all())[0];
        assert!(letter.reason().contains("panicked"), "{}", letter.reason());
        Ok(())
    });
}

#[test]
fn a_retry_policy_that_panics_gives_up_its_delivery_alone() {
    testing::run(Runtime::builder(), async |kit| {
        let fails = || async { Err::<(), _>(HandlerError::transient("no")) };
        let asks = Retry::fixed(SECOND).attempts(3).when(|_: &HandlerError| -> bool { panic!("no answer") });
        kit.on("a", fails.retry(asks))?;
        let other = Probe::<Json>::new();
        kit.on("a", other.handler())?;
        kit.emit(numbered(1))?;
        kit.settle().await;
        let book = kit.stats().deliveries;
        assert_eq!((book.handled, book.dead, book.panics), (1, 1, 1));
        Ok(())
    });
}

#[test]
fn who_processes_beside_run_is_told_that_nothing_came_of_a_command() {
    testing::run(Runtime::builder(), async |kit| {
        let work = async {
            tokio::time::sleep(SECOND).await;
            for round in 0..3 {
                match round {
                    0 => drop(kit.purge(&DeadLetterFilter::all())),
                    1 => drop(kit.replay(&Replay::all())),
                    _ => kit.forget("nobody"),
                }
                let processed = tokio::time::timeout(SECOND, kit.process()).await;
                assert!(processed.is_ok(), "round {round}: nothing is to be done, and nobody said so");
            }
            kit.shutdown(SECOND).await?;
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        tokio::join!(kit.run(), work).1
    });
}

#[test]
fn what_a_timed_out_handlers_work_emits_is_not_lost_silently() {
    testing::run(Runtime::builder(), async |kit| {
        let outcome = Arc::new(Mutex::new(None));
        let sink = Arc::clone(&outcome);
        let hangs = move |context: Context| {
            let sink = Arc::clone(&sink);
            async move {
                let mut set = tokio::task::JoinSet::new();
                set.spawn(async move {
                    tokio::time::sleep(3 * SECOND).await;
                    *sink.lock().unwrap() = Some(context.emit(Draft::json("late", json!(1))).is_ok());
                });
                set.detach_all();
                pending::<()>().await;
            }
        };
        kit.on("a", hangs.timeout(SECOND))?;
        kit.emit(numbered(1))?;
        kit.settle().await;
        tokio::time::sleep(5 * SECOND).await;
        let is_accepted = outcome.lock().unwrap().unwrap();
        let emitted = kit.stats().events.emitted;
        assert_eq!(is_accepted, emitted == 2, "accepted: {is_accepted}, emitted: {emitted}");
        Ok(())
    });
}

#[test]
fn replaying_another_letter_of_a_halted_key_does_not_lift_the_halt() {
    testing::run(Runtime::builder().queue_size(4), async |kit| {
        let probe = Probe::<Json>::new().fails(1);
        let handler = probe.handler().ordered_by_key().halt_key_on_dead().when_saturated(Share::DeadLetter);
        kit.on("a", handler)?;
        for n in 1..=4 {
            kit.emit(numbered(n).key("k"))?;
            kit.settle().await;
        }
        let saturated = DeadLetterFilter::all().death(Death::Saturated);
        assert_eq!(kit.dead_letters(&saturated).len(), 1);
        kit.replay(&Replay::of(saturated));
        kit.settle().await;
        assert_eq!(numbers(&probe), [1], "the head is not mended yet");
        assert_eq!(kit.stats().deliveries.parked, 3);
        kit.replay(&Replay::all());
        kit.settle().await;
        assert_eq!(numbers(&probe), [1, 1, 2, 3, 4]);
        Ok(())
    });
}

#[test]
fn a_cancelled_replay_of_another_letter_does_not_lift_the_halt() {
    testing::run(Runtime::builder().queue_size(4), async |kit| {
        let probe = Probe::<Json>::new().fails(1);
        let handler = probe.handler().ordered_by_key().halt_key_on_dead().when_saturated(Share::DeadLetter);
        kit.on("a", handler)?;
        let token = CancellationToken::new();
        for n in 1..=4 {
            let event = numbered(n).key("k");
            kit.emit(if n == 4 { event.cancelled_by(&token) } else { event })?;
            kit.settle().await;
        }
        kit.replay(&Replay::of(DeadLetterFilter::all().death(Death::Saturated)));
        kit.cancel(&token);
        kit.settle().await;
        assert_eq!((numbers(&probe), kit.stats().deliveries.parked), (vec![1], 2));
        Ok(())
    });
}

#[test]
fn purging_a_letter_that_never_had_its_key_does_not_lift_the_halt() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().fails(1);
        let filter = |event: &millstream::Envelope| {
            assert_ne!(event.data().as_json(), Some(&json!(2)), "no opinion");
            true
        };
        kit.on("a", probe.handler().ordered_by_key().halt_key_on_dead().filter(filter))?;
        for n in 1..=3 {
            kit.emit(numbered(n).key("k"))?;
        }
        kit.settle().await;
        assert_eq!(kit.stats().deliveries.parked, 1);
        kit.purge(&DeadLetterFilter::all().numbers([2]));
        kit.settle().await;
        assert_eq!((numbers(&probe), kit.stats().deliveries.parked), (vec![1], 1));
        Ok(())
    });
}

#[test]
fn what_is_parked_behind_a_halted_key_does_not_outlive_its_subscription() {
    testing::run(Runtime::builder(), async |kit| {
        let first = Probe::<Json>::new().always_fails();
        let id = kit.on("a", first.handler().named("s").ordered_by_key().halt_key_on_dead())?;
        for n in 1..=3 {
            kit.emit(numbered(n).key("k"))?;
        }
        kit.settle().await;
        assert_eq!((kit.stats().deliveries.parked, kit.stats().held), (2, 2));
        assert!(kit.off(id));
        let second = Probe::<Json>::new();
        kit.on("a", second.handler().named("s").ordered_by_key().halt_key_on_dead())?;
        kit.settle().await;
        assert_eq!((kit.stats().deliveries.parked, kit.stats().held), (0, 0), "nobody could ever let them go on");
        assert_eq!(kit.dead_letters(&DeadLetterFilter::all().death(Death::Halted)).len(), 2);
        assert_eq!(kit.replay(&Replay::all()).replayed, 3);
        kit.settle().await;
        assert_eq!(numbers(&second), [1, 2, 3]);
        Ok(())
    });
}

#[test]
fn a_head_that_dies_after_its_subscription_was_taken_back_leaves_nothing_parked() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND).always_fails();
        let id = kit.on("a", probe.handler().ordered_by_key().halt_key_on_dead())?;
        for n in 1..=3 {
            kit.emit(numbered(n).key("k"))?;
        }
        kit.advance(SECOND / 2).await;
        assert!(kit.off(id));
        kit.settle().await;
        assert_eq!((kit.stats().dead_letters, kit.stats().deliveries.parked, kit.stats().held), (3, 0, 0));
        Ok(())
    });
}

/// A waker that looks at the runtime, as an executor's own may.
struct Curious(Runtime, AtomicU32);

impl Wake for Curious {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::Relaxed);
        assert!(self.0.stats().balances());
    }
}

#[test]
fn nobody_is_woken_under_the_lock() {
    within_ten_seconds(|| {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tokio.block_on(async {
            let runtime = Runtime::builder().queue_size(1).build().unwrap();
            runtime.on("a", || async {}).unwrap();
            let curious = Arc::new(Curious(runtime.clone(), AtomicU32::new(0)));
            let waker = Waker::from(Arc::clone(&curious));
            let mut cx = TaskContext::from_waker(&waker);
            runtime.emit(numbered(1)).unwrap();
            let mut granted = pin!(runtime.emit_wait(numbered(2)));
            let mut closed = pin!(runtime.emit_wait(numbered(3)));
            assert!(granted.as_mut().poll(&mut cx).is_pending());
            assert!(closed.as_mut().poll(&mut cx).is_pending());
            runtime.process().await.unwrap();
            assert_eq!(curious.1.load(Ordering::Relaxed), 1, "one has room");
            assert!(granted.as_mut().poll(&mut cx).is_ready());
            runtime.shutdown(Duration::ZERO).await.unwrap();
            assert!(curious.1.load(Ordering::Relaxed) >= 2, "the other learns of the end");
            assert!(closed.as_mut().poll(&mut cx).is_ready());
        });
    });
}

#[derive(Event, Clone, Serialize, Deserialize, Debug)]
#[event(name = "answer")]
struct Answer;

#[test]
fn a_request_that_a_shutdown_hands_back_wakes_nobody_under_the_lock() {
    within_ten_seconds(|| {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tokio.block_on(async {
            let runtime = Runtime::builder().build().unwrap();
            let curious = Arc::new(Curious(runtime.clone(), AtomicU32::new(0)));
            let waker = Waker::from(Arc::clone(&curious));
            let mut cx = TaskContext::from_waker(&waker);
            let question = Draft::json("ask", json!(1)).delay(SECOND);
            let mut asked = pin!(runtime.request::<Answer>(question, 100 * SECOND));
            assert!(asked.as_mut().poll(&mut cx).is_pending());
            assert_eq!(runtime.shutdown(Duration::ZERO).await.unwrap().parked.len(), 1);
            assert!(asked.as_mut().poll(&mut cx).is_ready());
        });
    });
}

#[test]
fn what_waits_and_is_dropped_for_room_is_the_oldest_wherever_it_waits() {
    testing::run(Runtime::builder().queue_size(10), async |kit| {
        let probe = Probe::<Json>::new().takes(100 * SECOND);
        let handler = probe.handler().ordered_by_key().concurrency(1).when_saturated(Share::DropOldest);
        kit.on("a", handler.timeout(1_000 * SECOND))?;
        for (n, key) in [(1, "k"), (2, "l"), (3, "k"), (4, "m"), (5, "k"), (6, "n")] {
            kit.emit(numbered(n).key(key))?;
            kit.advance(Duration::from_millis(1)).await;
        }
        kit.settle().await;
        let mut left = numbers(&probe);
        left.sort_unstable();
        assert_eq!(left, [1, 3, 4, 5, 6], "2 is the oldest that waited");
        Ok(())
    });
}

#[test]
fn strict_ones_that_wait_for_their_turn_make_room_as_well() {
    testing::run(Runtime::builder().queue_size(10).batch_size(1), async |kit| {
        let probe = Probe::<Json>::new();
        kit.on("a", probe.handler().strict_key_order().when_saturated(Share::DropOldest))?;
        kit.emit(Draft::json("other", json!(0)).priority(Priority::Low))?;
        for n in 1..=7 {
            kit.emit(numbered(n).priority(Priority::Critical))?;
        }
        kit.settle().await;
        assert_eq!(numbers(&probe), [3, 4, 5, 6, 7], "the newest are kept");
        Ok(())
    });
}

#[test]
fn those_that_wait_for_a_quota_make_room_as_well() {
    testing::run(Runtime::builder().queue_size(10).tenant_quota(Quota::new().concurrency(1)), async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND);
        kit.on("a", probe.handler().when_saturated(Share::DropOldest))?;
        for n in 1..=7 {
            kit.emit(numbered(n).tenant("t"))?;
        }
        kit.settle().await;
        assert_eq!(numbers(&probe), [1, 4, 5, 6, 7], "the newest are kept");
        Ok(())
    });
}

#[test]
fn deliveries_keep_their_order_between_slots_and_quotas() {
    testing::run(Runtime::builder().tenant_quota(Quota::new().concurrency(1)), async |kit| {
        let probe = Probe::<Json>::new().takes(10 * SECOND);
        kit.on("a", probe.handler().concurrency(1))?;
        kit.on("b", Probe::<Json>::new().takes(15 * SECOND).handler())?;
        // Somebody else has the only slot; 1 waits for it.
        kit.emit(numbered(0).tenant("u"))?;
        kit.emit(numbered(1).tenant("t"))?;
        kit.advance(SECOND).await;
        // Now the tenant's quota is used elsewhere, so 2 waits for that.
        kit.emit(Draft::json("b", json!(0)).tenant("t"))?;
        kit.emit(numbered(2).tenant("t"))?;
        kit.settle().await;
        assert_eq!(numbers(&probe), [0, 1, 2]);
        Ok(())
    });
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "held")]
struct Holding {
    #[serde(skip)]
    token: Option<Arc<()>>,
}

#[test]
fn a_panic_of_a_handler_on_another_thread_leaves_nothing_behind() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let token = Arc::new(());
    tokio.block_on(async {
        let runtime = Runtime::builder().build().unwrap();
        runtime.on("held", millstream::blocking(|_: Arc<Holding>| -> () { panic!("no") })).unwrap();
        runtime
            .on("held", (|held: Arc<Holding>| async move { assert!(held.token.is_none(), "no") }).spawned())
            .unwrap();
        runtime.emit(Holding { token: Some(Arc::clone(&token)) }).unwrap();
        runtime.process().await.unwrap();
        assert_eq!(runtime.stats().deliveries.panics, 2);
        runtime.purge(&DeadLetterFilter::all());
        runtime.shutdown(Duration::ZERO).await.unwrap();
    });
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn who_waits_for_room_is_not_dropped_by_the_overflow_policy() {
    for policy in [Overflow::DropNewest, Overflow::DropOldest] {
        testing::run(Runtime::builder().queue_size(1).overflow(policy), async |kit| {
            let probe = Probe::<Json>::new();
            kit.on("a", probe.handler())?;
            kit.emit(numbered(1))?;
            let (receipt, processed) = tokio::join!(kit.emit_wait(numbered(2)), kit.process());
            assert_eq!((receipt?.fate(), processed?.routed > 0), (Fate::Queued, true));
            kit.settle().await;
            assert_eq!((numbers(&probe), kit.stats().events.dropped.total()), (vec![1, 2], 0));
            let runtime = kit.runtime().clone();
            kit.on("inside", move || {
                let runtime = runtime.clone();
                async move {
                    let refused = runtime.emit_wait(numbered(3)).await.map_err(|error| error.reason);
                    assert_eq!(refused.err(), Some(Refusal::WouldDeadlock));
                }
            })?;
            kit.emit(Draft::json("inside", json!(1)))?;
            kit.settle().await;
            kit.assert_no_dead_letters();
            Ok(())
        });
    }
}

#[test]
fn times_without_an_end_are_as_good_as_never() {
    testing::run(Runtime::builder().operation_timeout(Duration::MAX), async |kit| {
        kit.on("a", (|| async {}).timeout(Duration::MAX))?;
        let fails = Probe::<Json>::new().fails(1);
        kit.on("b", fails.handler().retry(Retry::fixed(Duration::MAX).attempts(2)))?;
        kit.on("c", Probe::<Json>::new().hangs().handler())?;
        kit.emit(numbered(1))?;
        kit.emit(numbered(2).delay(Duration::MAX))?;
        kit.emit(Draft::json("b", json!(1)))?;
        kit.emit(Draft::json("c", json!(1)))?;
        kit.advance(3_600 * SECOND).await;
        assert_eq!((kit.stats().deliveries.waiting, kit.stats().deliveries.in_flight), (1, 1));
        let asked = kit.request::<Answer>(Draft::json("c", json!(1)), Duration::MAX);
        assert!(asked.now_or_never().is_none());
        assert!(kit.shutdown(Duration::MAX).now_or_never().is_none());
        let ended = kit.shutdown(Duration::MAX);
        assert!(tokio::time::timeout(SECOND, ended).await.is_err());
        Ok(())
    });
}

#[test]
fn a_runtime_may_be_driven_on_one_tokio_runtime_after_another() {
    within_ten_seconds(|| {
        let build = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let runtime = Runtime::builder().build().unwrap();
        let failed = Arc::new(AtomicBool::new(false));
        let fails = move || {
            let is_second = failed.swap(true, Ordering::Relaxed);
            async move { if is_second { Ok(()) } else { Err(HandlerError::transient("again")) } }
        };
        runtime.on("a", fails.retry(Retry::fixed(Duration::from_millis(300)).attempts(2))).unwrap();
        let first = build();
        first.block_on(async {
            runtime.emit(numbered(1)).unwrap();
            assert!(tokio::time::timeout(Duration::from_millis(20), runtime.process()).await.is_err());
        });
        build().block_on(async { runtime.process().await.unwrap() });
        drop(first);
        assert_eq!(runtime.stats().deliveries.handled, 1);
    });
}

#[test]
fn a_handle_of_a_runtime_that_is_gone_takes_nothing() {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio.block_on(async {
        let kept = Arc::new(Mutex::new(None));
        let sink = Arc::clone(&kept);
        let runtime = Runtime::builder().build().unwrap();
        runtime
            .on("a", move |context: Context| {
                *sink.lock().unwrap() = Some(context.handle());
                std::future::ready(())
            })
            .unwrap();
        runtime.emit(numbered(1)).unwrap();
        runtime.process().await.unwrap();
        drop(runtime);
        let handle = kept.lock().unwrap().take().unwrap();
        let refused = handle.emit(numbered(2)).map_err(|error| error.reason);
        assert!(matches!(refused, Err(Refusal::Closed { .. })), "nobody will ever handle it: {refused:?}");
    });
}

#[test]
fn a_waker_is_not_dropped_under_the_lock() {
    struct Looks(Runtime);
    impl Wake for Looks {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Looks {
        fn drop(&mut self) {
            assert!(self.0.stats().balances());
        }
    }
    within_ten_seconds(|| {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tokio.block_on(async {
            let runtime = Runtime::builder().build().unwrap();
            let mut run = Box::pin(runtime.run());
            let waker = Waker::from(Arc::new(Looks(runtime.clone())));
            assert!(run.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
            drop(run);
            drop(waker);
            let mut run = Box::pin(runtime.run());
            poll_fn(|cx| {
                assert!(run.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        });
    });
}

// Not in virtual time, in which a store is done at once.
#[tokio::test]
async fn a_delayed_event_that_waited_for_room_on_its_way_to_the_store_gives_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = millstream::store::Redb::open(folder.path().join("events.redb")).unwrap();
    let builder = Runtime::builder().store(store).queue_size(1).tenant_quota(Quota::new().queue(1));
    let runtime = builder.build().unwrap();
    runtime.on("a", (|| async {}).named("a")).unwrap();
    runtime.process().await.unwrap();
    let waits = (0..20).map(|n| {
        let event = numbered(n).tenant("t");
        runtime.emit_wait(if n % 2 == 0 { event } else { event.delay(3_600 * SECOND) })
    });
    let receipts = futures::future::join_all(waits).await;
    for (n, receipt) in receipts.into_iter().enumerate() {
        let receipt = receipt.unwrap();
        assert_eq!(matches!(receipt.fate(), Fate::Delayed { .. }), n % 2 == 1);
        receipt.await.unwrap();
    }
    runtime.process().await.unwrap();
    assert_eq!((runtime.stats().held, runtime.stats().events.delayed), (0, 10));
    assert!(runtime.stats().balances());
    runtime.emit(numbered(99).tenant("t")).unwrap();
    runtime.shutdown(SECOND).await.unwrap();
}

#[test]
fn what_is_parked_behind_a_halted_key_makes_room_as_well() {
    testing::run(Runtime::builder().queue_size(10), async |kit| {
        let probe = Probe::<Json>::new().fails(1);
        let handler = probe.handler().ordered_by_key().halt_key_on_dead().when_saturated(Share::DropOldest);
        kit.on("a", handler)?;
        for n in 1..=8 {
            kit.emit(numbered(n).key("k"))?;
            kit.settle().await;
        }
        assert_eq!((kit.stats().deliveries.parked, kit.stats().deliveries.dropped), (5, 2));
        kit.replay(&Replay::all());
        kit.settle().await;
        assert_eq!(numbers(&probe), [1, 1, 4, 5, 6, 7, 8]);
        Ok(())
    });
}

#[test]
fn a_shutdown_under_load_accounts_for_every_event() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap();
    tokio.block_on(async {
        for round in 0..10 {
            let runtime = Runtime::builder().queue_size(50).batch_size(7).build().unwrap();
            let handler = |Json(n): Json| async move {
                if n.as_u64().is_some_and(|n| n % 10 == 0) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let keyed = handler.concurrency(20).ordered_by_key();
            runtime.on("a", keyed).unwrap();
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..3 {
                let runtime = runtime.clone();
                tasks.spawn(async move {
                    let mut accepted = 0;
                    while runtime.emit_wait(numbered(accepted).key(accepted % 5)).await.is_ok() {
                        accepted += 1;
                    }
                    accepted
                });
            }
            let driver = {
                let runtime = runtime.clone();
                async move { runtime.run().await.unwrap() }
            };
            let work = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                runtime.shutdown(Duration::from_millis(round * 3)).await.unwrap()
            };
            let (driven, report) = tokio::join!(driver, work);
            let accepted: u32 = tasks.join_all().await.into_iter().sum();
            let left = report.parked.len() + report.abandoned.len();
            let stats = runtime.stats();
            assert_eq!(u64::from(accepted), stats.deliveries.handled + left as u64, "{stats:?}");
            assert_eq!((stats.held, driven.parked.len()), (0, report.parked.len()));
            assert!(stats.balances());
        }
    });
}

/// Panics when it is dropped, on a runtime that another one's handler drives.
#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "grenade")]
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a grenade went off");
    }
}

#[tokio::test]
async fn a_runtime_inside_of_another_does_not_take_its_counts() {
    let (outer, inner) = (Runtime::builder().build().unwrap(), Runtime::builder().build().unwrap());
    inner.on("a", || async {}).unwrap();
    outer.on("grenade", || async {}).unwrap();
    let driven = inner.clone();
    let drives = move || {
        let inner = driven.clone();
        async move {
            inner.emit(numbered(1)).unwrap();
            inner.process().await.unwrap();
        }
    };
    outer.on("a", drives).unwrap();
    outer.emit(Grenade).unwrap();
    outer.emit(numbered(1)).unwrap();
    outer.process().await.unwrap();
    assert_eq!((outer.stats().deliveries.panics, inner.stats().deliveries.panics), (1, 0));
}
