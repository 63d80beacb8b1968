//! Handlers: arguments, return values, errors, panics, timeouts, retries, dead letters.

use std::{sync::Arc, time::Duration};

use millstream::{
    Context, DeadLetterFilter, Death, Draft, Envelope, ErrorKind, Event, Handler, HandlerError, Json, OnError, Replay,
    Retry, Runtime, State, UnroutedPolicy, blocking,
    testing::{self, Probe},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "order.placed", version = 2, upgrade = "from_first", key = "id")]
struct OrderPlaced {
    id: u64,
    sku: String,
}

fn from_first(from: u32, mut data: serde_json::Value) -> Result<serde_json::Value, millstream::UpgradeError> {
    if from != 1 {
        return Err(millstream::UpgradeError::new("only version 1 is known"));
    }
    data["sku"] = json!("unknown");
    Ok(data)
}

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StockReserved {
    order: u64,
}

fn order(id: u64) -> OrderPlaced {
    OrderPlaced { id, sku: "tea".into() }
}

#[test]
fn what_a_handler_returns_is_emitted_with_its_cause() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("order.placed", |order: OrderPlaced| async move {
            (StockReserved { order: order.id }, vec![Draft::json("mail.queued", json!(1))], None::<StockReserved>)
        })?;
        let receipt = kit.emit(order(7))?;
        kit.settle().await;
        kit.assert_emitted_names(&["order.placed", "stock.reserved", "mail.queued"]);
        let caused = &kit.events()[1];
        assert_eq!((caused.causation_id(), caused.root_id(), caused.depth()), (Some(receipt.id()), receipt.id(), 1));
        assert_eq!(caused.correlation_id(), receipt.id());
        assert_eq!(kit.emitted::<StockReserved>(), [StockReserved { order: 7 }]);
        Ok(())
    });
}

#[test]
fn all_extractors_read_the_same_delivery() {
    testing::run(Runtime::builder().state("the state"), async |kit| {
        #[millstream::debug_handler]
        async fn all(
            own: OrderPlaced,
            shared: Arc<OrderPlaced>,
            Json(json): Json,
            State(state): State<&'static str>,
            context: Context,
            event: Arc<Envelope>,
        ) -> Result<(), String> {
            let same = own == *shared && json == json!({"id": 7, "sku": "tea"}) && context.event().id() == event.id();
            if same && state == "the state" && context.subscription() == "everything" {
                Ok(())
            } else {
                Err("differs".into())
            }
        }
        kit.on("order.placed", all.named("everything"))?;
        kit.emit(order(7))?;
        kit.settle().await;
        kit.assert_no_dead_letters();
        Ok(())
    });
}

#[test]
fn typed_and_json_events_reach_each_others_handlers() {
    testing::run(Runtime::builder(), async |kit| {
        let (typed, dynamic) = (Probe::<OrderPlaced>::new(), Probe::<Json>::new());
        kit.on("order.placed", typed.handler())?;
        kit.on("order.*", dynamic.handler())?;
        kit.emit(order(1))?;
        kit.emit(Draft::json("order.placed", json!({"id": 2, "sku": "tea"})))?;
        kit.emit(Draft::json("order.placed", json!({"id": 3})).version(1))?;
        kit.settle().await;
        assert_eq!(typed.received(), [order(1), order(2), OrderPlaced { id: 3, sku: "unknown".into() }]);
        assert_eq!(dynamic.received()[0], Json(json!({"id": 1, "sku": "tea"})));
        assert_eq!(
            kit.events()[1].key().map(ToString::to_string),
            Some("2".into()),
            "a JSON event gets its type's key"
        );
        Ok(())
    });
}

/// Whoever writes or reads it as data fails.
#[derive(Event, Clone, Debug, PartialEq)]
struct Unwritable(u64);

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("nobody asked for data"))
    }
}

impl<'de> Deserialize<'de> for Unwritable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("nobody sent data"))
    }
}

