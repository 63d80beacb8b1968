//! Cycles, amplification, loops, requests: nothing waits for itself, nothing grows without end.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use millstream::{
    Context, Death, Draft, Event, Handler, HandlerError, Json, ProcessError, Refusal, RequestError, Runtime,
    testing::{self, Probe},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Asked {
    n: u64,
}

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Answered {
    n: u64,
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_cycle_over_a_queue_of_one_does_not_deadlock_and_ends_at_the_depth() {
    testing::run(Runtime::builder().queue_size(1), async |kit| {
        kit.on("a", || async { Draft::json("b", json!(1)) })?;
        kit.on("b", || async { Draft::json("a", json!(1)) })?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        let stats = kit.stats();
        assert_eq!((stats.deliveries.handled, stats.events.dropped.loops, stats.held), (101, 1, 0));
        let letter = kit.assert_one_dead_letter();
        assert_eq!((letter.death, letter.event.depth()), (Death::Loop, 101));
        assert!(letter.reason().contains("`max_event_depth` is 100"), "{}", letter.reason());
        Ok(())
    });
}

#[test]
fn one_event_may_become_three_and_overdraws_while_outside_emits_are_refused() {
    testing::run(Runtime::builder().queue_size(1), async |kit| {
        let slow = Probe::<Json>::new().takes(SECOND);
        kit.on("a", || async { [1, 2, 3].map(|n| Draft::json("b", json!(n))) })?;
        kit.on("b", slow.handler())?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.advance(SECOND / 2).await;
        assert_eq!(kit.stats().held, 3);
        assert_eq!(kit.emit(Draft::json("a", json!(1))).unwrap_err().reason.advice(), millstream::Advice::Later);
        kit.settle().await;
        assert_eq!((slow.attempts(), kit.stats().held), (3, 0));
        kit.emit(Draft::json("a", json!(1)))?;
        Ok(())
    });
}

#[test]
fn a_fan_out_of_two_dies_at_the_count_of_its_root() {
    testing::run(Runtime::builder().max_events_per_root(500), async |kit| {
        kit.on("a", || async { [Draft::json("a", json!(1)), Draft::json("a", json!(2))] })?;
        kit.emit(Draft::json("a", json!(0)))?;
        kit.settle().await;
        let stats = kit.stats();
        assert_eq!(stats.deliveries.handled, 501, "the root and what it may cause");
        assert_eq!(stats.events.dropped.loops, 502);
        assert!(kit.all_dead_letters()[0].reason().contains("500 events that one root may cause"));
        Ok(())
    });
}

#[test]
fn a_subscription_may_allow_its_roots_more() {
    testing::run(Runtime::builder().max_events_per_root(10), async |kit| {
        let many = |Json(_): Json| async { (0..50).map(|n| Draft::json("out", json!(n))).collect::<Vec<_>>() };
        kit.on("a", many.max_events_per_root(1_000))?;
        kit.on("out", || async {})?;
        kit.emit(Draft::json("a", json!(0)))?;
        kit.settle().await;
        assert_eq!((kit.stats().deliveries.handled, kit.stats().events.dropped.loops), (51, 0));
        Ok(())
    });
}

#[test]
fn a_self_loop_by_the_millisecond_dies_and_a_daily_job_does_not() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("tick", || async { Draft::json("tick", json!(1)).delay(Duration::from_millis(1)) })?;
        kit.emit(Draft::json("tick", json!(1)))?;
        kit.advance(SECOND).await;
        assert_eq!((kit.stats().deliveries.handled, kit.assert_one_dead_letter().death), (101, Death::Loop));
        Ok(())
    });
    testing::run(Runtime::builder(), async |kit| {
        let day = Duration::from_hours(24);
        let daily = Probe::<Json>::new().returns(Draft::json("daily", json!(1)).delay(day));
        kit.on("daily", daily.handler())?;
        kit.emit(Draft::json("daily", json!(1)))?;
        kit.advance(365 * day).await;
        assert_eq!(daily.attempts(), 366);
        kit.assert_no_dead_letters();
        Ok(())
    });
}

