//! emit is honest: accepted and counted, or handed back with a reason.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use millstream::{
    Advice, CancellationToken, Context, Draft, Event, EventId, Fate, Handler, Json, Overflow, PersistError, Priority,
    Refusal, Runtime,
    testing::{self, Probe},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "order.placed", key = "id", priority = "high")]
struct OrderPlaced {
    id: u64,
    sku: String,
}

fn order(id: u64) -> OrderPlaced {
    OrderPlaced { id, sku: "tea".into() }
}

#[test]
fn a_full_queue_hands_the_event_back_with_the_figures() {
    testing::run(Runtime::builder().queue_size(2), async |kit| {
        kit.emit(order(1))?;
        kit.emit(order(2))?;
        let refused = kit.emit(order(3)).unwrap_err();
        assert_eq!(refused.event, order(3));
        assert_eq!(refused.reason, Refusal::Full { class: Priority::High, held: 2, capacity: 2 });
        assert_eq!(refused.reason.advice(), Advice::Later);
        assert_eq!((kit.stats().events.emitted, kit.stats().events.refused), (2, 1));
        Ok(())
    });
}

#[test]
fn a_closed_runtime_hands_the_event_back() {
    testing::run(Runtime::builder(), async |kit| {
        kit.shutdown(Duration::ZERO).await?;
        let refused = kit.emit(order(1)).unwrap_err();
        assert_eq!(refused.event, order(1));
        assert_eq!(refused.reason, Refusal::Closed { phase: "stopped" });
        assert_eq!(refused.reason.advice(), Advice::Never);
        assert_eq!(kit.emit_wait(order(2)).await.unwrap_err().reason, Refusal::Closed { phase: "stopped" });
        Ok(())
    });
}

#[test]
fn malformed_json_says_where() {
    let error = Draft::parse("order.placed", "{\n  \"id\": 1,,\n}").unwrap_err();
    assert!(error.to_string().contains("line 2, column 11"), "{error}");
}

#[test]
fn a_bad_name_is_refused_with_what_is_allowed() {
    testing::run(Runtime::builder(), async |kit| {
        let refused = kit.emit(Draft::json("order..placed", json!(1))).unwrap_err();
        assert!(matches!(refused.reason, Refusal::Name(_)), "{refused}");
        assert!(refused.to_string().contains("a token is empty"), "{refused}");
        let refused = kit.emit(Draft::new(order(1)).named("order.*")).unwrap_err();
        assert_eq!(refused.event.into_event::<OrderPlaced>().ok(), Some(order(1)));
        Ok(())
    });
}

#[test]
fn an_event_over_the_size_limit_is_refused() {
    testing::run(Runtime::builder().max_event_size(20), async |kit| {
        kit.emit(Draft::json("a", json!("x".repeat(18))))?;
        let refused = kit.emit(Draft::json("a", json!("x".repeat(19)))).unwrap_err();
        assert!(matches!(refused.reason, Refusal::TooLarge { limit: 20, .. }), "{refused}");
        kit.emit(OrderPlaced { id: 1, sku: "x".repeat(100) })?;
        Ok(())
    });
    testing::run(Runtime::builder().max_event_size(20).measure_typed_events(true), async |kit| {
        let refused = kit.emit(OrderPlaced { id: 1, sku: "x".repeat(100) }).unwrap_err();
        assert!(matches!(refused.reason, Refusal::TooLarge { limit: 20, .. }), "{refused}");
        Ok(())
    });
}

#[test]
fn overflow_policies_drop_what_they_say_and_count_it() {
    testing::run(Runtime::builder().queue_size(1).overflow(Overflow::DropOldest), async |kit| {
        let probe = Probe::<Json>::new();
        kit.on("*", probe.handler())?;
        kit.emit(Draft::json("old", json!(1)))?;
        kit.emit(Draft::json("new", json!(2)))?;
        kit.settle().await;
        assert_eq!(probe.received(), [Json(json!(2))]);
        assert_eq!(kit.stats().events.dropped.overflow, 1);
        Ok(())
    });
    testing::run(Runtime::builder().queue_size(1).overflow(Overflow::DropNewest), async |kit| {
        kit.emit(Draft::json("old", json!(1)))?;
        let receipt = kit.emit(Draft::json("new", json!(2)))?;
        assert_eq!(receipt.fate(), Fate::Dropped);
        let id = receipt.id();
        assert_eq!(receipt.await, Err(PersistError::Dropped { id }));
        assert_eq!(kit.stats().events.dropped.overflow, 1);
        Ok(())
    });
}

#[test]
fn room_is_held_until_the_last_delivery_ends() {
    testing::run(Runtime::builder().queue_size(4), async |kit| {
        let slow = Probe::<Json>::new().takes(Duration::from_secs(1));
        kit.on("slow", slow.handler())?;
        kit.emit(Draft::json("slow", json!(1)))?;
        kit.advance(Duration::from_millis(500)).await;
        assert_eq!((kit.stats().held, kit.stats().deliveries.in_flight), (1, 1));
        kit.settle().await;
        assert_eq!(kit.stats().held, 0);
        Ok(())
    });
}

