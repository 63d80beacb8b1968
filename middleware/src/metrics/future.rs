use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::names::Names;
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
            Ok(_) => Outcome::Ok,
            Err(error) => Outcome::Failed(error.kind()),
        });
        Poll::Ready(output)
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Ok,
    Failed(crate::ErrorKind),
    Dropped,
}

/// One call, counted once: when it ends, or when it is dropped.
#[derive(Debug)]
pub(super) struct Tally {
    names: Arc<Names>,
    started: Instant,
    ended: bool,
}

impl Tally {
    pub(super) fn begin(names: &Arc<Names>) -> Self {
        names.in_flight().increment(1.0);
        Self { names: Arc::clone(names), started: now(), ended: false }
    }

    fn end(&mut self, outcome: Outcome) {
        self.ended = true;
        self.names.in_flight().decrement(1.0);
        self.names.calls(outcome).increment(1);
        self.names.duration(outcome).record((now() - self.started).as_secs_f64());
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Outcome::Dropped);
        }
    }
}