#[test]
fn typed_data_travels_without_serialisation() {
    testing::run(Runtime::builder(), async |kit| {
        let (own, shared) = (Probe::<Unwritable>::new(), Probe::<Arc<Unwritable>>::new());
        kit.on("unwritable", own.handler())?;
        kit.on("unwritable", shared.handler())?;
        kit.on("start", || async { Unwritable(2) })?;
        kit.emit(Unwritable(1))?;
        kit.emit(Draft::json("start", json!(null)))?;
        kit.settle().await;
        assert_eq!(own.received(), [Unwritable(1), Unwritable(2)]);
        assert_eq!(shared.received(), [Arc::new(Unwritable(1)), Arc::new(Unwritable(2))]);
        kit.assert_no_dead_letters();
        Ok(())
    });
}

#[test]
fn data_that_does_not_fit_is_that_deliverys_error() {
    let table = [
        (Draft::json("order.placed", json!({"id": "x", "sku": 1})), "`id`"),
        (Draft::json("order.placed", json!({"id": 1, "sku": 1})).version(9), "version 9"),
        (Draft::json("order.placed", json!({"id": 1})).version(0), "only version 1 is known"),
        (Draft::new(StockReserved { order: 1 }).named("order.placed"), "carries a `stock.reserved`"),
    ];
    for (draft, expected) in table {
        testing::run(Runtime::builder(), async |kit| {
            let (typed, other) = (Probe::<OrderPlaced>::new(), Probe::<Json>::new());
            kit.on("order.placed", typed.handler().retry(Retry::exponential()))?;
            kit.on("order.placed", other.handler())?;
            kit.emit(draft.clone())?;
            kit.settle().await;
            let letter = kit.assert_one_dead_letter();
            assert!(letter.reason().contains(expected), "{}", letter.reason());
            assert_eq!((letter.death, letter.attempts), (Death::Permanent, 1), "a wrong shape is not tried again");
            assert_eq!((typed.attempts(), other.attempts()), (0, 1));
            Ok(())
        });
    }
}

#[test]
fn a_panic_fails_one_delivery_and_nothing_else() {
    testing::run(Runtime::builder(), async |kit| {
        let (panics, fine) = (Probe::<Json>::new().panics(), Probe::<Json>::new());
        let late = Probe::<Json>::new().panics().takes(Duration::from_millis(5));
        kit.on("a", panics.handler())?;
        kit.on("a", late.handler())?;
        kit.on("*", fine.handler())?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.emit(Draft::json("b", json!(2)))?;
        kit.settle().await;
        assert_eq!((fine.attempts(), kit.stats().deliveries.panics, kit.stats().deliveries.dead), (2, 2, 2));
        let letters = kit.all_dead_letters();
        assert!(letters.iter().all(|letter| letter.reason().contains("panics as told")), "{letters:?}");
        Ok(())
    });
}

#[test]
fn a_filter_that_panics_fails_its_own_delivery() {
    testing::run(Runtime::builder(), async |kit| {
        let (never, fine) = (Probe::<Json>::new(), Probe::<Json>::new());
        kit.on("a", never.handler().filter(|event| event.key().expect("a key").as_str() == "k"))?;
        kit.on("a", fine.handler())?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.emit(Draft::json("a", json!(2)).key("other"))?;
        kit.settle().await;
        assert_eq!((never.attempts(), fine.attempts(), kit.stats().deliveries.dead), (0, 2, 1));
        Ok(())
    });
}

#[test]
fn a_handler_that_never_ends_is_timed_out_and_dropped() {
    testing::run(Runtime::builder(), async |kit| {
        let (hangs, fine) = (Probe::<Json>::new().hangs(), Probe::<Json>::new());
        kit.on("a", hangs.handler().named("hangs"))?;
        kit.on("a", fine.handler().named("fine"))?;
        let dropped = Arc::new(());
        let held = Arc::clone(&dropped);
        kit.on(
            "a",
            (move |_: Json| {
                let held = Arc::clone(&held);
                async move {
                    std::future::pending::<()>().await;
                    drop(held);
                }
            })
            .named("held"),
        )?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.advance(Duration::from_secs(1)).await;
        assert_eq!((fine.attempts(), Arc::strong_count(&dropped)), (1, 3));
        kit.settle().await;
        assert_eq!(kit.elapsed(), Duration::from_secs(30), "the default `operation_timeout`");
        assert_eq!((kit.stats().deliveries.timeouts, Arc::strong_count(&dropped)), (2, 2), "its future is gone");
        assert_eq!(kit.all_dead_letters()[0].failures[0].kind, ErrorKind::Timeout);
        Ok(())
    });
}

