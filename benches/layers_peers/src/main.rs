//! What the layers cost, in ns a call over a bare service, beside tower's and tower-resilience's for the same job.
//!
//! `cargo run --release --manifest-path benches/layers_peers/Cargo.toml` (add `-- 400000` for longer rounds). Outside the
//! workspace: no build of the crate pulls the peers in, and tokio's clock is the one of production, without its test kit.
//!
//! All make their calls in turn, round by round, in one run; the median of the rounds counts. The service answers at once.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use millstream_middleware::LiftLayer;
use millstream_middleware::breaker::{BreakerLayer, Trip};
use millstream_middleware::cache::{self, CacheLayer};
use millstream_middleware::concurrency::{ConcurrencyLayer, Limit};
use millstream_middleware::hedge::{HedgeLayer, Hedging};
use millstream_middleware::load_shed::LoadShedLayer;
use millstream_middleware::rate::{Rate, RateLayer};
use millstream_middleware::retry::{Retry, RetryLayer};
use millstream_middleware::stack::Resilient;
use millstream_middleware::timeout::TimeoutLayer;
use tokio::runtime::{Builder, Runtime};
use tower::retry::Policy;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_resilience::bulkhead::BulkheadLayer;
use tower_resilience::cache::CacheLayer as PeerCache;
use tower_resilience::circuitbreaker::CircuitBreakerLayer;
use tower_resilience::hedge::HedgeLayer as PeerHedge;
use tower_resilience::ratelimiter::RateLimiterLayer;
use tower_resilience::retry::RetryLayer as PeerRetry;
use tower_resilience::timelimiter::TimeLimiterLayer;

const ROUNDS: usize = 21;
const S: Duration = Duration::from_secs(1);

fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());
    &RUNTIME
}

struct Subject {
    job: &'static str,
    whose: &'static str,
    round: Box<dyn FnMut(u64)>,
    took: Vec<f64>,
}

fn subject<S>(job: &'static str, whose: &'static str, mut service: S) -> Subject
where
    S: Service<u64, Response = u64> + 'static,
{
    let round = move |calls: u64| {
        runtime().block_on(async {
            for n in 0..calls {
                let Ok(ready) = service.ready().await else { panic!("never ready") };
                let Ok(answer) = ready.call(black_box(n)).await else { panic!("failed") };
                black_box(answer);
            }
        });
    };
    Subject { job, whose, round: Box::new(round), took: Vec::new() }
}

impl Subject {
    fn run(&mut self, calls: u64) {
        let start = Instant::now();
        (self.round)(calls);
        self.took.push(start.elapsed().as_nanos() as f64 / calls as f64);
    }

    fn median(&self) -> f64 {
        let mut took = self.took.clone();
        took.sort_by(f64::total_cmp);
        took[took.len() / 2]
    }
}

/// A service behind a pointer, as one with a client or a pool is.
fn bare()
-> impl Service<u64, Response = u64, Error = Infallible, Future = Ready<Result<u64, Infallible>>> + Clone + Send {
    let pool = Arc::new(());
    service_fn(move |n: u64| {
        black_box(&pool);
        ready(Ok::<_, Infallible>(n))
    })
}

/// Three attempts, as tower leaves it to the user to write.
#[derive(Clone)]
struct ThreeAttempts(u32);

