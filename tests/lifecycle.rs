//! process, run, shutdown: who drives may go, and nothing is lost.

use std::time::Duration;

use millstream::{
    Context, Draft, Handler, HealthStatus, Json, OnError, Phase, Retry, Runtime,
    testing::{self, Probe, TestKit},
};
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

fn numbered(n: u32) -> Draft {
    Draft::json("a", json!(n))
}

#[test]
fn process_handles_what_was_emitted_and_reports_it() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("a", || async { Draft::json("b", json!(1)) })?;
        kit.on("b", || async { Err::<(), _>("no") })?;
        kit.emit_all([numbered(1), numbered(2)])?;
        let report = kit.process().await?;
        assert_eq!((report.routed, report.handled, report.dead, report.next_deadline), (4, 2, 2, None));
        assert_eq!(kit.process().await?.handled, 0);
        Ok(())
    });
}

#[test]
fn a_process_that_is_dropped_loses_nothing() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND).fails(1);
        kit.on("a", probe.handler().concurrency(2).retry(Retry::fixed(SECOND)))?;
        for n in 0..5 {
            kit.emit(numbered(n))?;
        }
        for _ in 0..40 {
            drop(tokio::time::timeout(SECOND / 10, kit.process()).await);
        }
        kit.settle().await;
        assert_eq!((probe.attempts(), kit.stats().deliveries.handled), (6, 5));
        Ok(())
    });
}

#[test]
fn several_may_process_at_once_and_all_see_the_end() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND);
        kit.on("a", probe.handler())?;
        kit.emit(numbered(1))?;
        let (one, two, three) = tokio::join!(kit.process(), kit.process(), kit.process());
        for report in [one?, two?, three?] {
            assert_eq!(report.handled, 1);
        }
        Ok(())
    });
}

#[test]
fn process_beside_run_waits_for_rest() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND);
        kit.on("a", probe.handler())?;
        let work = async {
            kit.emit(numbered(1))?;
            assert_eq!(kit.process().await?.handled, 1);
            kit.shutdown(SECOND).await?;
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        let (ran, worked) = tokio::join!(kit.run(), work);
        worked?;
        assert_eq!(ran?.parked.len(), 0);
        Ok(())
    });
}

#[test]
fn another_driver_goes_on_where_one_was_dropped() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND);
        kit.on("a", probe.handler())?;
        kit.emit(numbered(1))?;
        assert!(tokio::time::timeout(SECOND / 2, kit.run()).await.is_err(), "it was dropped in the middle");
        kit.settle().await;
        assert_eq!((probe.attempts(), kit.elapsed()), (1, SECOND));
        Ok(())
    });
}

#[test]
fn shutdown_drains_within_its_grace() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND);
        kit.on("a", probe.handler().concurrency(1))?;
        for n in 0..3 {
            kit.emit(numbered(n))?;
        }
        let report = kit.shutdown(10 * SECOND).await?;
        assert_eq!((report.handled, report.parked.len(), report.abandoned.len()), (3, 0, 0));
        assert_eq!((kit.elapsed(), kit.phase()), (3 * SECOND, Phase::Stopped));
        assert_eq!(kit.on("a", || async {}), Err(OnError::Stopped));
        assert_eq!(kit.health().status, HealthStatus::Down);
        Ok(())
    });
}

