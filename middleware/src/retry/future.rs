use std::fmt;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

use super::layer::Rules;
use crate::clock::now;

pin_project! {
    /// The future of [`Retrying`](super::Retrying).
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        phase: Phase<S::Future>,
        spare: Option<Spare<S, R>>,
        rules: Arc<Rules<S::Error>>,
        failed: u32,
        previous: Duration,
        started: Option<Instant>,
    }
}

type Output<S, R> = Result<<S as Service<R>>::Response, <S as Service<R>>::Error>;

/// What the next attempt needs.
struct Spare<S, R> {
    service: S,
    request: R,
}

pin_project! {
    #[project = PhaseProjection]
    enum Phase<F> {
        Calling { #[pin] future: F },
        BackingOff { #[pin] sleep: Sleep },
        Readying,
        Ended,
    }
}

impl<S: Service<R>, R> RetryFuture<S, R> {
    pub(super) fn new(first: S::Future, service: S, request: R, rules: Arc<Rules<S::Error>>) -> Self {
        Self::with(first, Some(Spare { service, request }), rules)
    }

    pub(super) fn once(only: S::Future, rules: Arc<Rules<S::Error>>) -> Self {
        Self::with(only, None, rules)
    }

    fn with(first: S::Future, spare: Option<Spare<S, R>>, rules: Arc<Rules<S::Error>>) -> Self {
        let phase = Phase::Calling { future: first };
        Self { phase, spare, rules, failed: 0, previous: Duration::ZERO, started: None }
    }
}

impl<S, R> Future for RetryFuture<S, R>
where
    S: Service<R>,
    R: Clone,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let next = match this.phase.as_mut().project() {
                PhaseProjection::Calling { future } => match future.poll(cx) {
                    Poll::Pending => {
                        this.started.get_or_insert_with(now);
                        return Poll::Pending;
                    }
                    Poll::Ready(output) => match self.as_mut().judge(output) {
                        ControlFlow::Continue(delay) => Phase::BackingOff { sleep: sleep(delay) },
                        ControlFlow::Break(output) => return self.end(output),
                    },
                },
                PhaseProjection::BackingOff { sleep } => {
                    ready!(sleep.poll(cx));
                    Phase::Readying
                }
                PhaseProjection::Readying => match ready!(self.as_mut().poll_attempt(cx)) {
                    Ok(future) => Phase::Calling { future },
                    Err(error) => return self.end(Err(error)),
                },
                PhaseProjection::Ended => return Poll::Pending,
            };
            self.as_mut().project().phase.set(next);
        }
    }
}

impl<S, R> RetryFuture<S, R>
where
    S: Service<R>,
    R: Clone,
{
    /// Decides about the outcome of an attempt: back off for this long, or be done with it.
    fn judge(self: Pin<&mut Self>, output: Output<S, R>) -> ControlFlow<Output<S, R>, Duration> {
        let this = self.project();
        let error = match output {
            Err(error) if this.spare.is_some() => error,
            done => return ControlFlow::Break(done),
        };
        let now = now();
        let elapsed = now - *this.started.get_or_insert(now);
        *this.failed += 1;
        match this.rules.delay(&error, *this.failed, elapsed, *this.previous) {
            Some(delay) => {
                *this.previous = delay;
                ControlFlow::Continue(delay)
            }
            None => ControlFlow::Break(Err(error)),
        }
    }

    /// Polls the spare service ready and calls it. The last attempt takes the request; the others clone it.
    fn poll_attempt(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Future, S::Error>> {
        let this = self.project();
        let last = this.rules.is_last(*this.failed + 1);
        let spare = this.spare.as_mut().expect("a retry keeps the request and the service");
        ready!(spare.service.poll_ready(cx))?;
        if !last {
            return Poll::Ready(Ok(spare.service.call(spare.request.clone())));
        }
        let Spare { mut service, request } = this.spare.take().expect("it was there a line ago");
        Poll::Ready(Ok(service.call(request)))
    }

    /// Drops what is left, now.
    fn end(self: Pin<&mut Self>, output: Output<S, R>) -> Poll<Output<S, R>> {
        let mut this = self.project();
        this.phase.set(Phase::Ended);
        *this.spare = None;
        Poll::Ready(output)
    }
}

impl<S: Service<R>, R> fmt::Debug for RetryFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture").field("failed", &self.failed).finish_non_exhaustive()
    }
}
