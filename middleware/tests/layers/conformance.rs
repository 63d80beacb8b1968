//! What every layer must do, whatever else it does: one table of layers, one list of promises.
//!
//! | promise | the test |
//! | --- | --- |
//! | it calls the service that was polled ready, and may be used again and again | `a_service_serves_again_and_again_and_is_ready_before_each_call` |
//! | a clone does not inherit readiness, nor takes it away | `a_clone_has_a_readiness_of_its_own` |
//! | readiness that is not used holds nothing | `readiness_that_is_not_used_leaks_nothing` |
//! | a call may be dropped at each of its awaits | `a_call_may_be_dropped_at_each_of_its_awaits` |
//! | a panic of the inner call gives back what was held | `a_panic_of_the_inner_call_leaks_nothing` |
//! | it limits what it says, waits or refuses as it says, and a waiter may leave | `a_fourth_call_runs_waits_or_is_refused_as_the_layer_says_and_may_leave` |
//! | who waits is served when a place is free | `those_who_wait_are_served_when_those_who_run_are_dropped` |
//! | the service's error comes through as it is; the layer's own is told from it | `an_error_of_the_service_comes_through_as_it_is`, and the fourth call |
//! | it tells what it is when it is applied | `every_layer_tells_what_it_is_when_it_is_applied` |
//! | its service is `Clone` and `Send`, its futures are `Send` | `row` compiles |
//!
//! Each row says what the layer does with a fourth call while three run. A promise is tried on every layer before the test
//! fails, and the failure lists the layers.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use millstream_middleware::adaptive::{Adapt, AdaptiveLayer};
use millstream_middleware::authorize::{AuthorizeLayer, Denied};
use millstream_middleware::breaker::{BreakerLayer, Trip};
use millstream_middleware::bulkhead::bulkhead;
use millstream_middleware::cache::{self, CacheLayer};
use millstream_middleware::catch_panic::CatchPanicLayer;
use millstream_middleware::concurrency::{ConcurrencyLayer, KeyedLayer, Limit};
use millstream_middleware::dead_letter::DeadLetterLayer;
use millstream_middleware::dedupe::{DedupeLayer, Duplicate, Window};
use millstream_middleware::fallback::{FallbackLayer, FallbackServiceLayer, SkipLayer};
use millstream_middleware::hedge::{HedgeLayer, Hedging};
use millstream_middleware::idempotency::{self, IdempotencyLayer, MemoryAnswers};
use millstream_middleware::load_shed::LoadShedLayer;
use millstream_middleware::metrics::MetricsLayer;
use millstream_middleware::rate::{Rate, RateLayer};
use millstream_middleware::retry::{Retry, RetryLayer};
use millstream_middleware::schedule::{Schedule, ScheduleLayer, Weekday};
use millstream_middleware::stack::Resilient;
use millstream_middleware::tap::TapLayer;
use millstream_middleware::timeout::{DeadlineLayer, TimeoutLayer};
use millstream_middleware::trace::TraceLayer;
use millstream_middleware::validate::{Invalid, ValidateLayer, check};
use millstream_middleware::{Failure, LiftLayer, Part, hear};
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::support::*;

type Boxed = BoxCloneService<Req, u32, Error>;

/// A layer's name, and a service that wears it. Where it limits, three calls may run at once.
struct Row {
    name: &'static str,
    fourth: Fourth,
    wear: Box<dyn Fn(Probe) -> Boxed>,
}

/// What becomes of a fourth call while three run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fourth {
    Runs,
    Waits,
    Refused,
}

use Fourth::{Refused, Runs, Waits};

