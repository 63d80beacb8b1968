//! The layers that answer to load: hedge and adaptive concurrency.

use std::time::Duration;

use futures_util::future::join_all;
use millstream_middleware::adaptive::{Adapt, AdaptiveLayer};
use millstream_middleware::concurrency::QueueError;
use millstream_middleware::hedge::{HedgeLayer, Hedging};
use millstream_middleware::retry::Budget;
use millstream_middleware::{ErrorKind, RetryHint};
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::support::*;

fn hedge(
    hedging: Hedging,
    script: impl IntoIterator<Item = Act>,
) -> (impl Service<Req, Response = u32, Error = Error> + Clone, std::sync::Arc<Seen>) {
    let probe = Probe::scripted(script);
    let seen = probe.seen.clone();
    (ServiceBuilder::new().layer(HedgeLayer::new(hedging).unwrap()).service(probe), seen)
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_is_made_again_and_the_first_answer_wins() {
    let (service, seen) = hedge(Hedging::after(S), [Act::Hang, Act::Take(S)]);
    let start = now();
    assert!(service.clone().oneshot(req(1, Act::Answer)).await.is_ok());
    assert_eq!((now() - start, seen.calls(), seen.running()), (S * 2, 2, 0));
    assert!(service.oneshot(req(2, Act::Answer)).await.is_ok());
    assert_eq!(seen.calls(), 3, "a quick call is made once");
}

#[tokio::test(start_paused = true)]
async fn an_error_waits_for_the_calls_that_are_under_way() {
    let (service, seen) = hedge(Hedging::after(S).calls(3), [Act::FailAfter(S * 2), Act::Take(S * 3)]);
    assert!(service.oneshot(req(1, Act::Hang)).await.is_ok());
    assert_eq!((seen.calls(), seen.running()), (3, 0));

    let (service, seen) = hedge(Hedging::after(S), [Act::FailAfter(S * 2), Act::FailAfter(S * 3)]);
    let start = now();
    assert!(service.oneshot(req(1, Act::Hang)).await.is_err());
    assert_eq!((now() - start, seen.calls()), (S * 4, 2));

    let (service, seen) = hedge(Hedging::after(S), []);
    assert!(service.oneshot(req(1, Act::Fail(BROKEN))).await.is_err());
    assert_eq!(seen.calls(), 1, "an error starts no call");
}

#[tokio::test(start_paused = true)]
async fn hedges_are_bounded_by_their_budget() {
    let hedging = Hedging::after(S).budget(Budget::default().ratio(0.1).reserve(5));
    let (service, seen) = hedge(hedging, []);
    for id in 0..1_000 {
        service.clone().oneshot(req(id, Act::Take(S * 2))).await.unwrap();
    }
    assert!((100..=105).contains(&(seen.calls() - 1_000)), "{}", seen.calls());
}

#[tokio::test(start_paused = true)]
async fn the_limit_falls_with_overload_and_rises_with_success() {
    let layer = AdaptiveLayer::new(Adapt::aimd(Some(S * 5)).start(10).limits(2, 50)).unwrap();
    let service = ServiceBuilder::new().layer(layer.clone()).service(Probe::new());
    let overloaded = Broken(ErrorKind::Overloaded, RetryHint::Default);
    for id in 0..100 {
        service.clone().oneshot(req(id, Act::Fail(overloaded))).await.unwrap_err();
    }
    assert_eq!(layer.limit(), 2);
    for _ in 0..100 {
        let calls = (0..60).map(|id| service.clone().oneshot(req(id, Act::Take(MS))));
        assert!(join_all(calls).await.iter().all(Result::is_ok));
    }
    assert_eq!(layer.limit(), 50);
    assert_eq!(layer.load(), (0, 0));
    for id in 0..10 {
        service.clone().oneshot(req(id, Act::Take(S * 5))).await.unwrap();
    }
    assert!(layer.limit() < 20, "slow calls are overload too: {}", layer.limit());
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_run_than_the_limit_and_waiters_are_woken_when_it_rises() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let layer = AdaptiveLayer::new(Adapt::gradient().start(4).limits(4, 4).queue(100)).unwrap();
    let service = ServiceBuilder::new().layer(layer).service(probe);
    let answers = join_all((0..110).map(|id| service.clone().oneshot(req(id, Act::Take(S))))).await;
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!(refused.len(), 6);
    assert!(refused.iter().all(|error| error.layer() == Some(&QueueError::Full { queue: 100 })));
    assert_eq!(seen.peak(), 4);

    let probe = Probe::new();
    let seen = probe.seen.clone();
    let layer = AdaptiveLayer::new(Adapt::aimd(None).start(1).limits(1, 8)).unwrap();
    let service = ServiceBuilder::new().layer(layer).service(probe);
    let answers = join_all((0..100).map(|id| service.clone().oneshot(req(id, Act::Take(S))))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(seen.peak(), 8);
}

#[test]
fn impossible_settings_are_refused_all_at_once() {
    let hedging = Hedging::after(Duration::ZERO).calls(1).budget(Budget::default().reserve(0));
    assert_eq!(hedging.check().unwrap_err().refused().len(), 3);
    let adapt = Adapt::aimd(Some(Duration::ZERO)).limits(0, 0).start(9).patience(Duration::ZERO);
    assert_eq!(adapt.check().unwrap_err().refused().len(), 4);
    assert!(Adapt::gradient().limits(9, 3).check().is_err());
}
