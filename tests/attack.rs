//! Interleavings, cancellations and panics that an engine gets wrong first.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::sync_channel,
    },
    task::Poll,
    time::Duration,
};

use futures::FutureExt;
use millstream::{
    CancellationToken, Context, DeadLetterFilter, Draft, Event, EventStream, Flow, Handler, HandlerError, Json,
    Overflow, Priority, Quota, Refusal, Replay, RequestError, Retry, Runtime,
    testing::{self, Probe, What},
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

fn numbered(n: u32) -> Draft {
    Draft::json("a", json!(n))
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

#[test]
fn room_that_is_granted_too_late_goes_back() {
    within_ten_seconds(|| {
        testing::run(Runtime::builder().queue_size(1), async |kit| {
            kit.on("a", || async {})?;
            kit.emit(numbered(1))?;
            let mut waiting = pin!(kit.emit_wait(numbered(2)));
            assert!(waiting.as_mut().now_or_never().is_none());
            kit.process().await?;
            kit.shutdown(Duration::ZERO).await?;
            assert!(matches!(waiting.await.unwrap_err().reason, Refusal::Closed { .. }));
            assert_eq!(kit.stats().held, 0);
            Ok(())
        });
    });
}

#[test]
fn a_timed_out_attempt_is_dropped_before_the_next_one_starts() {
    testing::run(Runtime::builder(), async |kit| {
        let (slots, keys) = (Probe::<Json>::new().hangs(), Probe::<Json>::new().hangs());
        kit.on("a", slots.handler().concurrency(1).timeout(SECOND))?;
        kit.on("a", keys.handler().ordered_by_key().timeout(SECOND))?;
        for n in 0..3 {
            kit.emit(numbered(n).key("k"))?;
        }
        kit.settle().await;
        assert_eq!((slots.attempts(), keys.attempts()), (3, 3));
        assert_eq!((slots.most_running(), keys.most_running()), (1, 1));
        Ok(())
    });
}

#[test]
fn events_with_one_id_and_one_due_time_are_all_kept_in_their_order() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new();
        kit.on("a", probe.handler())?;
        let at = kit.now() + SECOND;
        let early = kit.create(numbered(1)).at(at);
        kit.emit(numbered(0).at(at))?;
        kit.emit(early.clone())?;
        kit.emit(early)?;
        assert_eq!(kit.stats().events.delayed, 3);
        kit.assert_balanced();
        kit.advance(SECOND).await;
        assert_eq!(probe.received(), [0, 1, 1].map(|n| Json(n.into())));
        Ok(())
    });
}

#[test]
fn a_shutdown_keeps_its_grace_while_somebody_processes() {
    testing::run(Runtime::builder().operation_timeout(3_600 * SECOND), async |kit| {
        let hung = Probe::<Json>::new().hangs();
        kit.on("a", hung.handler())?;
        kit.emit(numbered(1))?;
        let (processed, ended) = tokio::join!(kit.process(), kit.shutdown(SECOND));
        assert_eq!((processed?.handled, ended?.abandoned.len()), (0, 1));
        assert_eq!(kit.elapsed(), SECOND);
        Ok(())
    });
}

#[test]
fn a_second_shutdown_does_not_shorten_the_grace_of_the_first() {
    testing::run(Runtime::builder(), async |kit| {
        let slow = Probe::<Json>::new().takes(5 * SECOND);
        kit.on("a", slow.handler())?;
        kit.emit(numbered(1))?;
        let (first, second) = tokio::join!(kit.shutdown(20 * SECOND), kit.shutdown(SECOND));
        assert_eq!((first?.handled, second?.handled), (1, 1));
        Ok(())
    });
}

#[test]
fn the_next_shutdown_ends_what_a_dropped_one_began() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("a", Probe::<Json>::new().hangs().handler().timeout(3_600 * SECOND))?;
        kit.emit(numbered(1))?;
        assert!(tokio::time::timeout(SECOND, kit.shutdown(20 * SECOND)).await.is_err());
        assert_eq!(kit.shutdown(SECOND).await?.abandoned.len(), 1);
        assert_eq!(kit.elapsed(), 2 * SECOND);
        Ok(())
    });
}