/// Boxing asks for `Send` and `Clone` of the service and `Send` of the future: the promise is kept by compiling.
fn row<L>(name: &'static str, fourth: Fourth, layer: L) -> Row
where
    L: Layer<Probe> + 'static,
    L::Service: Service<Req, Response = u32, Error = Error, Future: Send> + Clone + Send + 'static,
{
    Row { name, fourth, wear: Box::new(move |probe| BoxCloneService::new(layer.layer(probe))) }
}

fn table() -> Vec<Row> {
    let mut rows = limiting();
    rows.extend(passing());
    rows.extend(remembering());
    rows
}

fn limiting() -> Vec<Row> {
    let three = Limit::new(3);
    let adapt = Adapt::aimd(None).start(3).limits(3, 3);
    let shed = ServiceBuilder::new().layer(LoadShedLayer).layer(ConcurrencyLayer::new(three).unwrap()).into_inner();
    vec![
        row("adaptive", Waits, AdaptiveLayer::new(adapt).unwrap()),
        row("bulkhead", Refused, bulkhead(3).unwrap()),
        row("concurrency", Waits, ConcurrencyLayer::new(three).unwrap()),
        row("concurrency with a queue", Waits, ConcurrencyLayer::new(three.queue(5).patience(S)).unwrap()),
        row("concurrency by key", Waits, KeyedLayer::new(three, |request: &Req| request.key).unwrap()),
        row("load shed", Refused, shed),
        row("rate", Runs, RateLayer::new(Rate::per_second(1_000_000)).unwrap()),
        row("rate by key", Runs, RateLayer::by_key(Rate::per_second(5), |request: &Req| request.id).unwrap()),
        Row {
            name: "resilient",
            fourth: Waits,
            wear: Box::new(|probe| {
                let stack = Resilient::default().concurrency(Limit::new(3)).build::<Error>().unwrap();
                BoxCloneService::new(stack.layer(probe).map_err(flat))
            }),
        },
    ]
}

fn passing() -> Vec<Row> {
    let every_day = [Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday, Weekday::Friday];
    let weekend = [Weekday::Saturday, Weekday::Sunday];
    let open = Schedule::hours(every_day.into_iter().chain(weekend), "00:00", "00:00", "UTC").unwrap();
    vec![
        row("authorize", Runs, AuthorizeLayer::new(|_: &Req| Ok::<(), Denied>(()))),
        row("breaker", Runs, BreakerLayer::new(Trip::default()).unwrap()),
        row("catch panic", Runs, CatchPanicLayer),
        row("dead letter", Runs, DeadLetterLayer::new(|_: Req, _: &Error| Ok(()))),
        row("deadline", Runs, DeadlineLayer::new(S * 100).unwrap()),
        row("fallback", Runs, FallbackLayer::new(Err::<u32, Error>)),
        row("fallback service", Runs, FallbackServiceLayer::new(Probe::new())),
        row("hedge", Runs, HedgeLayer::new(Hedging::after(S * 50)).unwrap()),
        Row {
            name: "lift",
            fourth: Runs,
            wear: Box::new(|probe| BoxCloneService::new(LiftLayer.layer(probe).map_err(flat))),
        },
        row("metrics", Runs, MetricsLayer::new("conformance")),
        row("retry", Runs, RetryLayer::<Error>::new(Retry::exponential()).unwrap()),
        row("schedule", Runs, ScheduleLayer::hold(open)),
        row("skip", Runs, SkipLayer::<Duplicate>::new()),
        row("tap", Runs, TapLayer::new(|_: &Req| {}, |_: &Result<u32, Error>| {})),
        row("timeout", Runs, TimeoutLayer::new(S * 100).unwrap()),
        row("trace", Runs, TraceLayer::new("conformance")),
        row("validate", Runs, ValidateLayer::new(check(|_: &Req| Ok::<(), Invalid>(())))),
    ]
}

fn remembering() -> Vec<Row> {
    let key = |request: &Req| Some(request.id);
    let memory = MemoryAnswers::<u32, u32>::default();
    vec![
        row("cache", Runs, CacheLayer::new(cache::Keep::default().life(Duration::ZERO), by_id).unwrap()),
        row("dedupe", Runs, DedupeLayer::new(Window::default(), by_id).unwrap()),
        row("idempotency", Runs, IdempotencyLayer::new(idempotency::Keep::default(), memory, key).unwrap()),
    ]
}

fn by_id(request: &Req) -> u32 {
    request.id
}

fn flat(error: Failure<Error>) -> Error {
    match error {
        Failure::Inner(error) => error,
        Failure::Layer(error) => Failure::Layer(error),
    }
}

/// Puts every layer to a test, with a probe of its own, and says which ones failed it, and how.
async fn each(test: impl AsyncFn(&str, Boxed, &Seen)) {
    each_row(async |row, service, seen| test(row.name, service, seen).await).await;
}

async fn each_row(test: impl AsyncFn(&Row, Boxed, &Seen)) {
    let mut failed = Vec::new();
    for row in table() {
        let probe = Probe::new();
        let seen = probe.seen.clone();
        let tried = AssertUnwindSafe(test(&row, (row.wear)(probe), &seen)).catch_unwind().await;
        if let Err(panic) = tried {
            failed.push(format!("{}: {}", row.name, text(&*panic)));
        } else if seen.running() > 0 {
            failed.push(format!("{}: a call runs on", row.name));
        }
    }
    assert!(failed.is_empty(), "{} layers break the promise:\n{}", failed.len(), failed.join("\n"));
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let formatted = panic.downcast_ref::<String>().map(String::as_str);
    formatted.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without text")
}

/// All is as if nothing had happened: three calls run at once, and end well.
async fn serves(name: &str, service: &Boxed, seen: &Seen, first: u32) {
    let before = seen.calls();
    let calls = (first..first + 3).map(|id| service.clone().oneshot(req(id, Act::Take(S))));
    let start = now();
    for (id, answer) in (first..).zip(join_all(calls).await) {
        assert_eq!(answer.unwrap_or_else(|error| panic!("{name}: {error}")), id, "{name}");
    }
    let took = now() - start;
    assert!(took >= S && took < S * 2, "{name}: not three at once");
    assert_eq!(seen.calls() - before, 3, "{name}");
}

#[tokio::test(start_paused = true)]
async fn a_service_serves_again_and_again_and_is_ready_before_each_call() {
    each(async |name, mut service, seen| {
        for id in 0..10 {
            let answer = service.ready().await.unwrap().call(req(id, Act::Answer)).await;
            assert_eq!(answer.unwrap(), id, "{name}");
        }
        serves(name, &service, seen, 10).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_clone_has_a_readiness_of_its_own() {
    each(async |name, mut service, _| {
        service.ready().await.unwrap();
        let mut other = service.clone();
        assert_eq!(other.ready().await.unwrap().call(req(1, Act::Answer)).await.unwrap(), 1, "{name}");
        assert_eq!(service.call(req(2, Act::Answer)).await.unwrap(), 2, "{name}: it is still ready");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn readiness_that_is_not_used_leaks_nothing() {
    each(async |name, service, seen| {
        for _ in 0..50 {
            let mut unused = service.clone();
            unused.ready().await.unwrap();
        }
        let mut polled_often = service.clone();
        for _ in 0..50 {
            polled_often.ready().await.unwrap();
        }
        drop(polled_often);
        serves(name, &service, seen, 0).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_may_be_dropped_at_each_of_its_awaits() {
    each(async |name, mut service, seen| {
        for polls in 0..6 {
            let mut call = Box::pin(service.ready().await.unwrap().call(req(polls, Act::Yield(10))));
            for _ in 0..polls {
                assert!(poll_once(&mut call).is_pending(), "{name}");
            }
            drop(call);
            assert_eq!(seen.running(), 0, "{name}: dropped after {polls} polls");
        }
        serves(name, &service, seen, 100).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_inner_call_leaks_nothing() {
    each(async |name, service, seen| {
        for id in 0..5 {
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(service.clone().oneshot(req(id, Act::Panic)));
            let outcome = tasks.join_next().await.unwrap();
            assert!(!matches!(outcome, Ok(Ok(_))), "{name}");
            assert_eq!(seen.running(), 0, "{name}");
        }
        serves(name, &service, seen, 100).await;
    })
    .await;
}

/// Three calls that never end, each polled once.
fn three_hang(name: &str, service: &Boxed) -> Vec<impl Future<Output = Result<u32, Error>> + Unpin + use<>> {
    let mut running: Vec<_> = (0..3).map(|id| Box::pin(service.clone().oneshot(req(id, Act::Hang)))).collect();
    for call in &mut running {
        assert!(poll_once(call).is_pending(), "{name}: three may run");
    }
    running
}

#[tokio::test(start_paused = true)]
async fn a_fourth_call_runs_waits_or_is_refused_as_the_layer_says_and_may_leave() {
    each_row(async |row, service, seen| {
        let running = three_hang(row.name, &service);
        let mut fourth = Box::pin(service.clone().oneshot(req(3, Act::Hang)));
        let polled = poll_once(&mut fourth);
        let found = match &polled {
            Poll::Pending if seen.running() == 4 => Runs,
            Poll::Pending => Waits,
            Poll::Ready(_) => Refused,
        };
        assert_eq!(found, row.fourth);
        if let Poll::Ready(outcome) = polled {
            assert!(matches!(outcome, Err(Failure::Layer(_))), "the layer's own error says so");
        }
        let mut others: Vec<_> = (4..9).map(|id| Box::pin(service.clone().oneshot(req(id, Act::Hang)))).collect();
        for call in &mut others {
            let _refused_or_pending = poll_once(call);
        }
        assert_eq!(seen.running(), if row.fourth == Runs { 9 } else { 3 });
        drop((fourth, others, running));
        assert_eq!(seen.running(), 0);
        serves(row.name, &service, seen, 100).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_served_when_those_who_run_are_dropped() {
    each_row(async |row, service, seen| {
        let running = three_hang(row.name, &service);
        let mut fourth = Box::pin(service.clone().oneshot(req(9, Act::Answer)));
        let early = poll_once(&mut fourth);
        assert_eq!(early.is_pending(), row.fourth == Waits);
        drop(running);
        if row.fourth == Waits {
            assert_eq!(fourth.await.unwrap(), 9);
        }
        serves(row.name, &service, seen, 100).await;
    })
    .await;
}

#[test]
fn every_layer_tells_what_it_is_when_it_is_applied() {
    let table = table();
    let silent = table.iter().filter(|row| hear(|| (row.wear)(Probe::new())).1.is_empty());
    assert_eq!(silent.map(|row| row.name).collect::<Vec<_>>(), [""; 0]);
    let (_, parts) = hear(|| ServiceBuilder::new().layer(CatchPanicLayer).layer(LiftLayer).service(Probe::new()));
    let names: Vec<_> = parts.iter().map(Part::name).collect();
    assert_eq!(names, ["catch_panic", "lift"], "outermost first");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_comes_through_as_it_is() {
    each(async |name, service, seen| {
        let error = service.clone().oneshot(req(1, Act::Fail(BROKEN))).await;
        if name != "fallback service" {
            assert_eq!(error.unwrap_err().inner(), Some(&BROKEN), "{name}");
        }
        serves(name, &service, seen, 100).await;
    })
    .await;
}

#[test]
fn every_layer_is_send_and_sync() {
    fn crosses<T: Clone + Send + Sync + std::fmt::Debug>(_: &T) {}
    crosses(&AdaptiveLayer::new(Adapt::gradient()).unwrap());
    crosses(&BreakerLayer::new(Trip::default()).unwrap());
    crosses(&CacheLayer::<_, u32, _>::new(cache::Keep::default(), by_id).unwrap());
    crosses(&CatchPanicLayer);
    crosses(&ConcurrencyLayer::new(Limit::new(1)).unwrap());
    crosses(&DeadLetterLayer::new(|_: Req, _: &Error| Ok(())));
    crosses(&DeadlineLayer::new(S).unwrap());
    crosses(&DedupeLayer::new(Window::default(), by_id).unwrap());
    crosses(&HedgeLayer::new(Hedging::after(S)).unwrap());
    crosses(&KeyedLayer::new(Limit::new(1), by_id).unwrap());
    crosses(&LoadShedLayer);
    crosses(&MetricsLayer::new("x"));
    crosses(&RateLayer::new(Rate::per_second(1)).unwrap());
    crosses(&Resilient::default().build::<Error>().unwrap());
    crosses(&RetryLayer::<Error>::new(Retry::none()).unwrap());
    crosses(&ScheduleLayer::hold(Schedule::cron("* * * * *", "UTC").unwrap()));
    crosses(&SkipLayer::<Duplicate>::new());
    crosses(&TimeoutLayer::new(S).unwrap());
    crosses(&TraceLayer::new("x"));
}