#[test]
fn shutdown_hands_back_what_the_grace_was_too_short_for() {
    testing::run(Runtime::builder().batch_size(2), async |kit| {
        let (slow, failing) = (Probe::<Json>::new().takes(3 * SECOND), Probe::<Json>::new().always_fails());
        kit.on("a", slow.handler().concurrency(2))?;
        kit.on("b", failing.handler().retry(Retry::fixed(100 * SECOND)))?;
        for n in 0..5 {
            kit.emit(numbered(n))?;
        }
        kit.emit(Draft::json("b", json!(10)))?;
        kit.emit(Draft::json("a", json!(11)).delay(50 * SECOND))?;
        let report = kit.shutdown(4 * SECOND).await?;
        let numbers = |events: &[std::sync::Arc<millstream::Envelope>]| {
            let mut numbers: Vec<_> = events.iter().filter_map(|event| event.data().as_json()?.as_u64()).collect();
            numbers.sort_unstable();
            numbers
        };
        assert_eq!(
            (report.handled, numbers(&report.abandoned), numbers(&report.parked)),
            (2, vec![2, 3], vec![4, 10, 11])
        );
        assert_eq!(kit.elapsed(), 4 * SECOND);
        let stats = kit.stats();
        assert_eq!((stats.deliveries.open(), stats.events.queued, stats.events.delayed, stats.held), (0, 0, 0, 0));
        let again = kit.shutdown(SECOND).await?;
        assert_eq!(again.handled, 2, "the same report again");
        Ok(())
    });
}

#[test]
fn a_handler_sees_that_a_shutdowns_grace_is_over() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("a", |context: Context| async move {
            context.cancelled().await;
            Draft::json("cleaned.up", json!(1))
        })?;
        kit.emit(numbered(1))?;
        let report = kit.shutdown(SECOND).await?;
        assert_eq!((kit.elapsed(), report.abandoned.len()), (SECOND, 1), "it had its grace; then it was dropped");
        Ok(())
    });
}

#[test]
fn what_handlers_return_while_draining_is_handled_and_outside_emits_are_refused() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("a", || async {
            tokio::time::sleep(SECOND).await;
            Draft::json("b", json!(1))
        })?;
        let probe = Probe::<Json>::new();
        kit.on("b", probe.handler())?;
        kit.emit(numbered(1))?;
        let outside = async {
            tokio::time::sleep(SECOND / 2).await;
            assert_eq!(kit.phase(), Phase::Draining);
            kit.emit(numbered(2)).unwrap_err().reason
        };
        let (report, refused) = tokio::join!(kit.shutdown(10 * SECOND), outside);
        assert_eq!((report?.handled, probe.attempts()), (2, 1));
        assert_eq!(refused, millstream::Refusal::Closed { phase: "draining" });
        Ok(())
    });
}

#[test]
fn who_waits_for_room_learns_of_the_shutdown() {
    testing::run(Runtime::builder().queue_size(1), async |kit| {
        kit.on("a", Probe::<Json>::new().hangs().handler())?;
        kit.emit(numbered(1))?;
        let (waited, report) = tokio::join!(kit.emit_wait(numbered(2)), kit.shutdown(SECOND));
        assert!(matches!(waited.unwrap_err().reason, millstream::Refusal::Closed { .. }));
        report?;
        Ok(())
    });
}

#[test]
fn a_stopped_runtime_lets_go_of_handlers_that_hold_it() {
    testing::run(Runtime::builder(), async |kit| {
        let held = std::sync::Arc::new(());
        let (runtime, inside) = (kit.runtime().clone(), std::sync::Arc::clone(&held));
        kit.on("a", move || {
            let _both = (&runtime, &inside);
            async {}
        })?;
        kit.settle().await;
        assert_eq!(std::sync::Arc::strong_count(&held), 2);
        kit.shutdown(SECOND).await?;
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
        Ok(())
    });
}

#[test]
fn health_names_what_is_wrong() {
    testing::run(Runtime::builder().queue_size(10), async |kit| {
        assert_eq!(kit.health().status, HealthStatus::Up);
        for n in 0..9 {
            kit.emit(numbered(n))?;
        }
        let health = kit.health();
        assert_eq!(health.status, HealthStatus::Degraded);
        assert!(health.findings[0].contains("holds 9 of 10"), "{health:?}");
        assert!(health.findings[1].contains("nobody drives"), "{health:?}");
        Ok(())
    });
}

