use std::time::Duration;

use futures_util::future::join_all;
use millstream_middleware::breaker::{Breaker, BreakerLayer, Open, State, Trip};
use millstream_middleware::concurrency::{ConcurrencyLayer, Limit};
use millstream_middleware::{Classify, ErrorKind, RetryHint};
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::support::*;

fn trip() -> Trip {
    Trip::default().minimum(4).window(S * 30)
}

#[tokio::test(start_paused = true)]
async fn the_state_is_shared_by_all_services_of_the_layer() {
    let layer = BreakerLayer::new(trip()).unwrap();
    let changes = layer.breaker().changes();
    for id in 0..4 {
        let service = ServiceBuilder::new().layer(layer.clone()).service(Probe::new());
        service.oneshot(req(id, Act::Fail(BROKEN))).await.unwrap_err();
    }
    assert_eq!(layer.breaker().state(), State::Open);
    assert_eq!(*changes.borrow(), State::Open);
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let error = ServiceBuilder::new().layer(layer).service(probe).oneshot(req(9, Act::Answer)).await.unwrap_err();
    assert_eq!(error.layer::<Open>().unwrap().retry_after(), Some(S * 5));
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Unavailable, RetryHint::After(S * 5)));
    assert_eq!(seen.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn half_open_it_admits_three_and_closes_when_they_succeed() {
    let layer = BreakerLayer::new(trip()).unwrap();
    layer.breaker().open();
    tokio::time::advance(S * 5).await;
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let service = ServiceBuilder::new().layer(layer.clone()).service(probe);
    let answers = join_all((0..100).map(|id| service.clone().oneshot(req(id, Act::Take(S))))).await;
    assert_eq!(seen.calls(), 3, "no burst");
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    assert_eq!(layer.breaker().state(), State::Closed);
    assert_eq!(service.oneshot(req(1, Act::Answer)).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_gives_its_lease_back_and_a_hung_one_does_not_stick() {
    let layer = BreakerLayer::new(trip().probes(1)).unwrap();
    layer.breaker().open();
    tokio::time::advance(S * 5).await;
    let mut service = ServiceBuilder::new().layer(layer.clone()).service(Probe::new());
    for id in 0..10 {
        let mut dropped = Box::pin(service.ready().await.unwrap().call(req(id, Act::Hang)));
        assert!(poll_once(&mut dropped).is_pending(), "each took the one lease and gave it back");
    }
    let mut hung = Box::pin(service.ready().await.unwrap().call(req(11, Act::Hang)));
    assert!(poll_once(&mut hung).is_pending());
    let refused = service.ready().await.unwrap().call(req(12, Act::Answer)).await.unwrap_err();
    assert_eq!(refused.layer::<Open>().unwrap().retry_after(), None);
    tokio::time::advance(S * 30).await;
    let opened = service.ready().await.unwrap().call(req(13, Act::Answer)).await.unwrap_err();
    assert_eq!(opened.layer::<Open>().unwrap().retry_after(), Some(S * 10));
    tokio::time::advance(S * 10).await;
    assert!(service.ready().await.unwrap().call(req(14, Act::Answer)).await.is_ok());
    assert_eq!(layer.breaker().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn invalid_requests_do_not_open_it_and_panics_do() {
    let layer = BreakerLayer::new(trip()).unwrap();
    let service = ServiceBuilder::new().layer(layer.clone()).service(Probe::new());
    let invalid = Broken(ErrorKind::Invalid, RetryHint::Default);
    for id in 0..100 {
        service.clone().oneshot(req(id, Act::Fail(invalid))).await.unwrap_err();
    }
    assert_eq!(layer.breaker().state(), State::Closed);
    assert_eq!(layer.breaker().counts(), (100, 0));
    layer.breaker().close();
    for id in 0..4 {
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(service.clone().oneshot(req(id, Act::Panic)));
        assert!(tasks.join_next().await.unwrap().is_err());
    }
    assert_eq!(layer.breaker().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn slow_calls_open_it_even_where_a_timeout_outside_drops_them() {
    let layer = BreakerLayer::new(trip().slow(S, 1.0)).unwrap();
    let service = ServiceBuilder::new().layer(layer.clone()).service(Probe::new());
    for id in 0..4 {
        let call = service.clone().oneshot(req(id, Act::Hang));
        assert!(tokio::time::timeout(S * 2, call).await.is_err());
    }
    assert_eq!(layer.breaker().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_answers_at_once_before_a_service_that_is_not_ready() {
    let limit = ConcurrencyLayer::new(Limit::new(1)).unwrap();
    let layer = BreakerLayer::new(trip()).unwrap();
    let mut service = ServiceBuilder::new().layer(layer.clone()).layer(limit).service(Probe::new());
    let held = service.ready().await.unwrap().call(req(1, Act::Hang));
    layer.breaker().open();
    let start = now();
    assert!(service.clone().oneshot(req(2, Act::Answer)).await.is_err());
    assert_eq!(now(), start);
    // Ready while open, called when half-open: the inner service is not ready, so it must not be called.
    let mut early = service.clone();
    early.ready().await.unwrap();
    tokio::time::advance(S * 5).await;
    assert!(early.call(req(3, Act::Answer)).await.unwrap_err().layer::<Open>().is_some());
    drop(held);
    assert!(service.oneshot(req(4, Act::Answer)).await.is_ok());
}

#[test]
fn impossible_settings_are_refused_all_at_once() {
    let worst = Trip::default()
        .failure_rate(1.5)
        .slow(Duration::ZERO, 0.0)
        .window(Duration::ZERO)
        .minimum(0)
        .open_for(Duration::ZERO, Duration::ZERO)
        .probes(0)
        .lease(Duration::ZERO);
    assert_eq!(worst.check().unwrap_err().refused().len(), 8);
    assert!(Breaker::new(Trip::default().open_for(S * 2, S)).is_err());
    assert!(Breaker::new(Trip::default().kinds([])).is_err());
}
