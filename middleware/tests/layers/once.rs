//! The layers that make one call of many: dedupe, idempotency, cache with single flight.

use std::time::Duration;

use futures_util::future::join_all;
use millstream_middleware::cache::{self, CacheLayer, FlightFailed};
use millstream_middleware::dedupe::{DedupeLayer, Duplicate, Window};
use millstream_middleware::fallback::SkipLayer;
use millstream_middleware::idempotency::{self, AnswerStore, Claim, IdempotencyError, IdempotencyLayer, MemoryAnswers};
use millstream_middleware::{Classify, ErrorKind, RetryHint};
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::support::*;

fn by_id(request: &Req) -> u32 {
    request.id
}

#[tokio::test(start_paused = true)]
async fn a_key_passes_once_in_its_window_and_failures_are_forgotten() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let layer = DedupeLayer::new(Window::default().life(S * 60), by_id).unwrap();
    let service = ServiceBuilder::new().layer(layer.clone()).service(probe);
    let call = |id, act| service.clone().oneshot(req(id, act));
    assert!(call(1, Act::Answer).await.is_ok());
    let error = call(1, Act::Answer).await.unwrap_err();
    assert_eq!(error.layer(), Some(&Duplicate));
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Rejected, RetryHint::Never));
    assert_eq!(call(2, Act::Fail(BROKEN)).await.unwrap_err().inner(), Some(&BROKEN));
    assert!(call(2, Act::Answer).await.is_ok(), "a failure may be tried again");
    tokio::time::advance(S * 60).await;
    assert!(call(1, Act::Answer).await.is_ok(), "its window has passed");
    assert_eq!(seen.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_of_a_running_call_is_refused_and_a_dropped_one_is_forgotten() {
    let layer = DedupeLayer::new(Window::default(), by_id).unwrap();
    let skip = SkipLayer::<Duplicate>::new();
    let mut service = ServiceBuilder::new().layer(skip.clone()).layer(layer.clone()).service(Probe::new());
    let mut running = Box::pin(service.ready().await.unwrap().call(req(1, Act::Hang)));
    assert!(poll_once(&mut running).is_pending());
    assert_eq!(service.clone().oneshot(req(1, Act::Answer)).await.unwrap(), 0, "skipped");
    assert_eq!(skip.skipped(), 1);
    drop(running);
    assert_eq!(layer.keys(), 0);
    assert_eq!(service.oneshot(req(1, Act::Answer)).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_outlives_its_window_forgets_no_key_of_another() {
    let layer = DedupeLayer::new(Window::default().life(S), by_id).unwrap();
    let mut service = ServiceBuilder::new().layer(layer.clone()).service(Probe::new());
    let slow = service.ready().await.unwrap().call(req(1, Act::Hang));
    tokio::time::advance(S).await;
    let second = service.ready().await.unwrap().call(req(1, Act::Hang));
    drop(slow);
    assert_eq!(layer.keys(), 1);
    drop(second);
    assert_eq!(layer.keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_by_time_and_by_size() {
    let layer = DedupeLayer::new(Window::default().life(S * 10).capacity(100), by_id).unwrap();
    let service = ServiceBuilder::new().layer(layer.clone()).service(Probe::new());
    for id in 0..1_000 {
        service.clone().oneshot(req(id, Act::Answer)).await.unwrap();
    }
    assert_eq!(layer.keys(), 100);
    tokio::time::advance(S * 10).await;
    assert_eq!(layer.keys(), 0);
}

type Memory = MemoryAnswers<u32, u32>;

fn idempotent() -> IdempotencyLayer<u32, Memory, impl Fn(&Req) -> Option<u32> + Clone> {
    let keep = idempotency::Keep::default().life(S * 3_600).lease(S * 60);
    IdempotencyLayer::new(keep, Memory::new(100), |request: &Req| (request.key != 0).then_some(request.key)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_same_key_gets_the_same_answer_and_one_call() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let service = ServiceBuilder::new().layer(idempotent()).service(probe);
    let call = |id, key, act| service.clone().oneshot(keyed(id, key, act));
    assert_eq!(call(1, 7, Act::Answer).await.unwrap(), 1);
    assert_eq!(call(2, 7, Act::Answer).await.unwrap(), 1, "the first answer");
    assert_eq!(call(3, 8, Act::Fail(BROKEN)).await.unwrap_err().inner(), Some(&BROKEN));
    assert_eq!(call(4, 8, Act::Answer).await.unwrap(), 4, "a failure is not kept");
    assert_eq!(call(5, 0, Act::Answer).await.unwrap(), 5);
    assert_eq!(call(6, 0, Act::Answer).await.unwrap(), 6, "without a key it just passes");
    assert_eq!(seen.calls(), 5);
    tokio::time::advance(S * 3_600).await;
    assert_eq!(call(9, 7, Act::Answer).await.unwrap(), 9, "its life has passed");
}

#[tokio::test(start_paused = true)]
async fn while_one_call_runs_another_is_told_to_come_again_and_a_dropped_one_gives_its_key_up() {
    let layer = idempotent();
    let mut service = ServiceBuilder::new().layer(layer.clone()).service(Probe::new());
    let mut running = Box::pin(service.ready().await.unwrap().call(keyed(1, 7, Act::Hang)));
    assert!(poll_once(&mut running).is_pending());
    let error = service.clone().oneshot(keyed(2, 7, Act::Answer)).await.unwrap_err();
    assert!(matches!(error.layer(), Some(IdempotencyError::InProgress)));
    assert_eq!(error.hint(), RetryHint::After(S));
    drop(running);
    assert_eq!(layer.store().keys(), 0);
    assert_eq!(service.oneshot(keyed(3, 7, Act::Answer)).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_fenced() {
    let store = Memory::new(100);
    let Claim::Granted(first) = store.claim(&7, S).await.unwrap() else { panic!("free") };
    tokio::time::advance(S).await;
    let Claim::Granted(second) = store.claim(&7, S).await.unwrap() else { panic!("its lease has ended") };
    store.answer(&7, first, 1, S).await.unwrap();
    store.give_up(&7, first);
    assert_eq!(store.claim(&7, S).await.unwrap(), Claim::InProgress);
    store.answer(&7, second, 2, S).await.unwrap();
    assert_eq!(store.claim(&7, S).await.unwrap(), Claim::Answered(2));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_who_ask_at_once_share_one_call() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let layer = CacheLayer::new(cache::Keep::default().life(S * 60), by_id).unwrap();
    let service = ServiceBuilder::new().layer(layer.clone()).service(probe);
    let answers = join_all((0..100).map(|_| service.clone().oneshot(req(1, Act::Take(S))))).await;
    assert!(answers.iter().all(|answer| *answer.as_ref().unwrap() == 1));
    assert_eq!(seen.calls(), 1);
    assert_eq!(service.clone().oneshot(req(1, Act::Hang)).await.unwrap(), 1, "kept");
    tokio::time::advance(S * 60).await;
    assert_eq!(layer.kept(), 0);
    assert_eq!(service.oneshot(req(1, Act::Answer)).await.unwrap(), 1);
    assert_eq!(seen.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_shared_failure_reaches_all_and_is_not_kept() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let service = ServiceBuilder::new().layer(CacheLayer::new(cache::Keep::default(), by_id).unwrap()).service(probe);
    let answers = join_all((0..10).map(|_| service.clone().oneshot(req(1, Act::FailAfter(S))))).await;
    assert_eq!(answers[0].as_ref().unwrap_err().inner(), Some(&BROKEN));
    for follower in &answers[1..] {
        let error = follower.as_ref().unwrap_err();
        assert!(error.layer::<FlightFailed>().is_some());
        assert_eq!(error.kind(), ErrorKind::Other);
    }
    assert_eq!(seen.calls(), 1);
    assert!(service.oneshot(req(1, Act::Answer)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn when_the_one_who_calls_is_dropped_another_calls() {
    let probe = Probe::scripted([Act::Hang]);
    let seen = probe.seen.clone();
    let layer = CacheLayer::new(cache::Keep::default(), by_id).unwrap();
    let mut service = ServiceBuilder::new().layer(layer).service(probe);
    let mut leader = Box::pin(service.ready().await.unwrap().call(req(1, Act::Answer)));
    assert!(poll_once(&mut leader).is_pending());
    let followers = (0..5).map(|_| service.clone().oneshot(req(1, Act::Take(S))));
    let mut all = Box::pin(join_all(followers));
    assert!(poll_once(&mut all).is_pending());
    drop(leader);
    assert!(all.await.iter().all(Result::is_ok));
    assert_eq!(seen.calls(), 2);
}

#[test]
fn impossible_settings_are_refused_all_at_once() {
    let window = Window::default().life(Duration::ZERO).capacity(0);
    assert_eq!(DedupeLayer::new(window, by_id).unwrap_err().refused().len(), 2);
    let keep = idempotency::Keep::default().life(Duration::ZERO).lease(Duration::ZERO);
    assert_eq!(keep.check().unwrap_err().refused().len(), 2);
    assert!(cache::Keep::default().capacity(0).check().is_err());
}
