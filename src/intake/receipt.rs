//! What an emitter gets for an accepted event.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use millstream_operators::Timestamp;

use super::Landing;
use crate::event::EventId;

/// Says that an event was accepted, and what became of it at once.
///
/// Awaiting it waits until the event is where a crash cannot reach it: on disk in a durable runtime; in memory that is
/// at once.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub(crate) id: EventId,
    pub(crate) fate: Fate,
    /// In a durable runtime.
    pub(crate) landing: Option<Arc<Landing>>,
}

/// What became of an accepted event at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It waits to be handled.
    Queued,
    /// It waits for its due time.
    Delayed {
        /// When it is queued.
        due: Timestamp,
    },
    /// There was no room and the policy is [`Overflow::DropNewest`](crate::Overflow::DropNewest): it is dropped and counted.
    Dropped,
}

/// Why an accepted event is not known to be safe. Each is counted in [`Drops`](crate::Drops).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PersistError {
    /// It was dropped for want of room.
    #[error("event {id} was dropped for want of room in the queue, as its overflow policy says")]
    Dropped {
        /// The event.
        id: EventId,
    },
    /// It is not in the store: the store refused it.
    #[error("event {id} is not in the store: {reason}")]
    Refused {
        /// The event.
        id: EventId,
        /// What the store says.
        reason: String,
    },
    /// The write failed on its way: the event may be in the store or not. Emitting it again is safe with the same
    /// [`idempotency_key`](crate::Draft::idempotency_key).
    #[error("event {id} may be in the store or not: {reason}")]
    Unknown {
        /// The event.
        id: EventId,
        /// What the store says.
        reason: String,
    },
}

/// Resolves when an event is where a crash cannot reach it: to its id, or to that of the first event with its idempotency
/// key where there was one.
///
/// # Cancel safety
/// Dropping it changes nothing: the event is accepted already.
#[derive(Clone, Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Persisted(Receipt);

impl Receipt {
    /// The event's id.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// What became of it at once.
    pub fn fate(&self) -> Fate {
        self.fate
    }
}

impl IntoFuture for Receipt {
    type Output = Result<EventId, PersistError>;
    type IntoFuture = Persisted;

    fn into_future(self) -> Persisted {
        Persisted(self)
    }
}

impl Future for Persisted {
    type Output = Result<EventId, PersistError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Receipt { id, fate, landing } = &self.0;
        match landing {
            _ if *fate == Fate::Dropped => Poll::Ready(Err(PersistError::Dropped { id: *id })),
            None => Poll::Ready(Ok(*id)),
            Some(landing) => landing.poll(cx),
        }
    }
}
