//! The counters.

use serde::Serialize;

use super::Runtime;
use crate::{
    intake::{DeliveryBook, EventBook},
    queue::CLASSES,
};

/// The counters of a runtime. The events and deliveries are from one moment, the dead letters from one just after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Every event that was ever accepted, by where it is.
    pub events: EventBook,
    /// Every delivery that was ever made, by where it is.
    pub deliveries: DeliveryBook,
    /// Events that wait in the queue, by class: critical, high, normal, low.
    pub queued: [usize; CLASSES],
    /// Events that hold room, those being handled among them.
    pub held: usize,
    /// `queue_size`.
    pub capacity: usize,
    /// Dead letters kept.
    pub dead_letters: usize,
    /// Dead letters dropped for want of room.
    pub dead_letters_dropped: u64,
    /// Polls of handlers that held up their thread for over 100 ms.
    pub slow_polls: u64,
}

impl Stats {
    /// Whether both books balance: nothing is lost, nothing counted twice. They do at every moment.
    pub fn balances(&self) -> bool {
        self.events.balances() && self.deliveries.balances()
    }
}

impl Runtime {
    /// The counters now.
    pub fn stats(&self) -> Stats {
        let state = self.shared.intake.lock();
        let (events, deliveries) = (state.event_book(), state.dispatch.deliveries);
        let (queued, room) = (state.queue.len_by_class(), state.queue.room());
        let (held, capacity) = (room.held(), room.capacity());
        drop(state);
        let letters = self.shared.letters();
        let (dead_letters, dead_letters_dropped) = (letters.len(), letters.dropped());
        drop(letters);
        let slow_polls = self.shared.slow.as_ref().map_or(0, |slow| slow.found().0);
        Stats { events, deliveries, queued, held, capacity, dead_letters, dead_letters_dropped, slow_polls }
    }
}
