//! Retry has one owner: the dispatcher. What becomes of retry layers, and what a subscription wears.

use std::time::Duration;

use millstream::{
    BoxError, Draft, Handler, HandlerError, Json, OnError, Retry, Runtime, SettingsError,
    middleware::{
        Describe, LiftLayer,
        breaker::Trip,
        concurrency::{ConcurrencyLayer, Limit},
        retry::{Budget, RetryLayer},
        stack::{Resilient, Stack},
        timeout::TimeoutLayer,
    },
    testing::{self, Probe, TestKit},
};
use serde_json::json;
use tower::{Layer, ServiceBuilder, layer::layer_fn, limit::ConcurrencyLimitLayer};

const SECOND: Duration = Duration::from_secs(1);

fn retry() -> RetryLayer<HandlerError> {
    retry_of(3)
}

fn retry_of(attempts: u32) -> RetryLayer<HandlerError> {
    RetryLayer::new(Retry::fixed(10 * SECOND).attempts(attempts)).expect("it is possible")
}

fn timeout() -> TimeoutLayer {
    TimeoutLayer::new(5 * SECOND).expect("it is possible")
}

fn plain() -> impl Handler<(Json,)> {
    Probe::<Json>::new().handler()
}

/// Retries as tower would, which nobody can take over.
#[derive(Clone)]
struct TowersPolicy;

impl<Q: Clone, R, E> tower::retry::Policy<Q, R, E> for TowersPolicy {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut Q, _: &mut Result<R, E>) -> Option<Self::Future> {
        None
    }

    fn clone_request(&mut self, request: &Q) -> Option<Q> {
        Some(request.clone())
    }
}

#[test]
fn an_outermost_retry_layer_is_lifted_into_the_subscription() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().fails(2).takes(SECOND);
        kit.on("a", probe.handler().concurrency(1).layer(retry()).layer(timeout()))?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.advance(2 * SECOND).await;
        let book = kit.stats().deliveries;
        assert_eq!((book.in_flight, book.waiting), (0, 1), "the backoff is the dispatcher's and holds no slot");
        kit.settle().await;
        assert_eq!((probe.attempts(), kit.stats().deliveries.retried), (3, 2));
        let described = serde_json::to_value(kit.describe())?;
        assert_eq!(described["subscriptions"][0]["retry"]["attempts"], 3);
        assert_eq!(described["subscriptions"][0]["layers"], json!([{"name": "timeout", "settings": {"limit": "5s"}}]));
        Ok(())
    });
}

#[test]
fn a_retry_layer_outside_of_a_task_is_lifted_as_well() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().fails(1);
        kit.on("a", probe.handler().spawned().layer(retry()))?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        assert_eq!((probe.attempts(), kit.stats().deliveries.retried), (2, 1));
        Ok(())
    });
}

/// Why a handler was refused, where it was.
fn reason(refused: Result<millstream::SubscriptionId, OnError>) -> String {
    match refused {
        Err(OnError::Settings { wrong, .. }) => wrong.to_string(),
        other => format!("it was not refused: {other:?}"),
    }
}

#[test]
fn a_retry_layer_further_in_is_refused_with_the_reason() {
    testing::run(Runtime::builder(), async |kit| {
        let around = plain().layer(timeout()).layer(retry());
        assert!(reason(kit.on("a", around)).contains("another layer is around it"));
        let twice = plain().layer(retry()).layer(retry());
        assert!(reason(kit.on("a", twice)).contains("another layer is around it"));
        let hidden = || -> Box<dyn Fn() -> _> { Box::new(|| plain().layer(retry())) };
        assert!(reason(kit.on("a", Handler::layer(hidden()(), timeout()))).contains("another layer is around it"));
        let stacked = plain().layer(ServiceBuilder::new().layer(retry()).layer(timeout()).into_inner());
        assert!(reason(kit.on("a", stacked)).contains("`retry` is inside a stack of layers"));
        let budgeted = plain().layer(retry().budget(Budget::default())?);
        assert!(reason(kit.on("a", budgeted)).contains("it has a budget"));
        assert_eq!(kit.describe().subscriptions.len(), 0, "nothing of it is subscribed");
        Ok(())
    });
}