#[test]
fn strict_order_holds_from_the_first_batch_on() {
    testing::run(Runtime::builder().batch_size(1), async |kit| {
        let probe = Probe::<Json>::new();
        kit.on("a", probe.handler().strict_key_order())?;
        kit.emit(numbered(1).key("k").priority(Priority::Low))?;
        kit.emit(numbered(2).key("k").priority(Priority::Critical))?;
        kit.settle().await;
        assert_eq!(probe.received(), [1, 2].map(|n| Json(n.into())));
        Ok(())
    });
}

#[test]
fn slots_that_are_all_reserved_leave_none_for_the_other_classes_and_are_refused() {
    testing::run(Runtime::builder(), async |kit| {
        let all = (|| async {}).concurrency(1).reserve(Priority::Critical, 1);
        assert!(kit.on("a", all).is_err(), "a normal event would be blocked for ever");
        Ok(())
    });
}

#[test]
fn a_tenants_free_place_goes_to_whoever_can_use_it() {
    testing::run(Runtime::builder().tenant_quota(Quota::new().concurrency(1)), async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND);
        kit.on("slow", Probe::<Json>::new().hangs().handler().concurrency(1).timeout(60 * SECOND))?;
        kit.on("quick", probe.handler())?;
        let quick = || Draft::json("quick", json!(1)).tenant("t");
        kit.emit(Draft::json("slow", json!(1)))?;
        kit.emit(quick())?;
        kit.emit(Draft::json("slow", json!(2)).tenant("t"))?;
        kit.emit(quick())?;
        kit.advance(2 * SECOND).await;
        assert_eq!(probe.attempts(), 2, "the slow subscription is nobody else's concern");
        kit.advance(120 * SECOND).await;
        assert_eq!(kit.stats().deliveries.open(), 0);
        Ok(())
    });
}

#[test]
fn a_blocked_delivery_whose_token_was_cancelled_never_starts() {
    testing::run(Runtime::builder(), async |kit| {
        let (slots, keys) = (Probe::<Json>::new().takes(SECOND), Probe::<Json>::new().takes(SECOND));
        kit.on("a", slots.handler().concurrency(1))?;
        kit.on("a", keys.handler().ordered_by_key())?;
        let token = CancellationToken::new();
        kit.emit(numbered(1).key("k"))?;
        for n in 2..5 {
            kit.emit(numbered(n).key("k").cancelled_by(&token))?;
        }
        kit.emit(numbered(5).key("k"))?;
        drop(tokio::time::timeout(SECOND / 2, kit.process()).await);
        token.cancel();
        kit.settle().await;
        let left = [1, 5].map(|n| Json(n.into()));
        assert_eq!((slots.received(), keys.received()), (left.to_vec(), left.to_vec()));
        assert_eq!(kit.stats().deliveries.cancelled, 6);
        Ok(())
    });
}

#[test]
fn a_replay_that_a_running_handler_asks_for_begins_at_once() {
    testing::run(Runtime::builder(), async |kit| {
        let mended = Probe::<Json>::new().fails(1);
        kit.on("dead", mended.handler())?;
        kit.emit(Draft::json("dead", json!(1)))?;
        kit.settle().await;
        let runtime = kit.runtime().clone();
        kit.on("a", move || {
            let (runtime, mut polls) = (runtime.clone(), 0);
            async move {
                // Polled for whatever reason, as a part of a `join!` is.
                poll_fn(|_| {
                    polls += 1;
                    if polls == 1 { Poll::Pending } else { Poll::Ready(()) }
                })
                .await;
                runtime.replay(&Replay::all());
                tokio::time::sleep(10 * SECOND).await;
            }
        })?;
        kit.emit(numbered(1))?;
        drop(tokio::time::timeout(SECOND, kit.process()).await);
        let attempts = kit.timeline();
        let second = attempts.of("dead").filter(|moment| matches!(moment.what, What::Started { .. })).nth(1);
        assert_eq!(second.map(|moment| moment.after), Some(Duration::ZERO));
        kit.settle().await;
        Ok(())
    });
}

