//! What each layer costs, in ns a call over a bare service, beside tower's own for the same job; all in one run.
//!
//! `cargo bench -p millstream-middleware --bench layers` (add `-- 400000` for longer rounds). Each subject makes its calls
//! in turn, round by round, so that what disturbs the machine disturbs all; the median of the rounds counts. The service
//! answers at once: what is measured is the layer.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and may fail")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use millstream_middleware::adaptive::{Adapt, AdaptiveLayer};
use millstream_middleware::authorize::{AuthorizeLayer, Denied};
use millstream_middleware::breaker::{BreakerLayer, Trip};
use millstream_middleware::cache::{self, CacheLayer};
use millstream_middleware::catch_panic::CatchPanicLayer;
use millstream_middleware::concurrency::{ConcurrencyLayer, KeyedLayer, Limit};
use millstream_middleware::dead_letter::DeadLetterLayer;
use millstream_middleware::dedupe::{DedupeLayer, Window};
use millstream_middleware::fallback::FallbackLayer;
use millstream_middleware::hedge::{HedgeLayer, Hedging};
use millstream_middleware::idempotency::{self, IdempotencyLayer, MemoryAnswers};
use millstream_middleware::load_shed::LoadShedLayer;
#[cfg(feature = "metrics")]
use millstream_middleware::metrics::MetricsLayer;
#[cfg(feature = "rate")]
use millstream_middleware::rate::{Rate, RateLayer};
use millstream_middleware::retry::{Retry, RetryLayer};
use millstream_middleware::stack::Resilient;
use millstream_middleware::tap::TapLayer;
use millstream_middleware::timeout::{DeadlineLayer, TimeoutLayer};
#[cfg(feature = "trace")]
use millstream_middleware::trace::TraceLayer;
use millstream_middleware::validate::{Invalid, ValidateLayer, check};
use millstream_middleware::{BoxError, Failure, LiftLayer};
use tokio::runtime::{Builder, Runtime};
use tower::retry::Policy;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const ROUNDS: usize = 15;
const S: Duration = Duration::from_secs(1);

/// Something that makes calls, and how long each of its rounds took.
struct Subject {
    name: &'static str,
    /// The subject of tower's that does the same.
    beside: Option<&'static str>,
    round: Box<dyn FnMut(u64)>,
    took: Vec<f64>,
}

fn subject<S>(name: &'static str, beside: Option<&'static str>, mut service: S) -> Subject
where
    S: Service<u64, Response = u64> + 'static,
    S::Error: std::fmt::Debug,
{
    let round = move |calls: u64| {
        runtime().block_on(async {
            for n in 0..calls {
                let answer = service.ready().await.unwrap().call(black_box(n)).await;
                black_box(answer.unwrap());
            }
        });
    };
    Subject { name, beside, round: Box::new(round), took: Vec::new() }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());
    &RUNTIME
}

impl Subject {
    #[expect(clippy::disallowed_methods, reason = "a bench measures the time of the machine")]
    fn run(&mut self, calls: u64) {
        let start = std::time::Instant::now();
        (self.round)(calls);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        self.took.push(start.elapsed().as_nanos() as f64 / calls as f64);
    }

    fn median(&self) -> f64 {
        let mut took = self.took.clone();
        took.sort_by(f64::total_cmp);
        took[took.len() / 2]
    }
}

fn bare() -> impl Service<u64, Response = u64, Error = BoxError, Future = Ready<Result<u64, BoxError>>> + Clone {
    service_fn(|n: u64| ready(Ok::<_, BoxError>(n)))
}

/// The same behind a pointer, as a service with a client or a pool is: what it costs to clone, a retry pays.
fn pooled() -> impl Service<u64, Response = u64, Error = BoxError, Future = Ready<Result<u64, BoxError>>> + Clone {
    let pool = Arc::new(());
    service_fn(move |n: u64| ready(Ok::<_, BoxError>(n + Arc::strong_count(&pool) as u64)))
}

/// The same, with an error that is never made: what the stack of the default is measured on.
fn infallible() -> impl Service<u64, Response = u64, Error = Infallible> + Clone {
    service_fn(|n: u64| ready(Ok::<_, Infallible>(n)))
}

fn towers() -> Vec<Subject> {
    let retry = tower::retry::RetryLayer::new(ThreeAttempts(3));
    let stack = ServiceBuilder::new()
        .timeout(S * 30)
        .layer(retry.clone())
        .concurrency_limit(100)
        .timeout(S * 9)
        .service(bare());
    vec![
        subject("tower timeout", None, ServiceBuilder::new().timeout(S).service(bare())),
        subject("tower retry", None, retry.layer(bare())),
        subject("tower retry, pooled", None, retry.layer(pooled())),
        subject("tower concurrency", None, ServiceBuilder::new().concurrency_limit(100).service(bare())),
        subject("tower load shed", None, ServiceBuilder::new().load_shed().service(bare())),
        subject("tower rate", None, ServiceBuilder::new().rate_limit(u64::MAX, S).service(bare())),
        subject("tower stack", None, stack),
    ]
}