#[test]
fn an_emit_on_a_captured_runtime_knows_its_cause() {
    testing::run(Runtime::builder(), async |kit| {
        let runtime = kit.runtime().clone();
        kit.on("a", move |Json(_): Json| {
            let runtime = runtime.clone();
            async move { runtime.emit(Draft::json("a", json!(1))).map(drop) }
        })?;
        kit.emit(Draft::json("a", json!(0)))?;
        kit.settle().await;
        let letter = kit.assert_one_dead_letter();
        assert!(letter.reason().contains("101 events away from its root"), "{}", letter.reason());
        Ok(())
    });
}

#[test]
fn a_handler_that_emits_without_end_meets_a_full_queue() {
    testing::run(Runtime::builder().queue_size(10), async |kit| {
        let runtime = kit.runtime().clone();
        kit.on(
            "a",
            (move |Json(_): Json| {
                let runtime = runtime.clone();
                async move {
                    loop {
                        runtime.emit(Draft::json("b", json!(1)))?;
                    }
                    #[expect(unreachable_code, reason = "it says what the loop returns")]
                    Ok::<(), millstream::EmitError<Draft>>(())
                }
            })
            .named("a"),
        )?;
        kit.emit(Draft::json("a", json!(0)))?;
        kit.settle().await;
        assert!(kit.assert_one_dead_letter().reason().contains("no room"));
        assert_eq!(kit.stats().events.emitted, 10);
        Ok(())
    });
}

#[test]
fn a_handler_that_waits_for_room_or_for_the_runtime_is_told_so() {
    testing::run(Runtime::builder().queue_size(1), async |kit| {
        let runtime = kit.runtime().clone();
        kit.on("room", move |Json(_): Json| {
            let runtime = runtime.clone();
            async move {
                assert_eq!(runtime.process().await, Err(ProcessError::WouldDeadlock));
                runtime.emit_wait(Draft::json("b", json!(1))).await.map(drop)
            }
        })?;
        kit.emit(Draft::json("room", json!(0)))?;
        kit.settle().await;
        assert!(kit.assert_one_dead_letter().reason().contains("must not wait for room"));
        Ok(())
    });
}

#[test]
fn spawned_work_emits_with_its_cause() {
    testing::run(Runtime::builder(), async |kit| {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let sender = Mutex::new(Some(sender));
        kit.on("a", move |context: Context| {
            let sender = sender.lock().unwrap().take();
            async move { drop(sender.map(|sender| sender.send(context.handle()))) }
        })?;
        let receipt = kit.emit(Draft::json("a", json!(0)))?;
        kit.settle().await;
        receiver.await?.emit(Draft::json("late", json!(1)))?;
        assert_eq!(kit.events()[1].causation_id(), Some(receipt.id()));
        Ok(())
    });
}

async fn ask(kit: &testing::TestKit, deadline: Duration) -> Result<Answered, RequestError> {
    let (answer, _) = tokio::join!(kit.request(Asked { n: 20 }, deadline), kit.process());
    answer
}

#[test]
fn a_request_gets_the_event_that_its_handler_returns() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("asked", |asked: Asked| async move {
            tokio::time::sleep(SECOND).await;
            (Draft::json("other", json!(1)), Answered { n: asked.n + 1 })
        })?;
        assert_eq!(ask(&kit, 5 * SECOND).await?, Answered { n: 21 });
        assert_eq!(kit.emitted::<Answered>(), [Answered { n: 21 }], "the answer is an event, too");
        Ok(())
    });
}

#[test]
fn a_request_without_an_answer_says_why() {
    testing::run(Runtime::builder(), async |kit| {
        assert!(matches!(ask(&kit, SECOND).await, Err(RequestError::NoHandler { .. })));
        let id = kit.on("asked", || async {})?;
        assert!(matches!(ask(&kit, SECOND).await, Err(RequestError::NoReply { wanted: "answered", .. })));
        kit.off(id);
        let id = kit.on("asked", || async { Err::<(), _>(HandlerError::permanent("no idea")) })?;
        let Err(RequestError::Failed { error: source, .. }) = ask(&kit, SECOND).await else { panic!("it failed") };
        assert_eq!(source.to_string(), "no idea");
        kit.off(id);
        kit.on("asked", std::future::pending::<()>)?;
        assert!(matches!(ask(&kit, SECOND).await, Err(RequestError::Timeout { is_driven: true, .. })));
        let undriven = kit.runtime().request::<Answered>(Asked { n: 1 }, SECOND).await.unwrap_err().to_string();
        assert_eq!(undriven, "no `answered` came within 1s, and nobody drives the runtime: `process` or `run` it");
        Ok(())
    });
}