#[test]
fn a_retry_reruns_only_the_handler_that_failed() {
    testing::run(Runtime::builder(), async |kit| {
        let (flaky, fine) = (Probe::<Json>::new().fails(2), Probe::<Json>::new());
        kit.on("a", flaky.handler().retry(Retry::fixed(Duration::from_secs(2)).attempts(3)))?;
        kit.on("a", fine.handler())?;
        kit.emit(Draft::json("a", json!(1)))?;
        let report = kit.settle().await;
        assert_eq!((flaky.attempts(), fine.attempts(), report.retried, report.dead), (3, 1, 2, 0));
        assert_eq!(kit.elapsed(), Duration::from_secs(4));
        Ok(())
    });
}

#[test]
fn a_backoff_holds_no_slot() {
    testing::run(Runtime::builder(), async |kit| {
        let seen = Probe::<Json>::new().fails(1);
        kit.on("a", seen.handler().concurrency(1).retry(Retry::fixed(Duration::from_secs(2))))?;
        kit.emit_all((1..=3).map(|n| Draft::json("a", json!(n))))?;
        kit.settle().await;
        let order: Vec<_> = seen.received().into_iter().map(|Json(n)| n).collect();
        assert_eq!(order, [1, 2, 3, 1], "those behind it went on");
        Ok(())
    });
}

#[test]
fn attempts_are_bounded_and_the_dead_letter_says_all() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<OrderPlaced>::new().always_fails();
        kit.on(
            "order.placed",
            probe.handler().named("reserve").retry(Retry::fixed(Duration::from_secs(1)).attempts(3)),
        )?;
        let receipt = kit.emit(order(1))?;
        kit.settle().await;
        let letter = kit.assert_one_dead_letter();
        assert_eq!((probe.attempts(), letter.attempts, letter.failures.len()), (3, 3, 3));
        assert_eq!((letter.event.id(), letter.subscription.as_deref()), (receipt.id(), Some("reserve")));
        assert_eq!(letter.death, Death::Exhausted);
        assert_eq!(letter.failures[2].at.since(letter.failures[0].at), Duration::from_secs(2));
        Ok(())
    });
}

#[test]
fn an_error_may_say_when_and_whether_to_try_again() {
    testing::run(Runtime::builder(), async |kit| {
        let retry = || Retry::fixed(Duration::from_secs(1)).attempts(5);
        let later = |context: Context| async move {
            if context.attempt() == 1 {
                Err(HandlerError::transient("busy").retry_after(Duration::from_secs(40)))
            } else {
                Ok(())
            }
        };
        kit.on("later", later.retry(retry()))?;
        kit.on("never", (|| async { Err::<(), _>(HandlerError::transient("no").never_retry()) }).retry(retry()))?;
        kit.emit(Draft::json("later", json!(1)))?;
        kit.emit(Draft::json("never", json!(1)))?;
        kit.settle().await;
        assert_eq!((kit.elapsed(), kit.stats().deliveries.handled), (Duration::from_secs(40), 1));
        assert_eq!(kit.assert_one_dead_letter().attempts, 1);
        Ok(())
    });
}

