//! What an emitter gets for an accepted event.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
};

use millstream_operators::Timestamp;

use crate::event::EventId;

/// Says that an event was accepted, and what became of it at once.
///
/// Awaiting it waits until the event is where a crash cannot reach it: on disk in a durable runtime; in memory that is
/// at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub(crate) id: EventId,
    pub(crate) fate: Fate,
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

/// Why an accepted event is not known to be safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PersistError {
    /// It was dropped for want of room.
    #[error("event {id} was dropped: the queue was full and its overflow policy drops what is new")]
    Dropped {
        /// The event.
        id: EventId,
    },
}

/// Resolves when an event is where a crash cannot reach it.
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

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let Receipt { id, fate } = self.0;
        Poll::Ready(if fate == Fate::Dropped { Err(PersistError::Dropped { id }) } else { Ok(id) })
    }
}