#[test]
fn who_waits_for_room_gets_it_in_the_order_of_waiting() {
    testing::run(Runtime::builder().queue_size(1), async |kit| {
        let probe = Probe::<Json>::new();
        kit.on("*", probe.handler())?;
        let emits = (0..5).map(|n| {
            let kit = kit.clone();
            async move { kit.emit_wait(Draft::json("n", json!(n))).await.map(drop) }
        });
        let (emitted, ()) = tokio::join!(futures::future::join_all(emits), async {
            while probe.attempts() < 5 {
                kit.process().await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        assert!(emitted.into_iter().all(|emitted| emitted.is_ok()));
        assert_eq!(probe.received(), (0..5).map(|n| Json(json!(n))).collect::<Vec<_>>());
        Ok(())
    });
}

#[test]
fn an_emit_that_stops_waiting_leaves_its_room_to_the_next() {
    testing::run(Runtime::builder().queue_size(1), async |kit| {
        kit.on("*", |_: Json| async {})?;
        kit.emit(Draft::json("first", json!(1)))?;
        let given_up = kit.emit_wait(Draft::json("given.up", json!(2)));
        let given_up = tokio::time::timeout(Duration::from_millis(1), given_up);
        assert!(given_up.await.is_err());
        let (second, settled) = tokio::join!(kit.emit_wait(Draft::json("second", json!(3))), kit.process());
        second?;
        settled?;
        kit.settle().await;
        kit.assert_emitted_names(&["first", "second"]);
        Ok(())
    });
}

#[tokio::test]
async fn events_of_one_emit_all_are_emitted_at_one_time_with_rising_ids() {
    let runtime = Runtime::builder().build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let keep = move |context: Context| {
        kept.lock().unwrap().push((context.event().id(), context.event().emitted_at()));
        async {}
    };
    runtime.on("order.placed", keep).unwrap();
    runtime.emit_all((1..=100).map(order)).unwrap();
    runtime.process().await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 100);
    assert!(seen.is_sorted_by(|a, b| a.0 < b.0 && a.1 == b.1), "{seen:?}");
}

#[test]
fn emit_all_accepts_a_beginning_and_hands_back_the_rest() {
    testing::run(Runtime::builder().queue_size(2), async |kit| {
        let error = kit.emit_all((1..=4).map(order)).unwrap_err();
        assert_eq!((error.accepted.len(), error.rest), (2, vec![order(3), order(4)]));
        assert!(matches!(error.reason, Refusal::Full { .. }));
        Ok(())
    });
}

#[test]
fn a_created_event_keeps_its_id_and_options() {
    testing::run(Runtime::builder(), async |kit| {
        let correlation: EventId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse()?;
        let draft = kit.create(order(1)).key("k").tenant("t").correlation(correlation).actor("ann").header("a", "b");
        let (id, receipt) = (draft.id(), kit.emit(draft.priority(Priority::Critical).source("till"))?);
        assert_eq!(Some(receipt.id()), id);
        let event = &kit.events()[0];
        assert_eq!((event.key().unwrap().as_str(), event.tenant().unwrap().as_str()), ("k", "t"));
        assert_eq!((event.correlation_id(), event.priority()), (correlation, Priority::Critical));
        assert_eq!((event.actor(), event.source(), event.header("a")), (Some("ann"), Some("till"), Some("b")));
        Ok(())
    });
}

#[test]
fn delayed_events_come_at_their_time_and_process_does_not_wait_for_them() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new();
        kit.on("*", probe.handler())?;
        let receipt = kit.emit(Draft::json("later", json!(1)).delay(Duration::from_secs(5)))?;
        let due = kit.now() + Duration::from_secs(5);
        assert_eq!(receipt.fate(), Fate::Delayed { due });
        assert_eq!(kit.settle().await.next_deadline, Some(due));
        kit.advance(Duration::from_millis(4_999)).await;
        assert_eq!(probe.attempts(), 0);
        kit.advance(Duration::from_millis(1)).await;
        assert_eq!(probe.attempts(), 1);
        Ok(())
    });
}

#[test]
fn delayed_events_are_bounded() {
    testing::run(Runtime::builder().delayed_size(1), async |kit| {
        let later = || Draft::json("later", json!(1)).delay(Duration::from_secs(5));
        kit.emit(later())?;
        assert_eq!(kit.emit(later()).unwrap_err().reason, Refusal::DelayedFull { limit: 1 });
        Ok(())
    });
}

#[test]
fn a_cancelled_token_takes_out_what_is_queued_delayed_and_in_backoff() {
    testing::run(Runtime::builder(), async |kit| {
        let failing = Probe::<Json>::new().always_fails();
        let retry = millstream::Retry::fixed(Duration::from_mins(1)).attempts(5);
        kit.on("a", failing.handler().retry(retry))?;
        let token = CancellationToken::new();
        kit.emit(Draft::json("a", json!(1)).cancelled_by(&token))?;
        kit.advance(Duration::from_secs(1)).await;
        assert_eq!(kit.stats().deliveries.waiting, 1);
        kit.emit(Draft::json("a", json!(2)).cancelled_by(&token))?;
        kit.emit(Draft::json("a", json!(3)).cancelled_by(&token).delay(Duration::from_secs(9)))?;
        assert_eq!(kit.cancel(&token), 2);
        kit.settle().await;
        let stats = kit.stats();
        assert_eq!((stats.events.dropped.cancelled, stats.deliveries.cancelled, stats.held), (2, 1, 0));
        assert_eq!(failing.attempts(), 1);
        Ok(())
    });
}

#[test]
fn receipts_resolve_at_once_in_memory() {
    testing::run(Runtime::builder(), async |kit| {
        let receipt = kit.emit(order(1))?;
        let id = receipt.id();
        assert_eq!(receipt.await?, id);
        Ok(())
    });
}