/// Calls a function when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn letters_that_a_dying_handler_wants_replayed_stay() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("dead", || async { Err::<(), _>("no") })?;
        let runtime = kit.runtime().clone();
        kit.on("a", move || {
            let runtime = runtime.clone();
            let last_act = OnDrop(move || assert_eq!(runtime.replay(&Replay::all()).kept, 0));
            async move {
                let _last_act = last_act;
                pending::<()>().await;
            }
        })?;
        kit.emit(Draft::json("dead", json!(1)))?;
        kit.emit(numbered(1))?;
        kit.shutdown(Duration::ZERO).await?;
        assert_eq!(kit.stats().dead_letters, 1);
        kit.assert_balanced();
        Ok(())
    });
}

#[test]
fn a_key_whose_dead_letter_had_to_go_is_not_halted_for_ever() {
    testing::run(Runtime::builder().dead_letter_size(1), async |kit| {
        let probe = Probe::<Json>::new().fails(2);
        kit.on("a", probe.handler().ordered_by_key().halt_key_on_dead())?;
        for (n, key) in [(1, "k"), (2, "l"), (3, "k")] {
            kit.emit(numbered(n).key(key))?;
        }
        kit.settle().await;
        assert_eq!(probe.received(), [1, 2, 3].map(|n| Json(n.into())));
        assert_eq!(kit.stats().deliveries.parked, 0);
        Ok(())
    });
}

#[test]
fn a_replay_that_is_cancelled_lets_its_halted_key_go_on() {
    for by_runtime in [true, false] {
        testing::run(Runtime::builder(), async |kit| {
            let probe = Probe::<Json>::new().fails(1);
            kit.on("a", probe.handler().ordered_by_key().halt_key_on_dead())?;
            let token = CancellationToken::new();
            kit.emit(numbered(1).key("k").cancelled_by(&token))?;
            kit.emit(numbered(2).key("k"))?;
            kit.settle().await;
            assert_eq!(kit.stats().deliveries.parked, 1);
            kit.replay(&Replay::all());
            if by_runtime {
                kit.cancel(&token);
            } else {
                token.cancel();
            }
            kit.settle().await;
            assert_eq!(probe.received(), [1, 2].map(|n| Json(n.into())));
            assert_eq!((kit.stats().deliveries.parked, kit.stats().deliveries.cancelled), (0, 1));
            Ok(())
        });
    }
}

#[test]
fn drop_oldest_spares_the_quiet_tenant() {
    testing::run(Runtime::builder().queue_size(3).overflow(Overflow::DropOldest), async |kit| {
        let probe = Probe::<Json>::new();
        kit.on("a", probe.handler())?;
        for (n, tenant) in [(1, "loud"), (2, "loud"), (3, "quiet"), (4, "loud"), (5, "loud")] {
            kit.emit(numbered(n).tenant(tenant))?;
        }
        kit.settle().await;
        let mut received = probe.received().into_iter().map(|Json(n)| n.as_u64()).collect::<Vec<_>>();
        received.sort_unstable();
        assert_eq!(received, [3, 4, 5].map(Some), "the oldest went");
        Ok(())
    });
}

static FAREWELL: Mutex<Option<Runtime>> = Mutex::new(None);

/// An event that looks at the runtime when it is dropped.
#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "farewell")]
struct Farewell {
    is_armed: bool,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if self.is_armed {
            let runtime = FAREWELL.lock().unwrap_or_else(PoisonError::into_inner).clone();
            assert!(runtime.is_none_or(|runtime| runtime.stats().balances()));
        }
    }
}

