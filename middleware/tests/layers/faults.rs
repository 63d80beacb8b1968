//! 100 callers, 10,000 calls, a seeded sequence of failures: what happens equals what a simple model says.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use millstream_middleware::adaptive::{Adapt, AdaptiveLayer};
use millstream_middleware::breaker::{BreakerLayer, Open, State, Trip};
use millstream_middleware::concurrency::{ConcurrencyLayer, KeyedLayer, Limit};
use millstream_middleware::retry::{Budget, Retry, RetryLayer};
use millstream_middleware::timeout::TimeoutLayer;
use millstream_middleware::{ErrorKind, RetryHint};
use tokio::task::JoinSet;
use tower::util::BoxCloneService;
use tower::{ServiceBuilder, ServiceExt};

use crate::support::*;

const CALLERS: u32 = 100;
const CALLS: u32 = 10_000;
const ATTEMPTS: u32 = 3;

/// What becomes of attempt `attempt` of call `id`: it depends on nothing else, so the model can ask too.
fn fate(seed: u64, id: u32, attempt: u32, percent: u64) -> Act {
    let mut random = fastrand::Rng::with_seed(seed ^ u64::from(id) << 8 ^ u64::from(attempt));
    if random.u64(0..100) < percent { Act::Fail(BROKEN) } else { Act::Take(MS * random.u32(1..20)) }
}

/// Successes and attempts of `CALLS` calls, call by call.
fn model(seed: u64) -> (usize, usize) {
    let (mut successes, mut attempts) = (0, 0);
    for id in 0..CALLS {
        for attempt in 0..ATTEMPTS {
            attempts += 1;
            if matches!(fate(seed, id, attempt, 30), Act::Take(_)) {
                successes += 1;
                break;
            }
        }
    }
    (successes, attempts)
}

/// A service whose calls end as `fate` says, by the attempt that it is.
fn fated(seed: u64, tally: &Arc<Seen>) -> BoxCloneService<Req, u32, Error> {
    let counts: Arc<Vec<AtomicUsize>> = Arc::new((0..CALLS).map(|_| AtomicUsize::new(0)).collect());
    let probe = Probe::sharing(tally);
    let service = ServiceBuilder::new().service(probe).map_request(move |request: Req| {
        let attempt = counts[request.id as usize].fetch_add(1, SeqCst);
        Req { act: fate(seed, request.id, u32::try_from(attempt).unwrap(), 30), ..request }
    });
    BoxCloneService::new(service)
}

