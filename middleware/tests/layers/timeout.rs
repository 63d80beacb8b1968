use std::time::Duration;

use millstream_middleware::concurrency::{ConcurrencyLayer, Limit};
use millstream_middleware::retry::{Retry, RetryLayer};
use millstream_middleware::timeout::{DeadlineLayer, Elapsed, TimeoutLayer};
use millstream_middleware::{BoxError, Classify, ErrorKind};
use tower::util::BoxCloneService;
use tower::{ServiceBuilder, ServiceExt, service_fn};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn the_call_is_dropped_when_its_time_is_up() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let start = now();
    let mut call = ServiceBuilder::new().layer(TimeoutLayer::new(S * 5).unwrap()).service(probe);
    let mut answer = Box::pin(tower::Service::call(call.ready().await.unwrap(), req(1, Act::Hang)));
    let error = (&mut answer).await.unwrap_err();
    assert_eq!(error.layer::<Elapsed>().unwrap().limit(), S * 5);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(now() - start, S * 5);
    assert_eq!(seen.running(), 0, "dropped although the future of the layer still lives");
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_comes_through_and_wins_a_tie() {
    let service = ServiceBuilder::new().layer(TimeoutLayer::new(S).unwrap()).service(Probe::new());
    assert_eq!(service.clone().oneshot(req(1, Act::Answer)).await.unwrap(), 1);
    assert_eq!(service.clone().oneshot(req(2, Act::Take(Duration::from_millis(999)))).await.unwrap(), 2);
    assert_eq!(service.clone().oneshot(req(3, Act::Take(S))).await.unwrap(), 3);
    assert!(service.oneshot(req(4, Act::Take(S + MS))).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_table_of_the_docs_is_true() {
    let retry = || RetryLayer::new(Retry::fixed(S)).unwrap();
    let timeout = || TimeoutLayer::new(S * 5).unwrap();
    let deadline = DeadlineLayer::new(S * 10).unwrap();
    let stack = ServiceBuilder::new;
    let inside = run(|probe| stack().layer(retry()).layer(timeout()).service(probe).boxed_clone()).await;
    let outside = run(|probe| stack().layer(timeout()).layer(retry()).service(probe).boxed_clone()).await;
    let both = run(|probe| stack().layer(deadline).layer(retry()).layer(timeout()).service(probe).boxed_clone()).await;
    assert_eq!(inside, (vec![0.0, 6.0, 12.0], 17));
    assert_eq!(outside, (vec![0.0], 5));
    assert_eq!(both, (vec![0.0, 6.0], 10));
}

/// When attempts began and when the caller heard, in seconds, of a call that hangs.
async fn run(stack: impl FnOnce(Probe) -> BoxCloneService<Req, u32, Error>) -> (Vec<f64>, u64) {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let start = now();
    let error = stack(probe).oneshot(req(1, Act::Hang)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(seen.running(), 0);
    (seen.times(start), (now() - start).as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_deadline_counts_the_wait_for_readiness_and_a_timeout_does_not() {
    let limit = ConcurrencyLayer::new(Limit::new(1)).unwrap();
    let inner = ServiceBuilder::new().layer(limit.clone()).service(Probe::new());
    let mut holder = inner.clone();
    let held = tower::Service::call(holder.ready().await.unwrap(), req(1, Act::Hang));

    let whole = ServiceBuilder::new().layer(DeadlineLayer::new(S).unwrap()).service(inner.clone());
    let start = now();
    assert!(whole.oneshot(req(2, Act::Answer)).await.is_err());
    assert_eq!(now() - start, S);
    assert_eq!(limit.waiting(), 0, "it has left the queue");

    let attempt = ServiceBuilder::new().layer(TimeoutLayer::new(S).unwrap()).service(inner);
    let waits = tokio::time::timeout(S * 100, attempt.oneshot(req(3, Act::Answer)));
    assert!(waits.await.is_err(), "it waits in `poll_ready`, where no timeout of one attempt counts");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_eats_the_cooperative_budget_is_still_timed_out() {
    let greedy = service_fn(|(): ()| async {
        loop {
            tokio::task::consume_budget().await;
        }
        #[expect(unreachable_code, reason = "gives the loop a type")]
        Ok::<(), BoxError>(())
    });
    let call = ServiceBuilder::new().layer(TimeoutLayer::new(S).unwrap()).service(greedy).oneshot(());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(call);
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(S * 2).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let error = tasks.try_join_next().expect("it has ended").unwrap().unwrap_err();
    assert!(error.is::<Elapsed>());
    assert_eq!(error.kind(), ErrorKind::Timeout, "a boxed error is classified too");
}

#[test]
fn a_limit_of_zero_is_refused() {
    assert!(TimeoutLayer::new(Duration::ZERO).is_err());
    assert!(DeadlineLayer::new(Duration::ZERO).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_asked_for_readiness_stands_in_no_queue_before_its_call() {
    let limit = ConcurrencyLayer::new(Limit::new(1)).unwrap();
    let mut service =
        ServiceBuilder::new().layer(DeadlineLayer::new(S).unwrap()).layer(limit.clone()).service(Probe::new());
    let held = tower::Service::call(service.ready().await.unwrap(), req(1, Act::Hang));
    let mut idle = service.clone();
    idle.ready().await.unwrap();
    assert_eq!(limit.waiting(), 0);
    drop(held);
    assert_eq!(limit.available(), 1, "the permit is not the idle one's");
    assert_eq!(idle.oneshot(req(2, Act::Answer)).await.unwrap(), 2);
}
