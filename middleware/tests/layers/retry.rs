use std::sync::{Arc, Mutex};

use millstream_middleware::concurrency::{ConcurrencyLayer, Limit};
use millstream_middleware::retry::{Budget, Retried, Retry, RetryLayer};
use millstream_middleware::{Classify, ErrorKind, RetryHint};
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::support::*;

fn layer(policy: Retry) -> RetryLayer<Error> {
    RetryLayer::new(policy).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_plain_error_is_retried_after_the_documented_delay() {
    let probe = Probe::scripted([Act::Fail(BROKEN), Act::Fail(BROKEN)]);
    let seen = probe.seen.clone();
    let start = now();
    let service = ServiceBuilder::new().layer(layer(Retry::linear(S * 3))).service(probe);
    assert_eq!(service.oneshot(req(7, Act::Answer)).await.unwrap(), 7);
    assert_eq!(seen.times(start), [0.0, 3.0, 9.0]);
}

#[tokio::test(start_paused = true)]
async fn the_last_error_comes_back_when_the_attempts_are_used_up() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let service = ServiceBuilder::new().layer(layer(Retry::exponential())).service(probe);
    let error = service.oneshot(req(1, Act::Fail(BROKEN))).await.unwrap_err();
    assert_eq!(error.inner(), Some(&BROKEN));
    assert_eq!(seen.calls(), 3, "three attempts by default, the first call included");
}

#[tokio::test(start_paused = true)]
async fn hints_kinds_and_predicates_decide() {
    let calls = async |policy: RetryLayer<Error>, broken: Broken| {
        let probe = Probe::new();
        let seen = probe.seen.clone();
        let start = now();
        let service = ServiceBuilder::new().layer(policy).service(probe);
        service.oneshot(req(1, Act::Fail(broken))).await.unwrap_err();
        (seen.calls(), (now() - start).as_secs())
    };
    let fixed = Retry::fixed(S);
    let never = Broken(ErrorKind::Other, RetryHint::Never);
    let after = Broken(ErrorKind::Other, RetryHint::After(S * 9));
    let invalid = Broken(ErrorKind::Invalid, RetryHint::Default);
    assert_eq!(calls(layer(fixed.clone()), BROKEN).await, (3, 2));
    assert_eq!(calls(layer(fixed.clone()), never).await, (1, 0));
    assert_eq!(calls(layer(fixed.clone()), after).await, (3, 18));
    assert_eq!(calls(layer(fixed.clone()), invalid).await, (1, 0));
    assert_eq!(calls(layer(fixed.clone().kinds([ErrorKind::Invalid])), invalid).await, (3, 2));
    let when = fixed.clone().when(|error: &Error| error.kind() == ErrorKind::Invalid);
    assert_eq!(calls(RetryLayer::new(when).unwrap(), invalid).await, (3, 2));
    assert_eq!(calls(layer(Retry::none()), BROKEN).await, (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_total_time_counts_from_the_first_attempt() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let start = now();
    let policy = Retry::fixed(S).attempts(100).total(S * 10);
    let service = ServiceBuilder::new().layer(layer(policy)).service(probe);
    service.oneshot(req(1, Act::FailAfter(S * 2))).await.unwrap_err();
    assert_eq!(seen.times(start), [0.0, 3.0, 6.0, 9.0], "the next would begin at 12 s");
    assert_eq!(now() - start, S * 11);
}

#[tokio::test(start_paused = true)]
async fn a_backoff_holds_no_permit_of_the_layers_inside() {
    let limit = ConcurrencyLayer::new(Limit::new(1)).unwrap();
    let service = ServiceBuilder::new().layer(layer(Retry::fixed(S * 60))).layer(limit.clone()).service(Probe::new());
    let mut failing = service.clone();
    let mut retried = Box::pin(failing.ready().await.unwrap().call(req(1, Act::Fail(BROKEN))));
    assert!(poll_once(&mut retried).is_pending());
    assert_eq!(limit.available(), 1);
    let start = now();
    assert_eq!(service.oneshot(req(2, Act::Answer)).await.unwrap(), 2);
    assert_eq!(now(), start);
}

#[tokio::test(start_paused = true)]
async fn a_budget_bounds_the_retries_of_all_calls_together() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let budget = Budget::default().ratio(0.25).reserve(10);
    let policy = layer(Retry::fixed(S).attempts(5)).budget(budget).unwrap();
    let service = ServiceBuilder::new().layer(policy).service(probe);
    for id in 0..1_000 {
        service.clone().oneshot(req(id, Act::Fail(BROKEN))).await.unwrap_err();
    }
    let retries = seen.calls() - 1_000;
    assert!((250..=260).contains(&retries), "{retries} retries for 1,000 calls at 25 % and 10");
}

#[tokio::test(start_paused = true)]
async fn observers_see_each_retry_and_its_delay() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let policy = layer(Retry::linear(S)).observe(move |_, retried| sink.lock().unwrap().push(retried));
    let service = ServiceBuilder::new().layer(policy).service(Probe::new());
    service.oneshot(req(1, Act::Fail(BROKEN))).await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [Retried { failed: 1, delay: S }, Retried { failed: 2, delay: S * 2 }]);
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_sequence_of_delays() {
    let run = async || {
        let probe = Probe::new();
        let seen = probe.seen.clone();
        let start = now();
        let policy = layer(Retry::exponential().attempts(6)).seed(42);
        let service = ServiceBuilder::new().layer(policy).service(probe);
        service.oneshot(req(1, Act::Fail(BROKEN))).await.unwrap_err();
        seen.times(start)
    };
    assert_eq!(run().await, run().await);
}

#[test]
fn impossible_policies_and_budgets_are_refused() {
    let worst = RetryLayer::<Error>::new(Retry::exponential().attempts(0).factor(0.0));
    assert_eq!(worst.unwrap_err().refused().len(), 2);
    let budget = Budget::default().ratio(f64::NAN).reserve(0);
    assert_eq!(layer(Retry::none()).budget(budget).unwrap_err().refused().len(), 2);
}
