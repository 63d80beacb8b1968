use std::time::Duration;

use millstream_middleware::breaker::{Open, Trip};
use millstream_middleware::concurrency::Limit;
use millstream_middleware::retry::{Jitter, Retry};
use millstream_middleware::stack::{Resilient, Stack};
use millstream_middleware::timeout::Elapsed;
use millstream_middleware::{Classify, Describe, ErrorKind, LayerError};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn the_order_is_the_order_written_outermost_first() {
    let inside = Stack::builder("inside").retry(Retry::fixed(S)).timeout(S * 5).build().unwrap();
    let outside = Stack::builder("outside").timeout(S * 5).retry(Retry::fixed(S)).build().unwrap();
    let (probe, other) = (Probe::new(), Probe::new());
    let seen = (probe.seen.clone(), other.seen.clone());
    inside.layer(probe).oneshot(req(1, Act::Hang)).await.unwrap_err();
    outside.layer(other).oneshot(req(1, Act::Hang)).await.unwrap_err();
    assert_eq!((seen.0.calls(), seen.1.calls()), (3, 1));
    assert!(inside.to_string().starts_with("inside: retry(attempts 3, "));
    let names: Vec<_> = outside.parts().iter().map(millstream_middleware::Part::name).collect();
    assert_eq!(names, ["timeout", "retry"]);
    assert_eq!(outside.describe().name(), "outside");
}

#[test]
fn impossible_settings_of_all_layers_are_refused_at_once_each_with_its_layer() {
    let error = Stack::builder("worst")
        .deadline(Duration::ZERO)
        .retry::<Error>(Retry::exponential().attempts(0).factor(0.1))
        .breaker(Trip::default().minimum(0))
        .concurrency(Limit::new(0))
        .build()
        .unwrap_err();
    let named: Vec<_> = error.refused().iter().map(|e| (e.part().unwrap(), e.setting())).collect();
    assert_eq!(
        named,
        [
            ("deadline", "limit"),
            ("retry", "attempts"),
            ("retry", "factor"),
            ("breaker", "minimum"),
            ("concurrency", "max")
        ]
    );
    assert!(error.to_string().contains("retry.attempts: counts the first call"));
}

#[tokio::test(start_paused = true)]
async fn the_resilient_default_retries_times_out_and_fails_fast_when_open() {
    let stack = Resilient::default().retry(Retry::fixed(S).total(S * 30)).build::<Error>().unwrap();
    let probe = Probe::new();
    let seen = probe.seen.clone();
    let service = stack.layer(probe);
    let start = now();
    let error = service.clone().oneshot(req(1, Act::Hang)).await.unwrap_err();
    assert_eq!(error.layer::<Elapsed>().unwrap().limit(), S * 9);
    assert_eq!((now() - start, seen.calls()), (S * 29, 3));
    for id in 0..7 {
        service.clone().oneshot(req(id, Act::Fail(BROKEN))).await.unwrap_err();
    }
    let error = service.clone().oneshot(req(9, Act::Answer)).await;
    assert!(error.is_ok() || error.unwrap_err().layer::<Open>().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_caller_hears_at_once_when_the_breaker_outlasts_the_deadline() {
    let breaker = Trip::default().minimum(2).open_for(S * 60, S * 60);
    let retry = Retry::exponential().jitter(Jitter::None).total(S * 30);
    let stack = Resilient::default().breaker(breaker).retry(retry).build::<Error>().unwrap();
    let service = stack.layer(Probe::new());
    service.clone().oneshot(req(1, Act::Fail(BROKEN))).await.unwrap_err();
    let start = now();
    let error = service.oneshot(req(2, Act::Answer)).await.unwrap_err();
    assert!(error.layer::<Open>().is_some());
    assert_eq!(now(), start);
}

#[tokio::test(start_paused = true)]
async fn a_stack_can_be_used_many_times_and_shares_its_limits() {
    let stack = Stack::builder("one").concurrency(Limit::new(1)).build().unwrap();
    let (one, two) = (stack.layer(Probe::new()), stack.clone().layer(Probe::new()));
    let start = now();
    let (a, b) = futures_util::join!(one.oneshot(req(1, Act::Take(S))), two.oneshot(req(2, Act::Take(S))));
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(now() - start, S * 2);
}

#[test]
fn settings_of_the_resilient_stack_survive_serde() {
    let settings = Resilient::default().retry(Retry::linear(S)).timeout(S);
    let json = serde_json::to_string(&settings).unwrap();
    let back: Resilient = serde_json::from_str(&json).unwrap();
    assert_eq!(format!("{settings:?}"), format!("{back:?}"));
}

/// An error of another crate, as an engine has one: it carries those of every layer by one `impl`.
#[derive(Debug)]
struct Engine {
    kind: ErrorKind,
    layer: Option<Box<dyn LayerError>>,
}

impl<L: LayerError> From<L> for Engine {
    fn from(error: L) -> Self {
        Self { kind: error.kind(), layer: Some(Box::new(error)) }
    }
}

impl Classify for Engine {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_another_crate_carries_those_of_every_layer() {
    let handler = service_fn(|n: u32| async move {
        match n {
            0 => std::future::pending().await,
            1 => Err(Engine { kind: ErrorKind::Invalid, layer: None }),
            n => Ok(n),
        }
    });
    let stack = Stack::builder("engine")
        .deadline(S * 10)
        .retry::<Engine>(Retry::fixed(S))
        .breaker(Trip::default())
        .concurrency(Limit::new(1).queue(1))
        .timeout(S)
        .load_shed()
        .catch_panic()
        .build()
        .unwrap();
    let service = stack.layer(handler);
    let timed_out = service.clone().oneshot(0).await.unwrap_err();
    assert_eq!(
        (timed_out.kind, timed_out.layer.unwrap().to_string()),
        (ErrorKind::Timeout, "no answer within 1s".into())
    );
    assert!(service.clone().oneshot(1).await.unwrap_err().layer.is_none());
    assert_eq!(service.oneshot(2).await.unwrap(), 2);
}