#[test]
fn dead_letters_are_replayed_to_their_own_subscription_and_spread_over_time() {
    testing::run(Runtime::builder(), async |kit| {
        let (broken, fine) = (Probe::<Json>::new().always_fails(), Probe::<Json>::new());
        kit.on("a", broken.handler().named("broken"))?;
        kit.on("a", fine.handler())?;
        kit.emit_all((1..=4).map(|n| Draft::json("a", json!(n))))?;
        kit.settle().await;
        broken.mend();
        let replay = Replay::of(DeadLetterFilter::all().subscription("broken")).limit(3).rate(2.try_into()?);
        let report = kit.replay(&replay);
        assert_eq!((report.replayed, report.kept), (3, 0));
        kit.settle().await;
        assert_eq!((broken.attempts(), fine.attempts(), kit.stats().dead_letters), (7, 4, 1));
        assert_eq!(kit.elapsed(), Duration::from_secs(1), "at 0, 0.5 and 1 s");
        assert_eq!(kit.purge(&DeadLetterFilter::all()).len(), 1);
        assert_eq!(kit.stats().dead_letters, 0);
        Ok(())
    });
}

#[test]
fn letters_of_a_subscription_that_is_gone_stay() {
    testing::run(Runtime::builder(), async |kit| {
        let id = kit.on("a", || async { Err::<(), _>("no") })?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        assert!(kit.off(id));
        let report = kit.replay(&Replay::all());
        assert_eq!((report.replayed, report.kept, kit.stats().dead_letters), (0, 1, 1));
        Ok(())
    });
}

#[test]
fn the_dead_letters_are_bounded_and_what_goes_is_counted() {
    testing::run(Runtime::builder().dead_letter_size(2), async |kit| {
        kit.on("*", || async { Err::<(), _>("no") })?;
        kit.emit_all((1..=3).map(|n| Draft::json("a", json!(n))))?;
        kit.settle().await;
        let kept: Vec<_> = kit.all_dead_letters().iter().map(|letter| letter.number).collect();
        assert_eq!((kept, kit.stats().dead_letters_dropped), (vec![2, 3], 1));
        Ok(())
    });
}

#[test]
fn an_event_that_nobody_wants_is_counted_and_may_be_kept() {
    testing::run(Runtime::builder().unrouted(UnroutedPolicy::DeadLetter), async |kit| {
        kit.emit(Draft::json("lonely", json!(1)))?;
        kit.settle().await;
        assert_eq!((kit.stats().events.unrouted, kit.assert_one_dead_letter().death), (1, Death::Unrouted));
        let probe = Probe::<Json>::new();
        kit.on("lonely", probe.handler())?;
        assert_eq!(kit.replay(&Replay::all()).replayed, 1);
        kit.settle().await;
        assert_eq!((probe.attempts(), kit.stats().dead_letters), (1, 0));
        Ok(())
    });
}

#[test]
fn too_many_outputs_are_an_error_that_is_not_retried() {
    testing::run(Runtime::builder(), async |kit| {
        let many = |Json(n): Json| async move {
            (0..n.as_u64().unwrap_or(0)).map(|n| Draft::json("out", json!(n))).collect::<Vec<_>>()
        };
        kit.on("a", many.named("a").retry(Retry::exponential()))?;
        kit.on("b", many.named("b").max_outputs(2_000))?;
        kit.on("out", || async {})?;
        kit.emit(Draft::json("a", json!(1_001)))?;
        kit.emit(Draft::json("b", json!(1_001)))?;
        kit.settle().await;
        let letter = kit.assert_one_dead_letter();
        assert_eq!((letter.attempts, letter.subscription.as_deref()), (1, Some("a")));
        assert!(letter.reason().contains("returned 1001 events, allowed are 1000"), "{}", letter.reason());
        assert_eq!(kit.stats().events.emitted, 2 + 1_001);
        Ok(())
    });
}

#[test]
fn a_failed_attempt_emits_nothing() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("a", |context: Context| async move {
            context.emit(Draft::json("half", json!(1))).map_err(HandlerError::permanent)?;
            Err::<(), _>(HandlerError::permanent("after all, no"))
        })?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        kit.assert_emitted_names(&["a"]);
        Ok(())
    });
}

#[test]
fn an_invalid_output_fails_the_delivery_that_returned_it() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("a", || async { [Draft::json("fine", json!(1)), Draft::json("not fine", json!(1))] })?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        kit.assert_emitted_names(&["a"]);
        assert!(kit.assert_one_dead_letter().reason().contains("`not fine` is no event name"));
        Ok(())
    });
}

