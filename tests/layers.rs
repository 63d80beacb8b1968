//! The middleware's layers around handlers and around a whole runtime: their order, and what they share.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use millstream::{
    Delivery, Draft, ErrorKind, Handler, HandlerError, Json, Runtime, blocking,
    middleware::{
        LiftLayer,
        breaker::{BreakerLayer, Trip},
        concurrency::{ConcurrencyLayer, Limit},
        from_tower::{MapErrLayer, MapResponseLayer},
        timeout::TimeoutLayer,
    },
    testing::{self, Probe},
};
use serde_json::json;
use tower::{Layer, Service, ServiceBuilder, layer::layer_fn, limit::ConcurrencyLimitLayer};

const SECOND: Duration = Duration::from_secs(1);

/// Who was passed, in what order.
#[derive(Clone, Default)]
struct Trail(Arc<Mutex<Vec<&'static str>>>);

impl Trail {
    fn note(&self, name: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A layer that notes each delivery on its way in.
    fn layer(&self, name: &'static str) -> Mark {
        Mark { name, trail: self.clone() }
    }

    /// A handler that notes each delivery.
    fn handler(&self, name: &'static str) -> impl Handler<(Json,)> + use<> {
        let trail = self.clone();
        move |_: Json| {
            trail.note(name);
            std::future::ready(())
        }
    }
}

#[derive(Clone)]
struct Mark {
    name: &'static str,
    trail: Trail,
}

impl<S> Layer<S> for Mark {
    type Service = Marked<S>;

    fn layer(&self, inner: S) -> Marked<S> {
        Marked { inner, mark: self.clone() }
    }
}

#[derive(Clone)]
struct Marked<S> {
    inner: S,
    mark: Mark,
}

impl<S: Service<Delivery>> Service<Delivery> for Marked<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, delivery: Delivery) -> S::Future {
        self.mark.trail.note(self.mark.name);
        self.inner.call(delivery)
    }
}

/// Counts how often it is applied, and does nothing more.
struct Counting(Arc<AtomicUsize>);

impl<S> Layer<S> for Counting {
    type Service = S;

    fn layer(&self, inner: S) -> S {
        self.0.fetch_add(1, SeqCst);
        inner
    }
}

#[test]
fn layers_fail_deliveries_with_their_kinds() {
    testing::run(Runtime::builder(), async |kit| {
        let hangs = Probe::<Json>::new().hangs();
        kit.on("a", hangs.handler().layer(TimeoutLayer::new(SECOND)?))?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        assert_eq!((kit.elapsed(), kit.assert_one_dead_letter().failures[0].kind), (SECOND, ErrorKind::Timeout));
        Ok(())
    });
}

#[test]
fn an_error_keeps_its_kind_whatever_type_it_has_between_the_layers() {
    testing::run(Runtime::builder(), async |kit| {
        let hangs = || Probe::<Json>::new().hangs();
        let lifted = hangs().handler().named("lifted").layer(TimeoutLayer::new(SECOND)?).layer(LiftLayer);
        kit.on("a", lifted)?;
        let boxed = |error: HandlerError| -> millstream::BoxError { error.into() };
        let boxed = hangs().handler().named("boxed").layer(TimeoutLayer::new(SECOND)?).layer(MapErrLayer::new(boxed));
        kit.on("a", boxed)?;
        let fails = || async { Err::<(), _>(HandlerError::transient("busy").with_code("busy")) };
        kit.on("a", fails.named("fails").layer(TimeoutLayer::new(SECOND)?).layer(LiftLayer))?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        let letters = kit.all_dead_letters();
        let of = |name: &str| {
            let letter = letters.iter().find(|letter| letter.subscription.as_deref() == Some(name));
            letter.map(|letter| letter.failures[0].clone())
        };
        assert_eq!(of("lifted").map(|failure| failure.kind), Some(ErrorKind::Timeout));
        assert_eq!(of("boxed").map(|failure| failure.kind), Some(ErrorKind::Timeout));
        assert_eq!(of("fails").and_then(|failure| failure.code).as_deref(), Some("busy"));
        Ok(())
    });
}

