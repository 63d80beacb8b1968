//! What became of an event on its way to the store: told once, to all who wait for it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::PersistError;
use crate::{event::EventId, store::wake};

/// The end of one event's way to the store.
#[derive(Default)]
pub(crate) struct Landing(Mutex<Where>);

#[derive(Default)]
struct Where {
    outcome: Option<Outcome>,
    waiting: Waiting,
    tellers: usize,
}

/// Who waits: mostly one.
#[derive(Default)]
struct Waiting {
    first: Option<Waker>,
    more: Vec<Waker>,
}

/// Who tells it. Whoever waits is told in any case: where the last one goes without a word, that nobody knows.
pub(crate) struct Teller {
    id: EventId,
    landing: Arc<Landing>,
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
        place.waiting.add(cx.waker());
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
        waiting.wake();
    }
}

impl Waiting {
    fn add(&mut self, waker: &Waker) {
        match &self.first {
            None => self.first = Some(waker.clone()),
            Some(first) if first.will_wake(waker) => {}
            Some(_) if self.more.iter().any(|other| other.will_wake(waker)) => {}
            Some(_) => self.more.push(waker.clone()),
        }
    }

    fn wake(self) {
        self.first.into_iter().chain(self.more).for_each(wake);
    }
}

impl Teller {
    pub(crate) fn new(id: EventId) -> Self {
        let landing = Landing(Mutex::new(Where { tellers: 1, ..Where::default() }));
        Self { id, landing: Arc::new(landing) }
    }

    /// Where it is told.
    pub(crate) fn landing(&self) -> Arc<Landing> {
        Arc::clone(&self.landing)
    }

    pub(crate) fn tell(&self, outcome: Outcome) {
        self.landing.tell(outcome);
    }
}

impl Clone for Teller {
    fn clone(&self) -> Self {
        self.landing.lock().tellers += 1;
        Self { id: self.id, landing: Arc::clone(&self.landing) }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let mut place = self.landing.lock();
        place.tellers -= 1;
        let is_silent = place.tellers == 0 && place.outcome.is_none();
        drop(place);
        if is_silent {
            let reason = "the runtime was dropped before it was known".to_owned();
            self.landing.tell(Err(PersistError::Unknown { id: self.id, reason }));
        }
    }
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.landing.fmt(f)
    }
}

impl fmt::Debug for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Landing").field(&self.outcome()).finish()
    }
}
