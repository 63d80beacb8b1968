//! A delivery on its way, and the event that it belongs to.

use std::time::Duration;

use millstream_operators::Timestamp;

use super::durable::{Logged, Place};
use crate::{
    dead_letter::Failure,
    event::{Key, Tenant},
    intake::Held,
    request::NoAnswer,
};

/// One delivery that has not ended.
#[derive(Debug)]
pub(super) struct Job {
    /// Unique in the runtime.
    pub(super) id: u64,
    pub(super) held: Held,
    /// Where its event is counted in [`Dispatcher::open`](super::Dispatcher).
    pub(super) event: usize,
    pub(super) subscriber: usize,
    /// The event's place in the order of emission.
    pub(super) sequence: u64,
    /// Its place among those that wait for a quota or a slot, from when it began to wait for either; 0 where it does not.
    pub(super) turn: u64,
    /// Which attempt is next or running, from 1.
    pub(super) attempt: u32,
    /// How often this attempt was begun again, for what it had read was written by another.
    pub(super) conflicts: u32,
    /// Kept only once something has failed.
    pub(super) past: Option<Box<Past>>,
    /// Whether it has its key, or is the head that waits for its retry with it.
    pub(super) has_key: bool,
    pub(super) stake: Stake,
    /// Its place in the log, in a durable runtime.
    pub(super) logged: Option<Logged>,
}

/// What a delivery has to do with its event's room in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stake {
    /// The room is held for it, and it has not kept it for longer than its first poll.
    Fresh,
    /// The room is held for it, and counts against its subscription's share.
    Pinned,
    /// It is beyond its subscription's share, and holds no room.
    Excess,
    /// It is a replayed dead letter, and holds no room.
    Replayed,
    /// It comes from the log, and holds no room.
    Logged,
}

impl Stake {
    pub(super) fn has_room(self) -> bool {
        matches!(self, Self::Fresh | Self::Pinned)
    }
}

/// What went before the next attempt.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) first_began: Timestamp,
    pub(super) delay: Duration,
    pub(super) failures: Vec<Failure>,
}

/// The most failures that are kept of one delivery: the first half and the last.
const MOST_FAILURES: usize = 32;

impl Past {
    pub(super) fn since(first_began: Timestamp) -> Self {
        Self { first_began, delay: Duration::ZERO, failures: Vec::new() }
    }

    pub(super) fn remember(&mut self, failure: Failure) {
        if self.failures.len() >= MOST_FAILURES {
            self.failures.remove(MOST_FAILURES / 2);
        }
        self.failures.push(failure);
    }
}

impl Job {
    pub(super) fn class(&self) -> usize {
        self.held.event.priority.class()
    }

    pub(super) fn tenant(&self) -> Option<&Tenant> {
        self.held.event.tenant.as_ref()
    }

    /// Whether it is open in its subscription's cursor.
    pub(super) fn is_in_log(&self) -> bool {
        self.logged.is_some_and(|logged| logged.place == Place::Log)
    }

    /// What order by key goes by.
    pub(super) fn order_key(&self) -> Option<OrderKey> {
        let event = &self.held.event;
        event.key.clone().map(|key| (event.tenant.clone(), key))
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.held.event.cancellation().is_some_and(tokio_util::sync::CancellationToken::is_cancelled)
    }
}

/// Keys of different tenants are different keys.
pub(super) type OrderKey = (Option<Tenant>, Key);

/// An event whose deliveries have not all ended.
#[derive(Debug)]
pub(super) struct OpenEvent {
    pub(super) class: usize,
    /// Deliveries that have not ended.
    pub(super) open: usize,
    /// Those of them for which room is held.
    pub(super) with_room: usize,
    /// Why its request gets no answer, if none of its deliveries gives one.
    pub(super) failure: Option<NoAnswer>,
}