#[test]
fn no_event_is_dropped_under_the_lock() {
    within_ten_seconds(|| {
        for policy in [Overflow::DropOldest, Overflow::DropNewest] {
            // Not by the test kit, whose timeline keeps every event.
            let runtime = Runtime::builder().queue_size(1).overflow(policy).build().unwrap();
            let before = FAREWELL.lock().unwrap().replace(runtime.clone());
            drop(before);
            let armed = || Farewell { is_armed: true };
            runtime.emit(armed()).unwrap();
            runtime.emit(armed()).unwrap();
            runtime.emit_all([armed()]).unwrap();
            assert_eq!(runtime.stats().events.dropped.overflow, 2);
            let token = CancellationToken::new();
            runtime.emit(Draft::new(armed()).delay(SECOND).cancelled_by(&token)).unwrap();
            assert_eq!(runtime.cancel(&token), 1);
            runtime.emit(Draft::new(armed()).delay(SECOND)).unwrap();
        }
    });
}

#[test]
fn waiting_for_room_and_delaying_do_not_evade_a_tenants_rate() {
    testing::run(Runtime::builder().tenant_quota(Quota::new().rate(1, 1).queue(1)), async |kit| {
        kit.on("a", || async {})?;
        let driver = kit.run();
        let work = async {
            let waits = (0..5).map(|n| kit.emit_wait(numbered(n).tenant("t")));
            futures::future::try_join_all(waits).await?;
            assert!(kit.elapsed() >= 4 * SECOND, "{:?}", kit.elapsed());
            let later = kit.emit(numbered(6).tenant("t").delay(SECOND));
            assert!(matches!(later.unwrap_err().reason, Refusal::RateExceeded { .. }));
            kit.shutdown(SECOND).await?;
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        tokio::join!(driver, work).1
    });
}

#[test]
fn an_emit_that_waits_and_is_accepted_was_not_refused() {
    testing::run(Runtime::builder().queue_size(1), async |kit| {
        kit.on("a", || async {})?;
        kit.emit(numbered(1))?;
        let (waited, processed) = tokio::join!(kit.emit_wait(numbered(2)), kit.process());
        assert_eq!(waited.is_ok(), processed.is_ok());
        assert_eq!(kit.stats().events.refused, 0);
        kit.settle().await;
        Ok(())
    });
}

#[test]
fn who_waits_to_delay_an_event_is_told_when_another_is_cancelled() {
    testing::run(Runtime::builder().delayed_size(1), async |kit| {
        let token = CancellationToken::new();
        kit.emit(numbered(1).delay(3_600 * SECOND).cancelled_by(&token))?;
        let driver = kit.run();
        let work = async {
            let cancelled = async {
                tokio::time::sleep(SECOND).await;
                kit.cancel(&token);
            };
            let wait = tokio::time::timeout(2 * SECOND, kit.emit_wait(numbered(2).delay(SECOND)));
            let (waited, ()) = tokio::join!(wait, cancelled);
            assert!(waited.is_ok(), "there is room and nobody said so");
            kit.shutdown(SECOND).await?;
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        tokio::join!(driver, work).1
    });
}

/// An event that cannot even be looked at.
#[derive(Event, Clone, Deserialize)]
#[event(name = "cursed")]
struct Cursed;

impl Serialize for Cursed {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        unreachable!("cursed")
    }
}

#[test]
fn a_returned_event_that_panics_while_it_is_measured_fails_its_delivery() {
    testing::run(Runtime::builder().measure_typed_events(true), async |kit| {
        kit.on("a", || async { Cursed })?;
        kit.emit(numbered(1))?;
        kit.settle().await;
        assert_eq!((kit.stats().deliveries.dead, kit.stats().deliveries.panics), (1, 1));
        Ok(())
    });
}

#[test]
fn a_filter_that_panics_is_not_retried_into_the_handler() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new();
        let panics = |_: &_| panic!("no");
        kit.on("a", probe.handler().filter(panics).retry(Retry::fixed(SECOND).attempts(3)))?;
        kit.emit(numbered(1))?;
        kit.settle().await;
        assert_eq!((probe.attempts(), kit.stats().deliveries.dead), (0, 1));
        Ok(())
    });
}

