use std::fmt;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

use super::service::Again;
use crate::clock::now;

pin_project! {
    /// The future of [`Retrying`](super::Retrying).
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        phase: Phase<S, R>,
        spare: Option<Spare<S, R>>,
        failed: u32,
        previous: Duration,
        started: Option<Instant>,
    }
}

/// The request, and what else a further attempt needs.
type Spare<S, R> = (R, Arc<Again<S, <S as Service<R>>::Error>>);

type Output<S, R> = Result<<S as Service<R>>::Response, <S as Service<R>>::Error>;

pin_project! {
    #[project = PhaseProjection]
    enum Phase<S, R>
    where
        S: Service<R>,
    {
        Calling { #[pin] future: S::Future },
        BackingOff { sleep: Pin<Box<Sleep>> },
        Readying { service: S },
        Ended,
    }
}

impl<S: Service<R>, R> RetryFuture<S, R> {
    /// `spare` is what further attempts need, if there may be any.
    pub(super) const fn new(first: S::Future, spare: Option<Spare<S, R>>) -> Self {
        let phase = Phase::Calling { future: first };
        Self { phase, spare, failed: 0, previous: Duration::ZERO, started: None }
    }
}

impl<S, R> Future for RetryFuture<S, R>
where
    S: Service<R> + Clone,
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
                        ControlFlow::Continue(delay) => Phase::BackingOff { sleep: Box::pin(sleep(delay)) },
                        ControlFlow::Break(output) => return self.end(output),
                    },
                },
                PhaseProjection::BackingOff { sleep } => {
                    ready!(sleep.as_mut().poll(cx));
                    let (_, again) = this.spare.as_ref().expect("a retry keeps the request and the service");
                    Phase::Readying { service: again.service() }
                }
                PhaseProjection::Readying { service } => match ready!(service.poll_ready(cx)) {
                    Ok(()) => Phase::Calling { future: service.call(take_request(this.spare, *this.failed)) },
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
    S: Service<R> + Clone,
    R: Clone,
{
    /// Decides about the outcome of an attempt: back off for this long, or be done with it.
    fn judge(self: Pin<&mut Self>, output: Output<S, R>) -> ControlFlow<Output<S, R>, Duration> {
        let this = self.project();
        let (error, again) = match (output, this.spare) {
            (Err(error), Some((_, again))) => (error, again),
            (done, _) => return ControlFlow::Break(done),
        };
        let now = now();
        let elapsed = now - *this.started.get_or_insert(now);
        *this.failed += 1;
        match again.rules().delay(&error, *this.failed, elapsed, *this.previous) {
            Some(delay) => {
                *this.previous = delay;
                ControlFlow::Continue(delay)
            }
            None => ControlFlow::Break(Err(error)),
        }
    }

    /// Drops what is left, now.
    fn end(self: Pin<&mut Self>, output: Output<S, R>) -> Poll<Output<S, R>> {
        let mut this = self.project();
        this.phase.set(Phase::Ended);
        *this.spare = None;
        Poll::Ready(output)
    }
}

/// The request of the next attempt: the last takes it, the others clone it.
fn take_request<S: Clone, R: Clone, E>(spare: &mut Option<(R, Arc<Again<S, E>>)>, failed: u32) -> R {
    let (request, again) = spare.take().expect("a retry keeps the request and the service");
    if !again.rules().is_last(failed + 1) {
        *spare = Some((request.clone(), again));
    }
    request
}

impl<S: Service<R>, R> fmt::Debug for RetryFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture").field("failed", &self.failed).finish_non_exhaustive()
    }
}