/// `CALLERS` tasks share `CALLS` calls; the outcome of each, by id.
async fn run(service: BoxCloneService<Req, u32, Error>) -> Vec<Result<u32, Error>> {
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let mut callers = JoinSet::new();
    for first in 0..CALLERS {
        let (service, outcomes) = (service.clone(), outcomes.clone());
        callers.spawn(async move {
            for id in (first..CALLS).step_by(CALLERS as usize) {
                let outcome = service.clone().oneshot(req(id, Act::Answer)).await;
                outcomes.lock().unwrap().push(outcome);
            }
        });
    }
    callers.join_all().await;
    Arc::into_inner(outcomes).unwrap().into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn attempts_and_successes_are_those_of_the_model() {
    for seed in [1, 2, 3] {
        let seen = Arc::new(Seen::default());
        let retry = RetryLayer::<Error>::new(Retry::exponential().attempts(ATTEMPTS)).unwrap().seed(seed);
        let limit = ConcurrencyLayer::new(Limit::new(20)).unwrap();
        let service = ServiceBuilder::new()
            .layer(retry)
            .layer(limit.clone())
            .layer(TimeoutLayer::new(S).unwrap())
            .service(fated(seed, &seen));
        let outcomes = run(BoxCloneService::new(service)).await;
        let successes = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!((successes, seen.calls()), model(seed));
        assert_eq!(outcomes.len(), CALLS as usize);
        assert!(seen.peak() <= 20);
        assert_eq!((seen.running(), limit.available(), limit.waiting()), (0, 20, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn two_retries_in_one_stack_multiply_and_that_is_why_one_owns_it() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let retry = || RetryLayer::<Error>::new(Retry::fixed(S)).unwrap();
    let service = ServiceBuilder::new().layer(retry()).layer(retry()).service(probe);
    service.oneshot(req(1, Act::Fail(BROKEN))).await.unwrap_err();
    assert_eq!(seen.calls(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_budget_holds_whatever_the_order_of_the_callers() {
    let seen = Arc::new(Seen::default());
    let retry = RetryLayer::<Error>::new(Retry::fixed(S).attempts(10)).unwrap();
    let retry = retry.budget(Budget::default().ratio(0.1).reserve(10)).unwrap();
    run(BoxCloneService::new(ServiceBuilder::new().layer(retry).service(fated(4, &seen)))).await;
    let retries = seen.calls() - CALLS as usize;
    assert!((990..=1_010).contains(&retries), "{retries}");
}

#[tokio::test(start_paused = true)]
async fn every_call_of_a_breaker_is_either_made_or_refused_and_an_outage_costs_few_calls() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let layer = BreakerLayer::new(Trip::default().open_for(S * 5, S * 5)).unwrap();
    let service = ServiceBuilder::new().layer(layer.clone()).service(probe);
    let (mut made, mut refused) = (0_usize, 0_usize);
    // 100 s of outage, 100 calls a second; then 100 s of health.
    for second in 0..200 {
        for id in 0..100 {
            let act = if second < 100 { Act::Fail(BROKEN) } else { Act::Answer };
            match service.clone().oneshot(req(id, act)).await {
                Err(error) if error.layer::<Open>().is_some() => refused += 1,
                _ => made += 1,
            }
        }
        tokio::time::advance(S).await;
    }
    assert_eq!(seen.calls(), made);
    assert_eq!(made + refused, 20_000);
    // 20 to open, one probe each 5 s of the outage; refused for at most 5 s of the health.
    assert!((20 + 19 + 9_500..=20 + 20 + 10_000).contains(&made), "{made}");
    assert_eq!(layer.breaker().state(), State::Closed);
}

/// On threads of their own, callers come, wait, leave and are dropped at any time; at the end nothing is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_on_many_threads_who_leave_at_any_time_leave_nothing_behind() {
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let all = ConcurrencyLayer::new(Limit::new(3)).unwrap();
    let by_key = KeyedLayer::new(Limit::new(1), |request: &Req| request.key).unwrap();
    let adaptive = AdaptiveLayer::new(Adapt::aimd(None).start(4).limits(1, 8)).unwrap();
    let service = ServiceBuilder::new().layer(by_key.clone()).layer(adaptive.clone()).layer(all.clone()).service(probe);
    let mut callers = JoinSet::new();
    for caller in 0..64_u64 {
        let service = service.clone();
        callers.spawn(async move {
            let mut random = fastrand::Rng::with_seed(caller);
            for id in 0..500 {
                let act = if random.u8(0..10) == 0 { Act::Fail(OVERLOADED) } else { Act::Yield(random.u32(0..4)) };
                let call = service.clone().oneshot(keyed(id, random.u32(0..4), act));
                leave_after(call, random.u32(0..40)).await;
            }
        });
    }
    callers.join_all().await;
    assert_eq!((seen.running(), all.available(), all.waiting()), (0, 3, 0));
    assert_eq!((by_key.keys(), by_key.waiting(), adaptive.load()), (0, 0, (0, 0)));
    assert!(seen.peak() <= 3);
}

const OVERLOADED: Broken = Broken(ErrorKind::Overloaded, RetryHint::Default);

/// Polls `call` to its end, or this often and then drops it.
async fn leave_after(call: impl Future, polls: u32) {
    let mut call = std::pin::pin!(call);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 || call.as_mut().poll(cx).is_ready() {
            return std::task::Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
