//! How the dispatcher calls a handler whose type it does not know: first in place, then parked.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{self, Poll},
};

use pin_project_lite::pin_project;

use super::{Delivery, Handler, HandlerError, Outcome};

/// A handler of any type.
pub(crate) trait Call: Send {
    /// Begins an attempt and polls it once.
    fn start(&mut self, delivery: &mut Delivery, cx: &mut task::Context<'_>) -> Started;
}

/// What became of the first poll.
pub(crate) enum Started {
    /// It ended well and returned nothing, as most do: said without an outcome to carry about.
    Handled,
    Done(Outcome),
    Parked(Parked),
}

impl Started {
    /// How it ended, if it has.
    pub(crate) fn is_ok(&self) -> Option<bool> {
        match self {
            Self::Handled => Some(true),
            Self::Done(outcome) => Some(outcome.is_ok()),
            Self::Parked(_) => None,
        }
    }
}

/// An attempt that is not over.
pub(crate) type Parked = Pin<Box<dyn Future<Output = Outcome> + Send>>;

pin_project! {
    /// A place for one attempt after the other, so that those that end at once need no allocation.
    struct Place<F> {
        #[pin]
        attempt: Option<F>,
    }
}

impl<F: Future<Output = Outcome>> Future for Place<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Outcome> {
        match self.project().attempt.as_pin_mut() {
            Some(attempt) => attempt.poll(cx),
            None => Poll::Pending,
        }
    }
}

/// Calls a handler.
pub(crate) struct Caller<H: Handler<Args>, Args> {
    handler: H,
    spare: Option<Pin<Box<Place<H::Future>>>>,
    args: PhantomData<fn(Args)>,
}

impl<H: Handler<Args>, Args> Caller<H, Args> {
    pub(crate) fn new(handler: H) -> Self {
        Self { handler, spare: None, args: PhantomData }
    }
}

impl<H: Handler<Args>, Args> Call for Caller<H, Args> {
    fn start(&mut self, delivery: &mut Delivery, cx: &mut task::Context<'_>) -> Started {
        let mut place = self.spare.take().unwrap_or_else(|| Box::pin(Place { attempt: None }));
        let mut done = None;
        let has_ended = contained(|| {
            place.as_mut().project().attempt.set(Some(self.handler.call_lent(delivery)));
            let polled = place.as_mut().poll(cx);
            if polled.is_pending() {
                return false;
            }
            place.as_mut().project().attempt.set(None);
            if !matches!(&polled, Poll::Ready(Ok(outputs)) if outputs.is_empty()) {
                done = Some(polled);
            }
            true
        });
        match has_ended {
            Ok(false) => Started::Parked(place),
            Ok(true) => {
                self.spare = Some(place);
                match done {
                    Some(Poll::Ready(outcome)) => Started::Done(outcome),
                    _ => Started::Handled,
                }
            }
            Err(panic) => {
                // What is left of it may panic again while it is dropped; the first panic is the one to report.
                drop(contained(|| drop(place)));
                Started::Done(Err(panic))
            }
        }
    }
}

/// Runs what belongs to a user and makes a panic of it that one delivery's error. User code is not let back in after
/// its panic, so what it may have left half-changed is its own.
pub(crate) fn contained<R>(user: impl FnOnce() -> R) -> Result<R, HandlerError> {
    catch_unwind(AssertUnwindSafe(user)).map_err(|payload| HandlerError::panicked(&*payload))
}

impl fmt::Debug for dyn Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}
