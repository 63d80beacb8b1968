use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::PollSemaphore;
use tower_service::Service;

use super::error::QueueError;
use super::future::{ConcurrencyFuture, Permit};
use super::layer::{Permits, Place};
use crate::future::{Guarded, Refusable};

/// The service of [`ConcurrencyLayer`](super::ConcurrencyLayer).
#[derive(Debug)]
pub struct Concurrency<S> {
    inner: S,
    permits: Arc<Permits>,
    /// The permit that the next call runs with. Apart from what holds it up, for it then travels in registers.
    permit: Option<OwnedSemaphorePermit>,
    /// Why there is no permit yet; never there beside one.
    held_up: Option<Box<HeldUp>>,
}

/// Where no permit was free.
#[derive(Debug)]
enum HeldUp {
    Waiting(Wait),
    Refused(QueueError),
}

/// A wait in the queue. Dropping it leaves the queue.
#[derive(Debug)]
struct Wait {
    semaphore: PollSemaphore,
    patience: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl<S> Concurrency<S> {
    pub(super) const fn new(inner: S, permits: Arc<Permits>) -> Self {
        Self { inner, permits, permit: None, held_up: None }
    }
}

impl<S: Clone> Clone for Concurrency<S> {
    /// The clone waits for a permit of its own.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.permits))
    }
}

impl HeldUp {
    #[cold]
    fn new(permits: &Arc<Permits>) -> Self {
        match permits.join_queue() {
            Some(place) => Self::Waiting(Wait::new(permits, place)),
            None => Self::Refused(QueueError::Full { queue: permits.limit.room() }),
        }
    }

    /// A permit, or nothing where the call is refused.
    fn poll(&mut self, permits: &Permits, cx: &mut Context<'_>) -> Poll<Option<OwnedSemaphorePermit>> {
        let Self::Waiting(wait) = self else { return Poll::Ready(None) };
        if let Poll::Ready(Some(permit)) = wait.semaphore.poll_acquire(cx) {
            return Poll::Ready(Some(permit));
        }
        match (&mut wait.patience, permits.limit.patience) {
            (Some(sleep), Some(patience)) => {
                ready!(sleep.as_mut().poll(cx));
                *self = Self::Refused(QueueError::Timeout { patience });
                Poll::Ready(None)
            }
            _ => Poll::Pending,
        }
    }
}

impl Wait {
    fn new(permits: &Arc<Permits>, place: Place) -> Self {
        Self {
            semaphore: PollSemaphore::new(Arc::clone(&permits.semaphore)),
            patience: permits.limit.patience.map(|patience| Box::pin(sleep(patience))),
            _place: place,
        }
    }
}

impl<S, R> Service<R> for Concurrency<S>
where
    S: Service<R, Error: From<QueueError>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ConcurrencyFuture<S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.permit.is_none() && self.held_up.is_none() {
            match Arc::clone(&self.permits.semaphore).try_acquire_owned() {
                Ok(permit) => self.permit = Some(permit),
                Err(_) => self.held_up = Some(Box::new(HeldUp::new(&self.permits))),
            }
        }
        if let Some(held_up) = &mut self.held_up {
            let Some(permit) = ready!(held_up.poll(&self.permits, cx)) else { return Poll::Ready(Ok(())) };
            self.permit = Some(permit);
            self.held_up = None;
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let Some(permit) = self.permit.take() else {
            return Refusable::refused(self.refusal());
        };
        Refusable::running(Guarded::new(self.inner.call(request), Permit::new(permit)))
    }
}

impl<S> Concurrency<S> {
    #[cold]
    fn refusal(&mut self) -> QueueError {
        match self.held_up.take().map(|held_up| *held_up) {
            Some(HeldUp::Refused(refusal)) => refusal,
            _ => unready(),
        }
    }
}

/// tower allows a service to panic when it is called without having been ready.
#[expect(clippy::panic, reason = "tower's contract for a call without readiness")]
#[track_caller]
fn unready() -> ! {
    panic!("called without `poll_ready` having returned ready")
}