/// Three attempts, as tower leaves it to the user to write.
#[derive(Clone)]
struct ThreeAttempts(u32);

impl Policy<u64, u64, BoxError> for ThreeAttempts {
    type Future = tokio::time::Sleep;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, BoxError>) -> Option<Self::Future> {
        self.0 -= 1;
        (result.is_err() && self.0 > 0).then(|| tokio::time::sleep(S))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

fn with_a_peer() -> Vec<Subject> {
    let retry = RetryLayer::<BoxError>::new(Retry::exponential()).unwrap();
    vec![
        subject("timeout", Some("tower timeout"), TimeoutLayer::new(S).unwrap().layer(bare())),
        subject("retry", Some("tower retry"), retry.layer(bare())),
        subject("retry, pooled", Some("tower retry, pooled"), retry.layer(pooled())),
        subject(
            "concurrency",
            Some("tower concurrency"),
            ConcurrencyLayer::new(Limit::new(100)).unwrap().layer(bare()),
        ),
        subject("load shed", Some("tower load shed"), LoadShedLayer.layer(bare())),
        #[cfg(feature = "rate")]
        subject("rate", Some("tower rate"), RateLayer::new(Rate::per(500_000_000, S)).unwrap().layer(bare())),
    ]
}

fn alone() -> Vec<Subject> {
    let keyed = KeyedLayer::new(Limit::new(1), |n: &u64| *n).unwrap();
    let dedupe = DedupeLayer::new(Window::default().capacity(1_000).life(Duration::from_nanos(1)), |n: &u64| *n);
    let cache = CacheLayer::new(cache::Keep::default(), |_: &u64| ()).unwrap();
    let memory = MemoryAnswers::<u8, u64>::default();
    let idempotency = IdempotencyLayer::new(idempotency::Keep::default(), memory, |_: &u64| Some(1)).unwrap();
    vec![
        subject("adaptive", None, AdaptiveLayer::new(Adapt::gradient()).unwrap().layer(bare())),
        subject("authorize", None, AuthorizeLayer::new(|_: &u64| Ok::<(), Denied>(())).layer(bare())),
        subject("breaker", None, BreakerLayer::new(Trip::default()).unwrap().layer(bare())),
        subject("cache, a hit", None, cache.layer(infallible_boxed())),
        subject("catch panic", None, CatchPanicLayer.layer(bare())),
        subject("concurrency by key", None, keyed.layer(bare())),
        subject("dead letter", None, DeadLetterLayer::new(|_: u64, _: &BoxError| Ok(())).layer(bare())),
        subject("deadline", None, DeadlineLayer::new(S).unwrap().layer(bare())),
        subject("dedupe", None, dedupe.unwrap().layer(bare())),
        subject("fallback", None, FallbackLayer::new(Err::<u64, BoxError>).layer(bare())),
        subject("hedge", None, HedgeLayer::new(Hedging::after(S)).unwrap().layer(bare())),
        subject("idempotency, a hit", None, idempotency.layer(bare())),
        subject("lift", None, LiftLayer.layer(bare())),
        #[cfg(feature = "metrics")]
        subject("metrics, no recorder", None, MetricsLayer::new("bench").layer(bare())),
        subject("tap", None, TapLayer::new(|_: &u64| {}, |_: &Result<u64, BoxError>| {}).layer(bare())),
        #[cfg(feature = "trace")]
        subject("trace, no subscriber", None, TraceLayer::new("bench").layer(bare())),
        subject("validate", None, ValidateLayer::new(check(|_: &u64| Ok::<(), Invalid>(()))).layer(bare())),
    ]
}

fn infallible_boxed() -> impl Service<u64, Response = u64, Error = Failure<Infallible>, Future: Send> + Clone + Send {
    LiftLayer.layer(service_fn(|n: u64| ready(Ok::<_, Infallible>(n))))
}

fn stacks() -> Vec<Subject> {
    let stack = Resilient::default().build::<Infallible>().unwrap();
    vec![subject("resilient stack", Some("tower stack"), stack.layer(infallible()))]
}

fn main() {
    let _entered = runtime().enter(); // tower's rate limit asks for a timer when it is made
    let calls = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(100_000);
    let mut subjects = vec![subject("bare service", None, bare())];
    subjects.extend(towers());
    subjects.extend(with_a_peer());
    subjects.extend(alone());
    subjects.extend(stacks());
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
    let over = |name: &str| subjects.iter().find(|subject| subject.name == name).map(|s| s.median() - floor);
    println!("{ROUNDS} rounds of {calls} calls; medians, ns a call over the bare service ({floor:.1} ns)\n");
    println!("{:<24}{:>8}  {:>8}  {:>6}", "layer", "ns", "tower", "ratio");
    for subject in &subjects[1..] {
        let own = subject.median() - floor;
        match subject.beside.and_then(over) {
            Some(tower) => println!("{:<24}{own:>8.1}  {tower:>8.1}  {:>6.2}", subject.name, own / tower),
            None => println!("{:<24}{own:>8.1}", subject.name),
        }
    }
}