#[test]
fn a_loss_is_a_finding_for_five_minutes_and_counted_for_good() {
    testing::run(Runtime::builder().dead_letter_size(1), async |kit| {
        let lose = async || {
            kit.emit(numbered(1)).unwrap();
            kit.settle().await;
            kit.runtime()
                .health()
                .findings
                .iter()
                .filter(|finding| finding.contains("dropped for want of room"))
                .count()
        };
        kit.on("a", || async { Err::<(), _>("no") })?;
        assert_eq!((lose().await, lose().await), (0, 1));
        kit.advance(299 * SECOND).await;
        assert_eq!(kit.health().findings.len(), 1, "{:?}", kit.health());
        kit.advance(SECOND).await;
        assert_eq!((kit.health().status, kit.stats().dead_letters_dropped), (HealthStatus::Up, 1));
        assert_eq!(lose().await, 1, "the next one is a finding again");
        Ok(())
    });
}

#[test]
#[should_panic(expected = "the test failed: subscription `a`: impossible settings: concurrency: 0 would never handle")]
fn a_kit_says_why_a_test_failed() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("a", (|| async {}).concurrency(0))?;
        Ok(())
    });
}

#[test]
fn impossible_settings_are_reported_all_at_once() {
    let builder = Runtime::builder().queue_size(0).batch_size(0).operation_timeout(Duration::ZERO).max_event_size(0);
    let builder = builder.max_events_per_root(0).dead_letter_size(0).tenant_quota(millstream::Quota::new().queue(0));
    let error = builder.reserve(millstream::Priority::High, 1).build().unwrap_err();
    assert_eq!(error.refused().len(), 8, "{error}");
}

#[test]
fn a_runtime_on_several_threads_loses_nothing() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    tokio.block_on(async {
        let runtime = Runtime::builder().queue_size(64).build().unwrap();
        runtime.on("a", || async { Draft::json("b", json!(1)) }).unwrap();
        runtime.on("b", (|| async { tokio::task::yield_now().await }).spawned().concurrency(16)).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        let driver = runtime.clone();
        tasks.spawn(async move { drop(driver.run().await) });
        for _ in 0..4 {
            let runtime = runtime.clone();
            tasks.spawn(async move {
                for n in 0..500 {
                    runtime.emit_wait(numbered(n)).await.unwrap();
                    assert!(runtime.stats().balances(), "at every moment");
                }
            });
        }
        while runtime.stats().events.emitted < 4_000 {
            tokio::task::yield_now().await;
        }
        runtime.process().await.unwrap();
        let stats = runtime.stats();
        assert_eq!((stats.deliveries.handled, stats.held), (4_000, 0));
        assert!(stats.balances());
        runtime.shutdown(SECOND).await.unwrap();
        tasks.join_all().await;
    });
}

#[test]
fn the_watchdog_names_a_handler_that_blocks_its_thread() {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio.block_on(async {
        let runtime = Runtime::builder().build().unwrap();
        let seen = runtime.clone();
        let blocks = move || {
            while seen.stats().slow_polls == 0 {
                std::hint::spin_loop();
            }
            async {}
        };
        runtime.on("a", blocks.named("blocks")).unwrap();
        runtime.emit(numbered(1)).unwrap();
        runtime.process().await.unwrap();
        let health = runtime.health();
        assert!(health.findings.iter().any(|finding| finding.contains("`blocks`")), "{health:?}");
        runtime.shutdown(SECOND).await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn a_kit_works_inside_a_paused_tokio_test() {
    let kit = TestKit::new(Runtime::builder()).unwrap();
    let probe = Probe::<Json>::new().fails(1);
    kit.on("a", probe.handler().retry(Retry::fixed(100 * SECOND))).unwrap();
    kit.emit(numbered(1)).unwrap();
    kit.advance(99 * SECOND).await;
    assert_eq!(probe.attempts(), 1);
    kit.advance(SECOND).await;
    assert_eq!(probe.attempts(), 2);
    let timeline = kit.timeline().to_string();
    let expected = "    0.000s a emitted\n    0.000s a a attempt 1\n    0.000s a a failed: the probe fails as told; again in 100s\n  100.000s a a attempt 2\n  100.000s a a handled\n";
    assert_eq!(timeline, expected);
}
