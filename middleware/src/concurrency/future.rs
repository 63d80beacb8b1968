use std::fmt;
use std::hash::Hash;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

use super::error::QueueError;
use super::lanes::{Asked, Held, Queued};
use crate::future::{Gated, Guarded, Refusable};

/// The future of [`Concurrency`](super::Concurrency).
pub type ConcurrencyFuture<F, E> = Refusable<Guarded<F, Permit>, E>;

/// The future of [`Keyed`](super::Keyed): the turn of the key, then readiness, then the call.
pub type KeyedFuture<K, S, R> = Gated<Turn<K>, S, R>;

/// The right to run; returned when dropped.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
}

impl Permit {
    pub(super) const fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: permit }
    }
}

/// The turn of a key, while it runs; given back when dropped.
pub struct TurnPermit<K: Hash + Eq> {
    _held: Held<K>,
}

impl<K: Hash + Eq> fmt::Debug for TurnPermit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnPermit").finish_non_exhaustive()
    }
}

/// Waits for the turn of a key. Its place in line is that of the `call`, and is left when it is dropped.
#[must_use = "futures do nothing unless polled"]
pub struct Turn<K: Hash + Eq> {
    asked: Option<Asked<K>>,
    queue: usize,
    patience: Option<(Duration, Option<Pin<Box<Sleep>>>)>,
}

impl<K: Hash + Eq> Turn<K> {
    pub(crate) fn new(asked: Asked<K>, queue: usize, patience: Option<Duration>) -> Self {
        Self { asked: Some(asked), queue, patience: patience.map(|patience| (patience, None)) }
    }

    fn poll_queue(&mut self, mut queued: Queued<K>, cx: &mut Context<'_>) -> Poll<Result<TurnPermit<K>, QueueError>> {
        if let Poll::Ready(held) = queued.poll_turn(cx) {
            return Poll::Ready(Ok(TurnPermit { _held: held }));
        }
        if let Some((patience, alarm)) = &mut self.patience {
            let alarm = alarm.get_or_insert_with(|| Box::pin(sleep(*patience)));
            if alarm.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(QueueError::Timeout { patience: *patience }));
            }
        }
        self.asked = Some(Asked::Queued(queued));
        Poll::Pending
    }
}

impl<K: Hash + Eq + Unpin> Future for Turn<K> {
    type Output = Result<TurnPermit<K>, QueueError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.asked.take() {
            Some(Asked::Granted(held)) => Poll::Ready(Ok(TurnPermit { _held: held })),
            Some(Asked::Full) => Poll::Ready(Err(QueueError::Full { queue: self.queue })),
            Some(Asked::Queued(queued)) => self.poll_queue(queued, cx),
            None => Poll::Pending,
        }
    }
}

impl<K: Hash + Eq> fmt::Debug for Turn<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("waiting", &matches!(self.asked, Some(Asked::Queued(_)))).finish_non_exhaustive()
    }
}
