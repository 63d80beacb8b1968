//! An attempt that did not end at once.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};

use millstream_operators::Timestamp;
use tracing::Span;

use super::{beat::Beat, job::Job, timers::TimerKey};
use crate::stage::{Delivery, HandlerError, Outcome, Parked, contained, lend};

/// What the dispatcher keeps of an attempt in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) job: Job,
    pub(super) began: Timestamp,
    pub(super) timeout: Option<TimerKey>,
    pub(super) abort: futures_util::future::AbortHandle,
}

/// Polls a parked attempt as its delivery: with its cause, its span, its panics contained, under the watchdog.
pub(super) struct Running {
    pub(super) place: usize,
    attempt: Option<Parked>,
    delivery: Option<Delivery>,
    span: Span,
    beat: Arc<Beat>,
}

impl Running {
    pub(super) fn new(place: usize, attempt: Parked, delivery: Delivery, span: Span, beat: Arc<Beat>) -> Self {
        Self { place, attempt: Some(attempt), delivery: Some(delivery), span, beat }
    }

    fn poll_attempt(&mut self, cx: &mut task::Context<'_>) -> Poll<Outcome> {
        let (Some(attempt), Some(delivery)) = (&mut self.attempt, self.delivery.take()) else { return Poll::Pending };
        self.beat.begin(delivery.site.seat.subscription);
        let mut polled = Ok(Poll::Pending);
        let poll = |_: &Delivery| polled = contained(|| self.span.in_scope(|| attempt.as_mut().poll(cx)));
        self.delivery = Some(lend(|| delivery, poll, |delivery| delivery));
        self.beat.end();
        let outcome = match polled {
            Ok(polled) => ready!(polled),
            Err(panic) => Err(panic),
        };
        Poll::Ready(outcome.and_then(|outputs| self.drop_attempt().map(|()| outputs)))
    }

    /// What a handler does when it is dropped may panic as well.
    fn drop_attempt(&mut self) -> Result<(), HandlerError> {
        let attempt = self.attempt.take();
        contained(|| drop(attempt))
    }
}

impl Future for Running {
    type Output = (usize, Outcome);

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(self.poll_attempt(cx));
        Poll::Ready((self.place, outcome))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It was over or is given up, so a panic changes nothing.
        drop(self.drop_attempt());
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("place", &self.place).finish_non_exhaustive()
    }
}