#[test]
fn a_retry_in_a_stack_of_any_make_is_found() -> Result<(), BoxError> {
    let stack = Stack::builder("payments").timeout(SECOND).retry(Retry::fixed(SECOND)).build()?;
    let hidden = Stack::builder("outer").named("mine", stack.clone()).build()?;
    let resilient = Resilient::default().build::<HandlerError>()?;
    let closure = layer_fn(|service| retry().layer(service));
    let lifted = ServiceBuilder::new().layer(RetryLayer::new(Retry::fixed(SECOND))?).layer(LiftLayer).into_inner();
    testing::run(Runtime::builder(), async |kit| {
        assert!(reason(kit.on("a", plain().layer(stack))).contains("inside a stack of layers, `payments`"));
        assert!(reason(kit.on("a", plain().layer(hidden))).contains("inside a stack of layers, `outer`"));
        assert!(reason(kit.on("a", plain().layer(resilient))).contains("inside a stack of layers, `resilient`"));
        assert!(reason(kit.on("a", plain().layer(closure))).contains("`retry` is inside a stack"));
        assert!(reason(kit.on("a", plain().layer(lifted))).contains("`retry` is inside a stack"));
        let towers = tower::retry::RetryLayer::new(TowersPolicy);
        assert!(reason(kit.on("a", plain().layer(towers.clone()))).contains("`RetryLayer` is inside a stack"));
        let mixed = ServiceBuilder::new().layer(timeout()).layer(towers).into_inner();
        assert!(reason(kit.on("a", plain().layer(mixed))).contains("`Stack` is inside a stack"));
        Ok(())
    });
    Ok(())
}

#[test]
fn the_resilient_default_without_its_retry_goes_around_a_handler() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().fails(2);
        let attempt = Resilient::default().breaker(Trip::default().minimum(5)).attempt()?;
        kit.on("a", probe.handler().layer(retry()).layer(attempt.clone()))?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        assert_eq!((probe.attempts(), kit.stats().deliveries.handled), (3, 1));
        let described = &kit.describe().subscriptions[0];
        assert_eq!(described.layers, [attempt.describe()]);
        Ok(())
    });
}

#[test]
fn a_runtimes_outermost_retry_is_the_policy_of_subscriptions_without_their_own() {
    let attempts = |kit: &TestKit| -> Vec<u32> {
        kit.describe().subscriptions.iter().map(|subscription| subscription.retry.max_attempts()).collect()
    };
    testing::run(Runtime::builder().layer(retry()).layer(timeout()), async |kit| {
        let probe = Probe::<Json>::new().fails(2).takes(SECOND);
        kit.on("a", probe.handler().concurrency(1))?;
        kit.on("b", plain().retry(Retry::none()))?;
        kit.on("b", plain().retry(Retry::fixed(SECOND).attempts(5)))?;
        kit.on("b", plain().layer(retry_of(7)))?;
        kit.on("b", plain().layer(retry_of(7)).retry(Retry::fixed(SECOND).attempts(9)))?;
        kit.on("b", plain().retry(Retry::fixed(SECOND).attempts(9)).layer(retry_of(7)))?;
        let _stream = kit.runtime().stream::<Json>("c");
        assert_eq!(attempts(&kit), [3, 1, 5, 7, 9, 7, 1]);
        kit.emit(Draft::json("a", json!(1)))?;
        kit.advance(2 * SECOND).await;
        let book = kit.stats().deliveries;
        assert_eq!((book.in_flight, book.waiting), (0, 1), "the backoff is the dispatcher's and holds no slot");
        kit.settle().await;
        assert_eq!((probe.attempts(), kit.stats().deliveries.retried), (3, 2));
        Ok(())
    });
}

