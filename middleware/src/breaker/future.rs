use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::layer::Breaker;
use super::machine::Ticket;
use super::trip::Trip;
use crate::clock::now;
use crate::future::{Ending, Refusable};
use crate::{Classify, KindSet};

/// The future of [`Guarding`](super::Guarding).
pub type BreakerFuture<F, E> = Refusable<Watched<F>, E>;

pin_project! {
    /// A call whose outcome is reported to the breaker.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Watched<F> {
        #[pin]
        call: Ending<F>,
        watch: Watch,
    }
}

impl<F> Watched<F> {
    pub(super) const fn new(future: F, watch: Watch) -> Self {
        Self { call: Ending::running(future), watch }
    }
}

impl<F, T, E> Future for Watched<F>
where
    F: Future<Output = Result<T, E>>,
    E: Classify,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let output = ready!(this.call.poll(cx));
        let failed = output.as_ref().is_err_and(|error| this.watch.kinds.contains(error.kind()));
        this.watch.report(failed);
        Poll::Ready(output)
    }
}

/// What of a [`Trip`] decides about one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    kinds: KindSet,
    slow: Option<Duration>,
}

impl Verdict {
    pub(super) fn new(trip: &Trip) -> Self {
        Self { kinds: trip.kinds, slow: trip.slow.map(|(after, _)| after) }
    }
}

/// Reports the outcome of one call, once; when dropped before, that there is none.
pub(super) struct Watch {
    breaker: Breaker,
    ticket: Option<Ticket>,
    kinds: KindSet,
    /// When the call becomes slow.
    slow_at: Option<Instant>,
}

impl Watch {
    pub(super) fn new(breaker: &Breaker, ticket: Ticket, verdict: Verdict) -> Self {
        let slow_at = verdict.slow.and_then(|after| now().checked_add(after));
        Self { breaker: breaker.clone(), ticket: Some(ticket), kinds: verdict.kinds, slow_at }
    }

    fn is_slow(&self) -> bool {
        self.slow_at.is_some_and(|at| now() >= at)
    }

    fn report(&mut self, failed: bool) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.record(ticket, failed, self.is_slow());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        if std::thread::panicking() {
            self.report(true);
        } else if self.is_slow() {
            self.report(false);
        } else {
            self.breaker.cancel(ticket);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("ended", &self.ticket.is_none()).finish_non_exhaustive()
    }
}
