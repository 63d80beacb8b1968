use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use metrics::{SharedString, counter, gauge, histogram};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::Classify;
use crate::clock::now;
use crate::future::Ending;

pin_project! {
    /// The future of [`Metrics`](super::Metrics).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct MetricsFuture<F> {
        #[pin]
        call: Ending<F>,
        tally: Tally,
    }
}

impl<F> MetricsFuture<F> {
    pub(super) const fn new(future: F, tally: Tally) -> Self {
        Self { call: Ending::running(future), tally }
    }
}

impl<F, T, E> Future for MetricsFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Classify,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let output = ready!(this.call.poll(cx));
        this.tally.end(match &output {
            Ok(_) => "ok",
            Err(error) => error.kind().name(),
        });
        Poll::Ready(output)
    }
}

/// One call, counted once: when it ends, or when it is dropped.
#[derive(Debug)]
pub(super) struct Tally {
    service: Arc<str>,
    started: Instant,
    ended: bool,
}

impl Tally {
    pub(super) fn begin(service: &Arc<str>) -> Self {
        gauge!("millstream_calls_in_flight", "service" => label(service)).increment(1.0);
        Self { service: Arc::clone(service), started: now(), ended: false }
    }

    fn end(&mut self, outcome: &'static str) {
        self.ended = true;
        let seconds = (now() - self.started).as_secs_f64();
        let service = || label(&self.service);
        gauge!("millstream_calls_in_flight", "service" => service()).decrement(1.0);
        counter!("millstream_calls_total", "service" => service(), "outcome" => outcome).increment(1);
        histogram!("millstream_call_duration_seconds", "service" => service(), "outcome" => outcome).record(seconds);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if !self.ended {
            self.end("dropped");
        }
    }
}

fn label(service: &Arc<str>) -> SharedString {
    SharedString::from(Arc::clone(service))
}
