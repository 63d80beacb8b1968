//! The middleware's layers around handlers, and who owns retry.

use std::time::Duration;

use millstream::{
    Draft, ErrorKind, Handler, HandlerError, Json, OnError, Retry, Runtime,
    middleware::{
        breaker::{BreakerLayer, Trip},
        concurrency::{ConcurrencyLayer, Limit},
        retry::{Budget, RetryLayer},
        timeout::TimeoutLayer,
    },
    testing::{self, Probe},
};
use serde_json::json;
use tower::ServiceBuilder;

const SECOND: Duration = Duration::from_secs(1);

fn retry() -> RetryLayer<HandlerError> {
    RetryLayer::new(Retry::fixed(10 * SECOND).attempts(3)).expect("it is possible")
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
fn an_outermost_retry_layer_is_lifted_into_the_subscription() {
    testing::run(Runtime::builder(), async |kit| {
        let probe = Probe::<Json>::new().fails(2).takes(SECOND);
        kit.on("a", probe.handler().concurrency(1).layer(TimeoutLayer::new(5 * SECOND)?).layer(retry()))?;
        kit.emit(Draft::json("a", json!(1)))?;
        kit.advance(2 * SECOND).await;
        let book = kit.stats().deliveries;
        assert_eq!((book.in_flight, book.waiting), (0, 1), "the backoff is the dispatcher's and holds no slot");
        kit.settle().await;
        assert_eq!((probe.attempts(), kit.stats().deliveries.retried), (3, 2));
        assert_eq!(serde_json::to_value(kit.describe())?["subscriptions"][0]["retry"]["attempts"], 3);
        Ok(())
    });
}

#[test]
fn a_retry_layer_further_in_is_refused_with_the_reason() {
    testing::run(Runtime::builder(), async |kit| {
        let plain = || Probe::<Json>::new().handler();
        let around = kit.on("a", plain().layer(retry()).layer(TimeoutLayer::new(SECOND)?));
        let stacked = kit.on(
            "a",
            plain().layer(ServiceBuilder::new().layer(retry()).layer(TimeoutLayer::new(SECOND)?).into_inner()),
        );
        let budgeted = kit.on("a", plain().layer(retry().budget(Budget::default())?));
        for (refused, reason) in [(around, "around it"), (stacked, "inside a stack"), (budgeted, "budget")] {
            let Err(OnError::Settings { source, .. }) = refused else { panic!("it was not refused: {reason}") };
            assert!(source.to_string().contains(reason), "{source}");
        }
        Ok(())
    });
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