#[test]
fn a_handler_that_takes_another_back_spares_it_the_rest_of_the_batch() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new();
        let other = kit.on("a", probe.handler().priority(-1))?;
        let runtime = kit.runtime().clone();
        kit.on("a", move || {
            runtime.off(other);
            std::future::ready(())
        })?;
        kit.emit_all((0..10).map(numbered))?;
        kit.settle().await;
        assert!(probe.attempts() <= 1, "{}", probe.attempts());
        Ok(())
    });
}

#[test]
fn health_of_a_queue_without_an_end_is_no_overflow() {
    let runtime = Runtime::builder().queue_size(usize::MAX).build().unwrap();
    assert!(runtime.health().findings.is_empty());
}

#[test]
fn an_effect_key_is_the_published_hash_of_its_parts() {
    testing::run(Runtime::builder(), async |kit| {
        let seen = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&seen);
        let keep = move |context: Context| {
            *sink.lock().unwrap() = context.effect_key("charge");
            std::future::ready(())
        };
        kit.on("a", keep.named("bank"))?;
        let id = kit.emit(numbered(1))?.id();
        kit.settle().await;
        let mut bytes = id.as_u128().to_be_bytes().to_vec();
        bytes.extend(b"bank\xffcharge\xff");
        let hash = bytes
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        assert_eq!(*seen.lock().unwrap(), format!("{id}-{hash:016x}"));
        Ok(())
    });
}

#[test]
fn a_handler_that_holds_a_stream_may_be_taken_back_before_it_was_ever_driven() {
    within_ten_seconds(|| {
        let runtime = Runtime::builder().build().unwrap();
        let stream: Flow<EventStream<Json>> = runtime.stream("b");
        let stream = Mutex::new(stream);
        let id = runtime
            .on("a", move || {
                let waiting = stream.lock().unwrap().head().len();
                async move { assert_eq!(waiting, 0) }
            })
            .unwrap();
        assert!(runtime.off(id));
        assert_eq!(runtime.describe().subscriptions.len(), 0);
    });
}

#[test]
fn handlers_that_delay_more_and_more_meet_the_bound() {
    testing::run(Runtime::builder().delayed_size(100), async |kit| {
        let twice = || async { [0, 1].map(|n| numbered(n).delay(SECOND)) };
        kit.on("a", twice.concurrency(1_000))?;
        kit.emit(numbered(0))?;
        for _ in 0..12 {
            kit.advance(SECOND).await;
            assert!(kit.stats().events.delayed <= 100, "{}", kit.stats().events.delayed);
        }
        assert!(kit.stats().events.dropped.loops > 0 && kit.stats().dead_letters > 0);
        Ok(())
    });
}

#[derive(Event, Clone, Serialize, Deserialize, Debug)]
#[event(name = "answer")]
struct Answer;

#[test]
fn a_request_that_waits_for_its_own_tenants_quota_fails_at_once() {
    testing::run(Runtime::builder().tenant_quota(Quota::new().concurrency(1)), async |kit| {
        let seen = Arc::new(Mutex::new(None));
        let sink = Arc::clone(&seen);
        kit.on("a", move |context: Context| {
            let sink = Arc::clone(&sink);
            async move {
                let answer = context.request::<Answer>(Draft::json("ask", json!(1)), 5 * SECOND).await;
                *sink.lock().unwrap() = Some(answer);
            }
        })?;
        kit.on("ask", || async { Answer })?;
        kit.emit(numbered(1).tenant("t"))?;
        kit.settle().await;
        assert!(matches!(seen.lock().unwrap().take(), Some(Err(RequestError::Deadlock { .. }))));
        assert_eq!(kit.elapsed(), Duration::ZERO);
        Ok(())
    });
}

