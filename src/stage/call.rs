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
use tower_service::Service;

use super::{BoxError, Delivery, Handler, HandlerError, IntoOutputs, LayeredFuture, Outcome};

/// A handler of any type.
pub trait Call: Send {
    /// Begins an attempt and polls it once. `None` where it has ended well and returned nothing, as most do: so the answer
    /// is one word.
    fn start(&mut self, delivery: &Delivery, cx: &mut task::Context<'_>) -> Option<Box<Started>>;
}

/// What became of the first poll, where there is more to say than that it ended well.
pub enum Started {
    Done(Outcome),
    Parked(Parked),
}

impl Started {
    /// How it ended, if it has.
    pub(crate) fn is_ok(&self) -> Option<bool> {
        match self {
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

/// What begins an attempt.
pub(crate) trait Begin: Send {
    type Future: Future<Output = Outcome> + Send + 'static;

    fn begin(&mut self, delivery: &Delivery) -> Self::Future;
}

/// A bare handler.
pub(crate) struct HandlerCall<H, Args>(H, PhantomData<fn(Args)>);

impl<H, Args> HandlerCall<H, Args> {
    pub(super) fn new(handler: H) -> Self {
        Self(handler, PhantomData)
    }
}

impl<H: Handler<Args>, Args> Begin for HandlerCall<H, Args> {
    type Future = H::Future;

    fn begin(&mut self, delivery: &Delivery) -> H::Future {
        self.0.call_lent(delivery)
    }
}

/// A handler in its layers. It is only ever cloned: each delivery has a clone of its own to make ready and to call.
pub(crate) struct ServiceCall<S>(pub(super) S);

impl<S> Begin for ServiceCall<S>
where
    S: Service<Delivery, Response: IntoOutputs, Error: Into<BoxError>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Future = LayeredFuture<S>;

    fn begin(&mut self, delivery: &Delivery) -> LayeredFuture<S> {
        LayeredFuture::new(self.0.clone(), delivery.clone())
    }
}

/// Calls a handler.
pub(crate) struct Caller<B: Begin> {
    begin: B,
    spare: Option<Pin<Box<Place<B::Future>>>>,
}

impl<B: Begin> Caller<B> {
    pub(crate) fn new(begin: B) -> Self {
        Self { begin, spare: None }
    }
}

impl<B: Begin> Call for Caller<B> {
    fn start(&mut self, delivery: &Delivery, cx: &mut task::Context<'_>) -> Option<Box<Started>> {
        let mut place = self.spare.take().unwrap_or_else(|| Box::pin(Place { attempt: None }));
        let mut done = None;
        let has_ended = contained(|| {
            place.as_mut().project().attempt.set(Some(self.begin.begin(delivery)));
            let polled = place.as_mut().poll(cx);
            if polled.is_pending() {
                return false;
            }
            place.as_mut().project().attempt.set(None);
            if let Poll::Ready(outcome) = polled
                && !matches!(&outcome, Ok(outputs) if outputs.is_nothing())
            {
                done = Some(Box::new(Started::Done(outcome)));
            }
            true
        });
        match has_ended {
            Ok(false) => Some(Box::new(Started::Parked(place))),
            Ok(true) => {
                self.spare = Some(place);
                done
            }
            Err(panic) => {
                // What is left of it may panic again while it is dropped; the first panic is the one to report.
                drop(contained(|| drop(place)));
                Some(Box::new(Started::Done(Err(panic))))
            }
        }
    }
}

/// Runs what belongs to a user and makes a panic of it that one delivery's error. User code is not let back in after
/// its panic, so what it may have left half-changed is its own.
pub(crate) fn contained<R>(user: impl FnOnce() -> R) -> Result<R, HandlerError> {
    catch_unwind(AssertUnwindSafe(user)).map_err(|payload| {
        let error = HandlerError::panicked(&*payload);
        // What was panicked with may be as bad.
        drop(catch_unwind(AssertUnwindSafe(|| drop(payload))));
        error
    })
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("is_ok", &self.is_ok()).finish_non_exhaustive()
    }
}

impl fmt::Debug for dyn Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}
