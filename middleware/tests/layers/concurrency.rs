use std::time::Duration;

use futures_util::future::join_all;
use millstream_middleware::concurrency::{ConcurrencyLayer, KeyedLayer, Limit, QueueError};
use millstream_middleware::{Classify, ErrorKind};
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn by_default_everyone_waits_and_nobody_is_refused() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let service = ServiceBuilder::new().layer(ConcurrencyLayer::new(Limit::new(4)).unwrap()).service(probe);
    let start = now();
    let calls = (0..10).map(|id| service.clone().oneshot(req(id, Act::Take(S))));
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!((seen.calls(), seen.peak()), (10, 4));
    assert_eq!(now() - start, S * 3);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_and_a_long_wait_are_refused_each_with_its_own_error() {
    let limit = Limit::new(1).queue(1).patience(S * 5);
    let layer = ConcurrencyLayer::new(limit).unwrap();
    let service = ServiceBuilder::new().layer(layer.clone()).service(Probe::new());
    let keyed = KeyedLayer::new(limit, |request: &Req| request.key).unwrap();
    let by_key = ServiceBuilder::new().layer(keyed.clone()).service(Probe::new());
    let start = now();
    let calls = (0..3).map(|id| service.clone().oneshot(req(id, Act::Take(S * 60))));
    let calls_by_key = (0..3).map(|id| by_key.clone().oneshot(req(id, Act::Take(S * 60))));
    let (answers, answers_by_key) = futures_util::join!(join_all(calls), join_all(calls_by_key));
    for answers in [answers, answers_by_key] {
        assert!(answers[0].is_ok());
        let errors: Vec<_> = answers[1..].iter().map(|answer| answer.as_ref().unwrap_err()).collect();
        assert_eq!(errors[0].layer(), Some(&QueueError::Timeout { patience: S * 5 }));
        assert_eq!(errors[1].layer(), Some(&QueueError::Full { queue: 1 }));
        assert!(errors.iter().all(|error| error.kind() == ErrorKind::Overloaded));
    }
    assert_eq!(now() - start, S * 60);
    assert_eq!((layer.available(), layer.waiting()), (1, 0));
    assert_eq!((keyed.keys(), keyed.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn each_layer_has_its_own_limit_and_its_services_share_it() {
    let layer = ConcurrencyLayer::new(Limit::new(1)).unwrap();
    let other = ConcurrencyLayer::new(Limit::new(1)).unwrap();
    let mut one = layer.layer_probe();
    let held = one.ready().await.unwrap().call(req(1, Act::Hang));
    assert_eq!((layer.available(), other.available()), (0, 1));
    let mut two = layer.layer_probe();
    assert!(poll_once(&mut Box::pin(two.ready())).is_pending());
    assert!(other.layer_probe().oneshot(req(3, Act::Answer)).await.is_ok());
    drop(held);
    assert!(two.oneshot(req(2, Act::Answer)).await.is_ok());
}

trait LayerProbe {
    fn layer_probe(&self) -> millstream_middleware::concurrency::Concurrency<Probe>;
}

impl LayerProbe for ConcurrencyLayer {
    fn layer_probe(&self) -> millstream_middleware::concurrency::Concurrency<Probe> {
        tower::Layer::layer(self, Probe::new())
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_runs_in_the_order_of_call_and_others_pass_it() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let layer = KeyedLayer::new(Limit::new(1), |request: &Req| request.key).unwrap();
    let mut service = ServiceBuilder::new().layer(layer.clone()).service(probe);
    let mut calls = Vec::new();
    for id in 0..6 {
        let request = keyed(id, id % 2, if id == 0 { Act::Take(S * 10) } else { Act::Take(S) });
        calls.push(service.ready().await.unwrap().call(request));
    }
    // Polled in reverse: the order is that of `call`.
    calls.reverse();
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(seen.order(), [1, 0, 3, 5, 2, 4]);
    assert_eq!(seen.peak(), 2);
    assert_eq!(layer.keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_idle_is_forgotten() {
    let layer = KeyedLayer::new(Limit::new(2), |request: &Req| request.key).unwrap();
    let service = ServiceBuilder::new().layer(layer.clone()).service(Probe::new());
    for key in 0..10_000 {
        service.clone().oneshot(keyed(key, key, Act::Answer)).await.unwrap();
    }
    assert_eq!(layer.keys(), 0);
    let mut waiting = service.clone();
    let unpolled = waiting.ready().await.unwrap().call(keyed(1, 1, Act::Answer));
    assert_eq!(layer.keys(), 1);
    drop(unpolled);
    assert_eq!(layer.keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_granted_to_one_who_left_goes_to_the_next() {
    let layer = KeyedLayer::new(Limit::new(1), |request: &Req| request.key).unwrap();
    let mut service = ServiceBuilder::new().layer(layer.clone()).service(Probe::new());
    let first = service.ready().await.unwrap().call(req(1, Act::Hang));
    let mut second = Box::pin(service.ready().await.unwrap().call(req(2, Act::Answer)));
    let third = service.ready().await.unwrap().call(req(3, Act::Answer));
    assert!(poll_once(&mut second).is_pending());
    drop(first); // the turn is the second's now
    drop(second); // who leaves without taking it
    assert_eq!(third.await.unwrap(), 3);
    assert_eq!(layer.keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_who_give_up_leave_nothing_behind() {
    let layer = KeyedLayer::new(Limit::new(1), |request: &Req| request.key).unwrap();
    let mut service = ServiceBuilder::new().layer(layer.clone()).service(Probe::new());
    let held = service.ready().await.unwrap().call(req(0, Act::Hang));
    for id in 0..10_000 {
        let mut gives_up = Box::pin(service.ready().await.unwrap().call(req(id, Act::Answer)));
        assert!(poll_once(&mut gives_up).is_pending());
    }
    assert_eq!((layer.keys(), layer.waiting()), (1, 0));
    drop(held);
    assert_eq!(layer.keys(), 0);
}

#[test]
fn impossible_limits_are_refused() {
    let worst = Limit::new(0).patience(Duration::ZERO);
    assert_eq!(ConcurrencyLayer::new(worst).unwrap_err().refused().len(), 2);
    assert!(KeyedLayer::new(worst, |request: &Req| request.key).is_err());
    assert!(ConcurrencyLayer::new(Limit::new(usize::MAX)).is_err());
}
