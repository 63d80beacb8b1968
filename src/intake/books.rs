//! The two books: every accepted event and every delivery is in exactly one column.

use serde::Serialize;

/// Events. At every moment `emitted = routed + unrouted + dropped.total() + queued + delayed + parked`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EventBook {
    /// Accepted, from outside and from handlers. What an attempt returned that [begins again](DeliveryBook::conflicts) is taken off.
    pub emitted: u64,
    /// Handed back to the emitter; not among the emitted.
    pub refused: u64,
    /// Matched by at least one subscription.
    pub routed: u64,
    /// Matched by none.
    pub unrouted: u64,
    /// Accepted and given up, by reason.
    pub dropped: Drops,
    /// Waiting to be dispatched.
    pub queued: u64,
    /// Waiting for their due time.
    pub delayed: u64,
    /// Handed back by a shutdown before they were dispatched.
    pub parked: u64,
}

/// Accepted events that were given up, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Drops {
    /// The queue was full and its policy drops the oldest or the newest.
    pub overflow: u64,
    /// Cancelled by their token.
    pub cancelled: u64,
    /// Returned by a handler too deep, as one more than their root may cause, or as one more delayed event than
    /// `delayed_size`. Each is a dead letter.
    pub loops: u64,
    /// Not known to be in the store, whose write was refused or failed on its way; the receipt says which.
    pub unsaved: u64,
    /// Not written, for there is an event of the same idempotency key.
    pub duplicate: u64,
}

/// Deliveries: one for each pair of event and subscription. At every moment
/// `created = handled + dead + cancelled + dropped + abandoned + in_flight + waiting + blocked + parked`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeliveryBook {
    /// All that ever were, replays of dead letters among them.
    pub created: u64,
    /// Ended well.
    pub handled: u64,
    /// Ended in the dead letters.
    pub dead: u64,
    /// Cancelled by their event's token before they began.
    pub cancelled: u64,
    /// Given up because their subscription held its whole share and drops its oldest.
    pub dropped: u64,
    /// Aborted or handed back by a shutdown whose grace was over.
    pub abandoned: u64,
    /// Being handled.
    pub in_flight: u64,
    /// In backoff before a retry, or due for a replay.
    pub waiting: u64,
    /// Behind their key, their subscription's concurrency or their tenant's quota.
    pub blocked: u64,
    /// Behind a key that is halted since its head died.
    pub parked: u64,
    /// Retries begun.
    pub retried: u64,
    /// Attempts that were begun again because what they had read of the storage and were to write was written by another. They
    /// count as no retries.
    pub conflicts: u64,
    /// Attempts that took longer than allowed.
    pub timeouts: u64,
    /// Attempts that panicked, and events and handlers that panicked while they were dropped.
    pub panics: u64,
}

impl Drops {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.overflow + self.cancelled + self.loops + self.unsaved + self.duplicate
    }
}

impl EventBook {
    /// Whether every accepted event is in one column.
    pub fn balances(&self) -> bool {
        self.emitted == self.routed + self.unrouted + self.dropped.total() + self.queued + self.delayed + self.parked
    }
}

impl DeliveryBook {
    /// Whether every delivery is in one column.
    pub fn balances(&self) -> bool {
        self.created == self.handled + self.dead + self.cancelled + self.dropped + self.abandoned + self.open()
    }

    /// Deliveries that have not ended.
    pub fn open(&self) -> u64 {
        self.in_flight + self.waiting + self.blocked + self.parked
    }
}

/// What the intake counts itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) emitted: u64,
    pub(crate) refused: u64,
    pub(crate) overflow: u64,
    pub(crate) cancelled: u64,
    pub(crate) loops: u64,
    pub(crate) parked: u64,
    /// Taken out by the dispatcher.
    pub(crate) pulled: u64,
    /// Written to the log, and wanted by somebody there or by nobody.
    pub(crate) routed: u64,
    pub(crate) unrouted: u64,
    /// Emitted by this process, and waiting for their due time in the store or on their way there.
    pub(crate) delayed: u64,
    pub(crate) unsaved: u64,
    pub(crate) duplicate: u64,
}

impl Tally {
    /// So many of those that are delayed are something else from now on. More than there are, some were never counted: they are
    /// emitted now.
    pub(crate) fn undelay(&mut self, count: u64) {
        let known = self.delayed.min(count);
        self.delayed -= known;
        self.emitted += count - known;
    }

    /// Counts events that were written, by whether anybody wants them.
    pub(super) fn route(&mut self, wanted: &[bool]) {
        let routed = wanted.iter().filter(|wanted| **wanted).count() as u64;
        self.routed += routed;
        self.unrouted += wanted.len() as u64 - routed;
    }
}

/// What the dispatcher counts, published when it next takes the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DispatchBook {
    pub(crate) routed: u64,
    pub(crate) unrouted: u64,
    pub(crate) cancelled: u64,
    pub(crate) parked: u64,
    pub(crate) deliveries: DeliveryBook,
}

impl DispatchBook {
    /// Of the events that were pulled, those in a column of their own.
    pub(crate) fn settled(&self) -> u64 {
        self.routed + self.unrouted + self.cancelled + self.parked
    }
}