#[test]
fn a_request_that_waits_for_its_own_key_or_slot_fails_at_once() {
    for ordered in [true, false] {
        testing::run(Runtime::builder(), async |kit| {
            let recursive = |context: Context, asked: Asked| async move {
                if asked.n == 0 {
                    return Ok(Answered { n: 0 });
                }
                let question = Draft::new(Asked { n: asked.n - 1 }).key("same");
                context.request::<Answered>(question, 100 * SECOND).await
            };
            let handler = recursive.named("recursive");
            if ordered {
                kit.on("asked", handler.ordered_by_key())?;
            } else {
                kit.on("asked", handler.concurrency(1))?;
            }
            kit.emit(Draft::new(Asked { n: 1 }).key("same"))?;
            kit.settle().await;
            assert_eq!(kit.elapsed(), Duration::ZERO, "nobody waits for the deadline");
            let reasons: Vec<_> = kit.all_dead_letters().iter().map(millstream::DeadLetter::reason).collect();
            assert!(reasons.iter().all(|reason| reason.contains("waits for `recursive`")), "{reasons:?}");
            Ok(())
        });
    }
}

#[test]
fn a_request_inside_a_handler_that_has_room_is_answered() {
    testing::run(Runtime::builder(), async |kit| {
        let recursive = |context: Context, asked: Asked| async move {
            if asked.n == 0 {
                return Ok(Answered { n: 0 });
            }
            let below = context.request::<Answered>(Asked { n: asked.n - 1 }, SECOND).await?;
            Ok::<_, RequestError>(Answered { n: below.n + 1 })
        };
        kit.on("asked", recursive)?;
        assert_eq!(ask(&kit, SECOND).await.map_err(Box::new)?, Answered { n: 20 });
        Ok(())
    });
}

#[test]
fn a_refused_request_hands_the_question_back() {
    testing::run(Runtime::builder().queue_size(1), async |kit| {
        kit.emit(Draft::json("a", json!(1)))?;
        let Err(RequestError::Refused { reason, request }) = kit.request::<Answered>(Asked { n: 1 }, SECOND).await
        else {
            panic!("it was refused")
        };
        assert!(matches!(reason, Refusal::Full { .. }));
        assert_eq!(request.into_event::<Asked>().ok(), Some(Asked { n: 1 }));
        Ok(())
    });
}

/// A handler of one runtime that drives another, whose handler emits on the first and waits for it.
async fn one_inside_the_other(outer: &Runtime, inner: &Runtime) -> Result<(), Box<dyn std::error::Error>> {
    let (driven, fed) = (inner.clone(), inner.clone());
    let drive = move |context: Context| {
        let (driven, fed) = (driven.clone(), fed.clone());
        async move {
            fed.emit(Draft::json("inside", json!(context.event().depth()))).map_err(HandlerError::permanent)?;
            driven.process().await.map(drop).map_err(HandlerError::permanent)
        }
    };
    let back = outer.clone();
    let answer = move || {
        let back = back.clone();
        async move {
            assert_eq!(back.process().await, Err(ProcessError::WouldDeadlock));
            back.emit(Draft::json("answer", json!(1))).map(drop)
        }
    };
    outer.on("outside", drive)?;
    inner.on("inside", answer)?;
    outer.emit(Draft::json("outside", json!(1)))?;
    outer.process().await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_another_ones_handler_drives_knows_whose_handlers_run_around_it() {
    let (outer, inner) = (Runtime::builder().build().unwrap(), Runtime::builder().build().unwrap());
    let depths = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&depths);
    let see = move |context: Context| {
        seen.lock().unwrap().push(context.event().depth());
        async {}
    };
    outer.on("answer", see).unwrap();
    one_inside_the_other(&outer, &inner).await.unwrap();
    assert_eq!((outer.stats().deliveries.handled, inner.stats().deliveries.handled), (2, 1));
    assert_eq!(*depths.lock().unwrap(), [1], "the outer handler is the cause");
}