#[test]
fn layers_are_outermost_first_as_written_whatever_is_set_between_them() {
    testing::run(Runtime::builder(), async |kit| {
        let trail = Trail::default();
        let layered = trail.handler("handler").layer(trail.layer("a")).named("whole").layer(trail.layer("b"));
        let layered = layered.concurrency(3).ordered_by_key().timeout(SECOND).layer(trail.layer("c"));
        kit.on("e", layered)?;
        kit.emit(Draft::json("e", json!(1)))?;
        kit.settle().await;
        assert_eq!(trail.take(), ["a", "b", "c", "handler"]);
        Ok(())
    });
}

#[test]
fn a_service_builder_and_a_chain_of_layers_mean_the_same() {
    testing::run(Runtime::builder(), async |kit| {
        let trail = Trail::default();
        let stack = ServiceBuilder::new().layer(trail.layer("b")).layer(trail.layer("c")).into_inner();
        kit.on("e", trail.handler("handler").layer(trail.layer("a")).layer(stack).layer(trail.layer("d")))?;
        kit.emit(Draft::json("e", json!(1)))?;
        kit.settle().await;
        assert_eq!(trail.take(), ["a", "b", "c", "d", "handler"]);
        Ok(())
    });
}

#[test]
fn a_closure_is_a_layer_wherever_it_is_written() {
    testing::run(Runtime::builder(), async |kit| {
        let trail = Trail::default();
        let (outer, inner) = (trail.layer("outer"), trail.layer("inner"));
        let handler = trail.handler("handler").layer(layer_fn(move |service| outer.layer(service)));
        kit.on("e", handler.layer(trail.layer("middle")).layer(layer_fn(move |service| inner.layer(service))))?;
        kit.emit(Draft::json("e", json!(1)))?;
        kit.settle().await;
        assert_eq!(trail.take(), ["outer", "middle", "inner", "handler"]);
        Ok(())
    });
}

fn opaque(handler: impl Handler<(Json,)>) -> impl Handler<(Json,)> {
    handler
}

#[test]
fn a_layered_handler_is_one_service_however_often_it_is_called() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND);
        let limited = |probe: &Probe<Json>| opaque(probe.handler().layer(ConcurrencyLimitLayer::new(1)));
        kit.on("a", limited(&probe).layer(TimeoutLayer::new(9 * SECOND)?))?;
        kit.emit_all((0..3).map(|n| Draft::json("a", json!(n))))?;
        kit.settle().await;
        assert_eq!((probe.most_running(), kit.elapsed()), (1, 3 * SECOND));
        Ok(())
    });
}

#[test]
fn a_layer_that_needs_the_next_ones_answer_may_be_written_before_it() {
    testing::run(Runtime::builder(), async |kit| {
        let named = |number: u32| Draft::json("numbered", json!(number));
        let counted = |outputs: millstream::Outputs| u32::try_from(outputs.len()).unwrap_or(0);
        let two = || async { [Draft::json("x", json!(1)), Draft::json("x", json!(2))] };
        kit.on("e", two.layer(MapResponseLayer::new(named)).layer(MapResponseLayer::new(counted)))?;
        let numbered = Probe::<Json>::new();
        kit.on("numbered", numbered.handler())?;
        kit.emit(Draft::json("e", json!(1)))?;
        kit.settle().await;
        assert_eq!(numbered.received()[0].0, json!(2));
        Ok(())
    });
}

#[test]
fn the_runtimes_layers_are_outside_of_the_handlers_own_for_handlers_of_every_kind() {
    let trail = Trail::default();
    let builder = Runtime::builder().layer(trail.layer("first")).layer(trail.layer("second"));
    testing::run(builder, async |kit| {
        kit.on("bare", trail.handler("bare"))?;
        kit.on("layered", trail.handler("layered").named("l").layer(trail.layer("own")).priority(1))?;
        kit.on("spawned", trail.handler("spawned").spawned().layer(trail.layer("inside of the task")))?;
        let noting = trail.clone();
        kit.on("blocking", blocking(move |_: Json| noting.note("blocking")))?;
        let cases: [(&'static str, &[&str]); 4] = [
            ("bare", &["first", "second", "bare"]),
            ("layered", &["first", "second", "own", "layered"]),
            ("spawned", &["first", "second", "inside of the task", "spawned"]),
            ("blocking", &["first", "second", "blocking"]),
        ];
        for (event, passed) in cases {
            kit.emit(Draft::json(event, json!(1)))?;
            kit.settle().await;
            assert_eq!(trail.take(), passed);
        }
        assert_eq!(kit.stats().deliveries.handled, 4);
        Ok(())
    });
}

#[test]
fn what_handlers_return_comes_through_the_runtimes_layers_and_streams_wear_none() {
    let trail = Trail::default();
    testing::run(Runtime::builder().layer(trail.layer("runtime")), async |kit| {
        kit.on("a", |Json(n): Json| async move { Draft::json("b", n) })?;
        let stream = kit.runtime().stream::<Json>("b");
        kit.emit(Draft::json("a", json!(5)))?;
        kit.settle().await;
        assert_eq!((stream.head().len(), trail.take()), (1, vec!["runtime"]));
        Ok(())
    });
}

#[test]
fn a_limit_is_shared_by_all_deliveries_of_its_handler() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND);
        kit.on("a", probe.handler().layer(ConcurrencyLayer::new(Limit::new(2))?))?;
        kit.emit_all((0..6).map(|n| Draft::json("a", json!(n))))?;
        kit.settle().await;
        assert_eq!((probe.most_running(), kit.elapsed()), (2, 3 * SECOND));
        Ok(())
    });
}