#[test]
fn a_runtime_with_a_retry_further_in_is_not_built_and_says_why_with_all_else() -> Result<(), SettingsError> {
    let reasons = |builder: millstream::Builder| builder.build().expect_err("it is impossible").to_string();
    let around = "another layer is around it";
    assert!(reasons(Runtime::builder().layer(timeout()).layer(retry())).contains(around));
    assert!(reasons(Runtime::builder().layer(retry()).layer(retry())).contains(around));
    let stack = ServiceBuilder::new().layer(retry()).layer(timeout()).into_inner();
    assert!(reasons(Runtime::builder().layer(stack)).contains("`retry` is inside a stack"));
    let resilient = Resilient::default().build::<HandlerError>()?;
    let refused = reasons(Runtime::builder().layer(resilient).queue_size(0));
    assert!(refused.contains("`resilient`") && refused.contains("queue_size"), "{refused}");
    let towers = tower::retry::RetryLayer::new(TowersPolicy);
    assert!(reasons(Runtime::builder().layer(towers)).contains("`RetryLayer`"));
    let budgeted = retry().budget(Budget::default())?;
    assert!(reasons(Runtime::builder().layer(budgeted)).contains("it has a budget"));
    Ok(())
}

#[test]
fn a_description_shows_what_a_subscription_wears_outermost_first() -> Result<(), BoxError> {
    let stack = Stack::builder("payments").concurrency(Limit::new(16)).timeout(SECOND).build()?;
    let builder = Runtime::builder().layer(timeout()).layer(ConcurrencyLimitLayer::new(9));
    testing::run(builder, async |kit| {
        let limit = ConcurrencyLayer::new(Limit::new(4).queue(2))?;
        let stacked = ServiceBuilder::new().layer(limit).layer(timeout()).into_inner();
        kit.on("a", plain().named("pay").layer(stack).spawned().layer(stacked))?;
        let described = kit.describe();
        let layers: Vec<_> = described.subscriptions[0].layers.iter().map(ToString::to_string).collect();
        let expected = [
            "timeout(limit 5s)",
            "ConcurrencyLimitLayer",
            "payments[concurrency(max 16) > timeout(limit 1s)]",
            "spawned",
            "concurrency(max 4, queue 2)",
            "timeout(limit 5s)",
        ];
        assert_eq!(layers, expected);
        let stack = &serde_json::to_value(&described)?["subscriptions"][0]["layers"][2];
        let inside = json!([
            {"name": "concurrency", "settings": {"max": "16"}},
            {"name": "timeout", "settings": {"limit": "1s"}},
        ]);
        assert_eq!(*stack, json!({"name": "payments", "layers": inside}));
        let names = "timeout, ConcurrencyLimitLayer, payments, spawned, concurrency, timeout";
        assert!(described.to_mermaid().contains(&format!("[\"pay<br/>{names}\"]")), "{}", described.to_mermaid());
        assert!(described.to_dot().contains(&format!("[label=\"pay\\n{names}\" shape=box]")), "{}", described.to_dot());
        Ok(())
    });
    Ok(())
}

#[test]
fn a_policy_may_look_at_the_error() {
    testing::run(Runtime::builder(), async |kit| {
        let policy = || Retry::fixed(SECOND).attempts(5).when(|error: &HandlerError| error.code() == Some("busy"));
        let busy = || async { Err::<(), _>(HandlerError::transient("later").with_code("busy")) };
        let gone = || async { Err::<(), _>(HandlerError::transient("never").with_code("gone")) };
        kit.on("a", busy.named("busy").retry(policy()))?;
        kit.on("a", gone.named("gone").retry(policy()))?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.settle().await;
        let mut attempts: Vec<_> =
            kit.all_dead_letters().iter().map(|letter| (letter.subscription.clone(), letter.attempts)).collect();
        attempts.sort();
        assert_eq!(attempts, [(Some("busy".into()), 5), (Some("gone".into()), 1)]);
        Ok(())
    });
}
