//! What is counted by subscription, and what is told to the `metrics` facade.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};
use serde::Serialize;

use crate::{event::Priority, intake::EventBook, queue::CLASSES};

/// The counters of one subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SubscriptionBook {
    /// Deliveries that were ever made to it.
    pub created: u64,
    /// Those that ended well.
    pub handled: u64,
    /// Those that ended in the dead letters.
    pub dead: u64,
    /// Retries begun.
    pub retried: u64,
    /// Being handled.
    pub in_flight: u64,
    /// Waiting for a retry, a key, a slot or a quota.
    pub waiting: u64,
    /// Places of the log that were trimmed before it had read them, as [`Limits::strict`](crate::Limits::strict) allows, or that a
    /// stream could not read because they are damaged: at most so many of its events are lost.
    pub trimmed: u64,
    /// Events that it returned, by name; names after the first 64 are counted as `*`.
    pub returned: BTreeMap<String, u64>,
}

/// Counters that the dispatcher alone writes and anybody reads.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(super) created: Count,
    pub(super) handled: Count,
    pub(super) dead: Count,
    pub(super) retried: Count,
    pub(super) in_flight: Count,
    pub(super) waiting: Count,
    pub(super) trimmed: Count,
    returned: Mutex<BTreeMap<String, u64>>,
}

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// One writer, so a load and a store are enough.
    pub(super) fn up(&self) {
        self.0.store(self.get() + 1, Ordering::Relaxed);
    }

    pub(super) fn add(&self, more: u64) {
        self.0.store(self.get() + more, Ordering::Relaxed);
    }

    pub(super) fn down(&self) {
        self.0.store(self.get().saturating_sub(1), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const MOST_NAMES: usize = 64;

impl Meter {
    pub(super) fn returned(&self, name: &str) {
        let mut names = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = names.contains_key(name);
        let name = if is_known || names.len() < MOST_NAMES { name } else { "*" };
        match names.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(names.insert(name.to_owned(), 1)),
        }
    }

    pub(crate) fn book(&self) -> SubscriptionBook {
        SubscriptionBook {
            created: self.created.get(),
            handled: self.handled.get(),
            dead: self.dead.get(),
            retried: self.retried.get(),
            in_flight: self.in_flight.get(),
            waiting: self.waiting.get(),
            trimmed: self.trimmed.get(),
            returned: self.returned.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// The runtime's metrics. Handles are taken when the runtime is built: install a recorder before.
#[derive(Debug)]
pub(super) struct Metrics {
    emitted: Counter,
    refused: Counter,
    unrouted: Counter,
    dropped: [Counter; 3],
    retries: Counter,
    dead: Counter,
    depth: [Gauge; CLASSES],
    pub(super) wait: Histogram,
    told: EventBook,
    told_retries: u64,
    told_dead: u64,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let dropped = |reason| counter!("millstream_dropped_total", "stage" => "queue", "reason" => reason);
        Self {
            emitted: counter!("millstream_events_emitted_total"),
            refused: counter!("millstream_events_refused_total"),
            unrouted: counter!("millstream_events_unrouted_total"),
            dropped: ["overflow", "cancelled", "loop"].map(dropped),
            retries: counter!("millstream_retries_total"),
            dead: counter!("millstream_dead_letters_total"),
            depth: Priority::ALL.map(|class| gauge!("millstream_queue_depth", "class" => class.as_str())),
            wait: histogram!("millstream_queue_wait_seconds"),
            told: EventBook::default(),
            told_retries: 0,
            told_dead: 0,
        }
    }

    /// Tells what has changed since the last time.
    pub(super) fn tell(&mut self, events: EventBook, retried: u64, dead: u64, depth: [usize; CLASSES]) {
        let told = std::mem::replace(&mut self.told, events);
        // What an attempt returned that begins again is taken off, and comes once more.
        self.told.emitted = events.emitted.max(told.emitted);
        self.emitted.increment(self.told.emitted - told.emitted);
        self.refused.increment(events.refused - told.refused);
        self.unrouted.increment(events.unrouted - told.unrouted);
        let reasons = [
            (events.dropped.overflow, told.dropped.overflow),
            (events.dropped.cancelled, told.dropped.cancelled),
            (events.dropped.loops, told.dropped.loops),
        ];
        for (counter, (now, before)) in self.dropped.iter().zip(reasons) {
            counter.increment(now - before);
        }
        self.retries.increment(retried - std::mem::replace(&mut self.told_retries, retried));
        self.dead.increment(dead - std::mem::replace(&mut self.told_dead, dead));
        for (gauge, depth) in self.depth.iter().zip(depth) {
            gauge.set(u32::try_from(depth).unwrap_or(u32::MAX));
        }
    }
}

/// How long a subscription's attempts take, by outcome.
#[derive(Debug)]
pub(super) struct Durations {
    handled: Histogram,
    failed: Histogram,
    until_next: u32,
}

/// Of the attempts that end without waiting one in so many is timed, for reading the clock would cost as much as the
/// rest of the dispatch; it is recorded as often as it stands for. Attempts that wait are all timed.
pub(super) const TIMED: u32 = 16;

impl Durations {
    pub(super) fn of(name: &str) -> Self {
        let histogram = |outcome: &'static str| {
            let labels = vec![Label::new("handler", name.to_owned()), Label::new("outcome", outcome)];
            histogram!("millstream_handler_duration_seconds", labels)
        };
        Self { handled: histogram("handled"), failed: histogram("failed"), until_next: 1 }
    }

    /// Whether the next attempt is one to time.
    pub(super) fn is_next(&mut self) -> bool {
        self.until_next -= 1;
        if self.until_next == 0 {
            self.until_next = TIMED;
        }
        self.until_next == TIMED
    }

    pub(super) fn record(&self, took: Duration, is_ok: bool, stands_for: u32) {
        let histogram = if is_ok { &self.handled } else { &self.failed };
        histogram.record_many(took, stands_for as usize);
    }
}