#[test]
fn a_handler_that_is_a_task_or_blocks_emits_with_its_cause_and_may_not_wait_for_itself() {
    testing::run(Runtime::builder(), async |kit| {
        let (task, blocks) = (kit.runtime().clone(), kit.runtime().clone());
        let emits = move || {
            let runtime = task.clone();
            async move {
                assert!(runtime.process().await.is_err());
                runtime.emit(Draft::json("b", json!(1))).map(drop).map_err(|error| error.reason)
            }
        };
        kit.on("a", emits.spawned())?;
        kit.on("a", millstream::blocking(move || blocks.emit(Draft::json("b", json!(2))).map(drop).unwrap()))?;
        let depths = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&depths);
        kit.on("b", move |context: Context| {
            sink.lock().unwrap().push(context.event().depth());
            std::future::ready(())
        })?;
        kit.emit(numbered(1))?;
        kit.settle().await;
        assert_eq!(*depths.lock().unwrap(), [1, 1]);
        kit.assert_no_dead_letters();
        Ok(())
    });
}

#[test]
fn retries_without_a_delay_leave_others_their_turn() {
    within_ten_seconds(|| {
        testing::run(Runtime::builder(), async |kit| {
            let stop = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&stop);
            let fails = move || {
                let is_over = seen.load(Ordering::Relaxed);
                async move { if is_over { Ok(()) } else { Err(HandlerError::transient("again")) } }
            };
            kit.on("a", fails.retry(Retry::fixed(Duration::ZERO).attempts(u32::MAX)))?;
            kit.emit(numbered(1))?;
            let others = async {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                stop.store(true, Ordering::Relaxed);
            };
            tokio::join!(kit.process(), others).0?;
            assert_eq!(kit.stats().deliveries.handled, 1);
            Ok(())
        });
    });
}

#[test]
fn an_idle_run_is_not_polled() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("a", Probe::<Json>::new().hangs().handler())?;
        let polls = Arc::new(AtomicU32::new(0));
        let (runtime, count) = (kit.runtime().clone(), Arc::clone(&polls));
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(async move {
            let mut run = pin!(runtime.run());
            poll_fn(|cx| {
                count.fetch_add(1, Ordering::Relaxed);
                run.as_mut().poll(cx).map(drop)
            })
            .await;
        });
        kit.emit(numbered(1))?;
        kit.emit(numbered(2).delay(25 * SECOND))?;
        tokio::time::sleep(SECOND).await;
        let before = polls.load(Ordering::Relaxed);
        tokio::time::sleep(20 * SECOND).await;
        assert_eq!(polls.load(Ordering::Relaxed), before);
        kit.shutdown(Duration::ZERO).await?;
        driver.join_all().await;
        Ok(())
    });
}

#[test]
fn a_context_takes_no_more_than_a_handler_may_return() {
    testing::run(Runtime::builder(), async |kit| {
        let pours = |context: Context| async move {
            for _ in 0..100 {
                context.emit(numbered(1)).map_err(|error| HandlerError::permanent(error.reason))?;
            }
            Ok::<(), HandlerError>(())
        };
        kit.on("pour", pours.max_outputs(10))?;
        kit.emit(Draft::json("pour", json!(1)))?;
        kit.settle().await;
        assert_eq!((kit.stats().deliveries.dead, kit.stats().events.emitted), (1, 1));
        let reason = kit.dead_letters(&DeadLetterFilter::all())[0].reason();
        assert!(reason.contains("`a`") && reason.contains("10"), "{reason}");
        Ok(())
    });
}

#[test]
fn ten_thousand_subscriptions_of_one_pattern_are_made_driven_and_taken_back() {
    testing::run(Runtime::builder().queue_size(100_000), async |kit| {
        let ids = (0..10_000).map(|_| kit.on("a", || async {})).collect::<Result<Vec<_>, _>>()?;
        let names = kit.describe().subscriptions.into_iter().map(|subscription| subscription.name);
        assert_eq!(names.skip(1).take(2).collect::<Vec<_>>(), ["a#2", "a#3"]);
        kit.emit(numbered(1))?;
        kit.settle().await;
        assert_eq!(kit.stats().deliveries.handled, 10_000);
        assert!(kit.off(ids[1]));
        assert_eq!(kit.clear(), 9_999);
        Ok(())
    });
}
