use std::time::Duration;

use futures_util::future::join_all;
use millstream_middleware::rate::{Limited, Rate, RateLayer};
use millstream_middleware::{Classify, ErrorKind, RetryHint};
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn the_paused_clock_is_followed_and_calls_pass_in_order() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let layer = RateLayer::new(Rate::per_second(10).burst(1)).unwrap();
    let mut service = ServiceBuilder::new().layer(layer).service(probe);
    let start = now();
    let mut calls = Vec::new();
    for id in 0..20 {
        calls.push(service.ready().await.unwrap().call(req(id, Act::Answer)));
    }
    calls.reverse();
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(seen.order(), (0..20).collect::<Vec<_>>());
    let expected: Vec<f64> = (0..20).map(|n| f64::from(n) / 10.0).collect();
    for (at, expected) in seen.times(start).iter().zip(expected) {
        assert!((at - expected).abs() < 0.005, "{at} is not {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_when_to_come_again_and_that_is_true() {
    let layer = RateLayer::new(Rate::per_minute(2).refuse()).unwrap();
    let service = ServiceBuilder::new().layer(layer).service(Probe::new());
    let call = |id| service.clone().oneshot(req(id, Act::Answer));
    assert!(call(1).await.is_ok());
    assert!(call(2).await.is_ok());
    let error = call(3).await.unwrap_err();
    let wait = error.layer::<Limited>().unwrap().retry_after();
    assert_eq!(wait, S * 30);
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Overloaded, RetryHint::After(wait)));
    tokio::time::advance(Duration::from_millis(29_999)).await;
    assert!(call(4).await.is_err());
    tokio::time::advance(MS).await;
    assert!(call(5).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_allowance_and_idle_ones_are_forgotten() {
    let layer = RateLayer::by_key(Rate::per_second(1).refuse(), |request: &Req| request.key).unwrap();
    let service = ServiceBuilder::new().layer(layer.clone()).service(Probe::new());
    for key in 0..5_000 {
        assert!(service.clone().oneshot(keyed(1, key, Act::Answer)).await.is_ok());
        assert!(service.clone().oneshot(keyed(2, key, Act::Answer)).await.is_err());
    }
    assert_eq!(layer.keys(), 5_000);
    tokio::time::advance(S * 2).await;
    for id in 0..10_000 {
        let _over_the_rate = service.clone().oneshot(keyed(id, 0, Act::Answer)).await;
    }
    assert_eq!(layer.keys(), 1, "a sweep has come by itself");
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_dropped_is_not_spent() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let layer = RateLayer::new(Rate::per_second(1).burst(1)).unwrap();
    let mut service = ServiceBuilder::new().layer(layer).service(probe);
    let start = now();
    service.ready().await.unwrap().call(req(0, Act::Answer)).await.unwrap();
    let mut dropped = Vec::new();
    for id in 1..100 {
        let mut call = Box::pin(service.ready().await.unwrap().call(req(id, Act::Answer)));
        assert!(poll_once(&mut call).is_pending());
        dropped.push(call);
    }
    let last = service.ready().await.unwrap().call(req(100, Act::Answer));
    drop(dropped);
    last.await.unwrap();
    assert!(seen.times(start)[1] < 1.005, "{:?}", seen.times(start));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_pass_those_who_wait_though_the_allowance_would_let_it() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let layer = RateLayer::new(Rate::per_second(1).burst(1)).unwrap();
    let mut service = ServiceBuilder::new().layer(layer).service(probe);
    let mut call = async |id| Box::pin(service.ready().await.unwrap().call(req(id, Act::Answer)));
    call(0).await.await.unwrap();
    let mut waits = call(1).await;
    assert!(poll_once(&mut waits).is_pending());
    tokio::time::advance(S).await;
    // The allowance is back and the one who waits has not been polled since.
    let mut newcomer = call(2).await;
    assert!(poll_once(&mut newcomer).is_pending());
    assert_eq!(seen.order(), [0], "the newcomer stands in line");
    waits.await.unwrap();
    newcomer.await.unwrap();
    assert_eq!(seen.order(), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_waits_any_more_a_call_passes_at_its_first_poll() {
    let layer = RateLayer::new(Rate::per_second(1).burst(2)).unwrap();
    let mut service = ServiceBuilder::new().layer(layer).service(Probe::new());
    let mut call = async |id| Box::pin(service.ready().await.unwrap().call(req(id, Act::Answer)));
    let (first, second, served) = (call(0).await, call(1).await, call(2).await);
    let mut leaves = call(3).await;
    assert!(poll_once(&mut leaves).is_pending());
    first.await.unwrap();
    second.await.unwrap();
    served.await.unwrap();
    drop(leaves);
    // Between two ticks of tokio's timers: whoever sets one now waits for the next.
    tokio::time::advance(Duration::from_micros(10_000_300)).await;
    assert!(poll_once(&mut call(4).await).is_ready(), "there is no line to look for and no timer to wait for");
}

#[tokio::test(start_paused = true)]
async fn the_queue_and_the_patience_of_waiters_are_bounded_where_asked() {
    let layer = RateLayer::new(Rate::per_second(1).burst(1).queue(1).patience(S * 60)).unwrap();
    let service = ServiceBuilder::new().layer(layer).service(Probe::new());
    let answers = join_all((0..4).map(|id| service.clone().oneshot(req(id, Act::Answer)))).await;
    let passed: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(passed, [true, true, true, false], "one passes, one is first in line, one waits behind");
    let refused = answers[3].as_ref().unwrap_err().layer::<Limited>().unwrap();
    assert_eq!(refused.retry_after(), S * 2);

    let layer = RateLayer::new(Rate::per_minute(1).burst(1).patience(S)).unwrap();
    let service = ServiceBuilder::new().layer(layer).service(Probe::new());
    let start = now();
    let answers = join_all((0..3).map(|id| service.clone().oneshot(req(id, Act::Answer)))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(now() - start, S);
}

#[test]
fn impossible_rates_are_refused_all_at_once() {
    let worst = Rate::per(0, Duration::ZERO).burst(0).patience(Duration::ZERO).refuse();
    assert_eq!(worst.check().unwrap_err().refused().len(), 5);
    assert!(RateLayer::new(Rate::per(1_000, Duration::from_nanos(10))).is_err());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_do_not_wait_for_a_timer_each() {
    // 2,000 calls at 20,000 a second take 0.1 s; a timer of a millisecond for each would take 2 s.
    let layer = RateLayer::new(Rate::per_second(20_000).burst(100)).unwrap();
    let service = ServiceBuilder::new().layer(layer).service(Probe::new());
    let start = now();
    let answers = join_all((0..2_000).map(|id| service.clone().oneshot(req(id, Act::Answer)))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(now() - start < MS * 150, "{:?}", now() - start);
}
