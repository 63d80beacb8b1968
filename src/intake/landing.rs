//! What became of an event on its way to the store: told once, to all who wait for it.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::PersistError;
use crate::event::EventId;

/// The end of one event's way to the store.
#[derive(Default)]
pub(crate) struct Landing(Mutex<Where>);

#[derive(Default)]
struct Where {
    outcome: Option<Outcome>,
    waiting: Vec<Waker>,
}

/// The id under which the event is in the store, or why it is not known to be.
pub(crate) type Outcome = Result<EventId, PersistError>;

impl Landing {
    fn lock(&self) -> MutexGuard<'_, Where> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut place = self.lock();
        if let Some(outcome) = &place.outcome {
            return Poll::Ready(outcome.clone());
        }
        if !place.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            place.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.lock().outcome.clone()
    }

    /// Tells it. Whoever waits is woken when no lock is held.
    pub(crate) fn tell(&self, outcome: Outcome) {
        let mut place = self.lock();
        place.outcome = Some(outcome);
        let waiting = std::mem::take(&mut place.waiting);
        drop(place);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Landing").field(&self.outcome()).finish()
    }
}
