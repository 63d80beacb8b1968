use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
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
    turn: Readiness,
}

/// How far this handle has come towards a permit.
#[derive(Debug)]
enum Readiness {
    Idle,
    Waiting(Box<Wait>),
    Granted(OwnedSemaphorePermit),
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
        Self { inner, permits, turn: Readiness::Idle }
    }
}

impl<S: Clone> Clone for Concurrency<S> {
    /// The clone waits for a permit of its own.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.permits))
    }
}

impl Readiness {
    /// Takes a permit if one is free, else a place in the queue, else a refusal.
    #[inline]
    fn begin(permits: &Arc<Permits>) -> Self {
        match Arc::clone(&permits.semaphore).try_acquire_owned() {
            Ok(permit) => Self::Granted(permit),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => Self::queue(permits),
        }
    }

    #[cold]
    fn queue(permits: &Arc<Permits>) -> Self {
        match permits.join_queue() {
            Some(place) => Self::Waiting(Box::new(Wait::new(permits, place))),
            None => Self::Refused(QueueError::Full { queue: permits.limit.room() }),
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

    fn poll(&mut self, permits: &Permits, cx: &mut Context<'_>) -> Poll<Readiness> {
        if let Poll::Ready(Some(permit)) = self.semaphore.poll_acquire(cx) {
            return Poll::Ready(Readiness::Granted(permit));
        }
        match (&mut self.patience, permits.limit.patience) {
            (Some(sleep), Some(patience)) => {
                ready!(sleep.as_mut().poll(cx));
                Poll::Ready(Readiness::Refused(QueueError::Timeout { patience }))
            }
            _ => Poll::Pending,
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
        if let Readiness::Idle = self.turn {
            self.turn = Readiness::begin(&self.permits);
        }
        if let Readiness::Waiting(wait) = &mut self.turn {
            self.turn = ready!(wait.poll(&self.permits, cx));
        }
        match self.turn {
            Readiness::Refused(_) => Poll::Ready(Ok(())),
            _ => self.inner.poll_ready(cx),
        }
    }

    fn call(&mut self, request: R) -> Self::Future {
        match std::mem::replace(&mut self.turn, Readiness::Idle) {
            Readiness::Granted(permit) => {
                Refusable::running(Guarded::new(self.inner.call(request), Permit::new(permit)))
            }
            Readiness::Refused(refusal) => Refusable::refused(refusal),
            Readiness::Idle | Readiness::Waiting(_) => unready(),
        }
    }
}

/// tower allows a service to panic when it is called without having been ready.
#[expect(clippy::panic, reason = "tower's contract for a call without readiness")]
#[track_caller]
fn unready() -> ! {
    panic!("called without `poll_ready` having returned ready")
}