#[test]
fn a_breaker_has_one_state_for_all_deliveries_and_opens() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().always_fails();
        let breaker = BreakerLayer::new(Trip::default())?;
        kit.on("a", probe.handler().layer(breaker))?;
        kit.emit_all((0..100).map(|n| Draft::json("a", json!(n))))?;
        kit.settle().await;
        assert!(probe.attempts() < 100, "{} of 100 reached the handler", probe.attempts());
        assert_eq!(kit.stats().deliveries.dead, 100);
        Ok(())
    });
}

#[test]
fn what_a_runtimes_layer_value_holds_is_shared_by_all_subscriptions() -> Result<(), millstream::SettingsError> {
    let one_for_all = Runtime::builder().layer(ConcurrencyLayer::new(Limit::new(1))?);
    assert_eq!(time_for_two_subscriptions(one_for_all), 4 * SECOND);
    let one_for_each = layer_fn(|handler| {
        let limit = ConcurrencyLayer::new(Limit::new(1)).expect("it is possible");
        limit.layer(handler)
    });
    assert_eq!(time_for_two_subscriptions(Runtime::builder().layer(one_for_each)), 2 * SECOND);
    // tower's own makes its limit when it is applied.
    assert_eq!(time_for_two_subscriptions(Runtime::builder().layer(ConcurrencyLimitLayer::new(1))), 2 * SECOND);
    Ok(())
}

/// Two subscriptions, two events, a second each.
fn time_for_two_subscriptions(builder: millstream::Builder) -> Duration {
    let mut elapsed = Duration::ZERO;
    testing::run(builder, async |kit| {
        let probe = Probe::<Json>::new().takes(SECOND);
        kit.on("a", probe.handler())?;
        kit.on("a", probe.handler())?;
        kit.emit_all((0..2).map(|n| Draft::json("a", json!(n))))?;
        kit.settle().await;
        elapsed = kit.elapsed();
        Ok(())
    });
    elapsed
}

#[test]
fn a_breaker_of_the_runtime_opens_for_all_its_subscriptions() -> Result<(), millstream::SettingsError> {
    let breaker = BreakerLayer::new(Trip::default().minimum(2))?;
    testing::run(Runtime::builder().layer(breaker), async |kit| {
        let (fails, works) = (Probe::<Json>::new().always_fails(), Probe::<Json>::new());
        kit.on("a", fails.handler())?;
        kit.on("b", works.handler())?;
        kit.emit_all((0..2).map(|n| Draft::json("a", json!(n))))?;
        kit.emit(Draft::json("b", json!(1)))?;
        kit.settle().await;
        assert_eq!((fails.attempts(), works.attempts()), (2, 0));
        Ok(())
    });
    Ok(())
}

#[test]
fn a_layer_is_applied_once_to_each_handler_that_wears_it() {
    let applied = Arc::new(AtomicUsize::new(0));
    testing::run(Runtime::builder().layer(Counting(Arc::clone(&applied))), async |kit| {
        assert_eq!(applied.swap(0, SeqCst), 1, "`build` hears what it is");
        let counting = || Counting(Arc::clone(&applied));
        kit.on("a", Probe::<Json>::new().handler().layer(counting()).layer(counting()))?;
        assert_eq!(applied.load(SeqCst), 3);
        kit.emit_all((0..10).map(|n| Draft::json("a", json!(n))))?;
        kit.settle().await;
        assert_eq!(applied.load(SeqCst), 3);
        Ok(())
    });
}