#[test]
fn handlers_may_block_or_be_tasks_of_their_own() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("a", blocking(|Json(n): Json| Draft::json("doubled", json!(n.as_i64().unwrap_or(0) * 2))))?;
        kit.on("a", blocking(|| -> () { panic!("blocked and panicked") }))?;
        kit.on("doubled", (|Json(n): Json| async move { assert_eq!(n, json!(42)) }).spawned())?;
        kit.emit(Draft::json("a", json!(21)))?;
        kit.settle().await;
        assert_eq!(
            (kit.stats().deliveries.handled, kit.assert_one_dead_letter().failures[0].kind),
            (2, ErrorKind::Panicked)
        );
        Ok(())
    });
}

#[test]
fn subscriptions_that_cannot_work_are_refused_with_all_reasons() {
    testing::run(Runtime::builder(), async |kit| {
        kit.on("a", (|| async {}).named("taken"))?;
        assert_eq!(kit.on("b", (|| async {}).named("taken")), Err(OnError::DuplicateName { name: "taken".into() }));
        assert!(matches!(kit.on("a..b", || async {}), Err(OnError::Pattern(_))));
        let Err(OnError::Settings { wrong, .. }) =
            kit.on("a", (|| async {}).concurrency(0).timeout(Duration::ZERO).halt_key_on_dead())
        else {
            panic!("impossible settings are refused")
        };
        assert_eq!(wrong.refused().len(), 3, "{wrong}");
        let missing = kit.on("a", |State(_): State<u8>, State(_): State<String>| async {});
        assert!(matches!(&missing, Err(OnError::MissingState { missing, .. }) if missing.len() == 2), "{missing:?}");
        Ok(())
    });
}

#[test]
fn off_and_clear_stop_what_is_not_dispatched_yet() {
    testing::run(Runtime::builder(), async |kit| {
        let (gone, stays) = (Probe::<Json>::new(), Probe::<Json>::new());
        let id = kit.on("a", gone.handler())?;
        kit.on("a", stays.handler())?;
        kit.emit(Draft::json("a", json!(1)))?;
        assert!(kit.off(id) && !kit.off(id));
        kit.settle().await;
        assert_eq!((gone.attempts(), stays.attempts()), (0, 1));
        assert_eq!(kit.clear(), 1);
        kit.emit(Draft::json("a", json!(2)))?;
        kit.settle().await;
        assert_eq!((stays.attempts(), kit.stats().events.unrouted), (1, 1));
        Ok(())
    });
}

#[test]
fn handlers_of_one_event_start_by_priority_then_in_the_order_of_on() {
    testing::run(Runtime::builder(), async |kit| {
        for (name, priority) in [("second", 0), ("third", 0), ("first", 5), ("last", -1)] {
            kit.on("a", (|| async {}).named(name).priority(priority))?;
        }
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        let timeline = kit.timeline();
        let order: Vec<_> = timeline
            .moments()
            .iter()
            .filter(|m| m.what == testing::What::Handled)
            .filter_map(|m| m.subscription.clone())
            .collect();
        assert_eq!(order, ["first", "second", "third", "last"]);
        Ok(())
    });
}

#[test]
fn the_effect_key_is_the_same_in_every_retry_and_replay() {
    testing::run(Runtime::builder(), async |kit| {
        let keys = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&keys);
        let handler = move |context: Context| {
            let seen = Arc::clone(&seen);
            async move {
                seen.lock().unwrap().push((context.effect_key("charge"), context.effect_key("mail")));
                if seen.lock().unwrap().len() < 4 { Err("not yet") } else { Ok(()) }
            }
        };
        kit.on("a", handler.retry(Retry::fixed(Duration::from_secs(1)).attempts(3)))?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        kit.replay(&Replay::all());
        kit.settle().await;
        let keys = keys.lock().unwrap().clone();
        assert_eq!(keys.len(), 4);
        assert!(keys.iter().all(|key| *key == keys[0]) && keys[0].0 != keys[0].1, "{keys:?}");
        Ok(())
    });
}