impl<E> Policy<u64, u64, E> for ThreeAttempts {
    type Future = tokio::time::Sleep;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, E>) -> Option<Self::Future> {
        self.0 -= 1;
        (result.is_err() && self.0 > 0).then(|| tokio::time::sleep(S))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

const OURS: &str = "millstream";
const TOWER: &str = "tower";
const PEER: &str = "tower-resilience";

fn ours() -> Vec<Subject> {
    let lifted = || LiftLayer.layer(bare());
    let retry = RetryLayer::new(Retry::exponential()).unwrap();
    vec![
        subject("timeout", OURS, TimeoutLayer::new(S).unwrap().layer(lifted())),
        subject("retry", OURS, retry.layer(lifted())),
        subject("concurrency", OURS, ConcurrencyLayer::new(Limit::new(100)).unwrap().layer(lifted())),
        subject("load shed", OURS, LoadShedLayer.layer(lifted())),
        subject("rate", OURS, RateLayer::new(Rate::per(500_000_000, S)).unwrap().layer(lifted())),
        subject("breaker", OURS, BreakerLayer::new(Trip::default()).unwrap().layer(lifted())),
        subject("hedge", OURS, HedgeLayer::new(Hedging::after(S)).unwrap().layer(lifted())),
        subject("cache, a hit", OURS, CacheLayer::new(cache::Keep::default(), |_: &u64| 0).unwrap().layer(lifted())),
        subject("stack", OURS, Resilient::default().build::<Infallible>().unwrap().layer(bare())),
    ]
}

fn towers() -> Vec<Subject> {
    let retry = || tower::retry::RetryLayer::new(ThreeAttempts(3));
    let new = ServiceBuilder::new;
    let stack = new().timeout(S * 30).layer(retry()).concurrency_limit(100).timeout(S * 9).service(bare());
    vec![
        subject("timeout", TOWER, new().timeout(S).service(bare())),
        subject("retry", TOWER, retry().layer(bare())),
        subject("concurrency", TOWER, new().concurrency_limit(100).service(bare())),
        subject("load shed", TOWER, new().load_shed().service(bare())),
        subject("rate", TOWER, new().rate_limit(u64::MAX, S).service(bare())),
        subject("stack", TOWER, stack),
    ]
}

fn peers() -> Vec<Subject> {
    let timeout = |limit| TimeLimiterLayer::builder().timeout_duration(limit).build();
    let bulkhead = || BulkheadLayer::builder().max_concurrent_calls(100).backpressure().build().unwrap();
    let breaker = || CircuitBreakerLayer::builder().build().unwrap();
    let rate = RateLimiterLayer::builder().limit_for_period(500_000_000).refresh_period(S).build().unwrap();
    let retry = PeerRetry::<u64, u64, Infallible>::builder().max_attempts(3).exponential_backoff(S).build();
    let cache = PeerCache::builder().max_size(100).ttl(S * 60).key_extractor(|_: &u64| 0_u64).build().unwrap();
    let inner = ServiceBuilder::new().layer(breaker()).layer(bulkhead()).layer(timeout(S * 9)).service(bare());
    let again = PeerRetry::builder().max_attempts(3).exponential_backoff(S).build();
    vec![
        subject("timeout", PEER, timeout(S).layer(bare())),
        subject("retry", PEER, retry.layer(bare())),
        subject("concurrency", PEER, bulkhead().layer(bare())),
        subject("rate", PEER, rate.layer(bare())),
        subject("breaker", PEER, breaker().layer(bare())),
        subject("hedge", PEER, PeerHedge::builder().delay(S).build().layer(bare())),
        subject("cache, a hit", PEER, cache.layer(bare())),
        subject("stack", PEER, timeout(S * 30).layer(again.layer(inner))),
    ]
}

fn main() {
    let _entered = runtime().enter(); // tower's rate limit asks for a timer when it is made
    let calls = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(100_000);
    let mut subjects = vec![subject("bare", "", bare())];
    subjects.extend(ours());
    subjects.extend(towers());
    subjects.extend(peers());
    for round in 0..=ROUNDS {
        for subject in &mut subjects {
            subject.run(calls);
            if round == 0 {
                subject.took.clear(); // the first round warms up
            }
        }
    }
    report(&subjects, calls);
}

fn report(subjects: &[Subject], calls: u64) {
    let floor = subjects[0].median();
    let over =
        |job: &str, whose: &str| subjects.iter().find(|s| s.job == job && s.whose == whose).map(|s| s.median() - floor);
    println!("{ROUNDS} rounds of {calls} calls; medians, ns a call over the bare service ({floor:.1} ns)\n");
    println!("{:<14}{OURS:>12}{TOWER:>10}{:>8}{PEER:>18}{:>8}", "", "ratio", "ratio");
    for subject in subjects.iter().filter(|subject| subject.whose == OURS) {
        let own = subject.median() - floor;
        let cell = |whose, width: usize| match over(subject.job, whose) {
            Some(theirs) => format!("{theirs:>width$.1}{:>8.2}", own / theirs),
            None => format!("{:>width$}{:>8}", "", ""),
        };
        println!("{:<14}{own:>12.1}{}{}", subject.job, cell(TOWER, 10), cell(PEER, 18));
    }
}
