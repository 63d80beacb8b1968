//! One subscription as the dispatcher has it: its handler, and who waits for what.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use super::{
    durable::Reader,
    job::{Job, OrderKey},
    meters::Durations,
    registry::Entry,
};
use crate::{
    event::Tenant,
    queue::{CLASSES, Lanes},
    stage::{Call, Order, Site},
};

pub(super) struct Subscriber {
    pub(super) entry: Arc<Entry>,
    /// Lent to the current delivery and given back, so that no count of references changes.
    pub(super) site: Option<Arc<Site>>,
    pub(super) call: Box<dyn Call>,
    pub(super) durations: Durations,
    /// Attempts in flight.
    pub(super) in_flight: usize,
    in_flight_of: [usize; CLASSES],
    /// Slots that classes reserve, in all.
    reserved: usize,
    /// Those that have their key and wait for a slot.
    pub(super) for_slot: Lanes<Tenant, Job>,
    /// The keys that are busy, and who waits for each.
    pub(super) keys: HashMap<OrderKey, KeyLine, foldhash::fast::RandomState>,
    /// Those of a strict order that wait for events emitted before them.
    pub(super) early: BTreeMap<u64, Job>,
    /// Events that it keeps from ending, by class.
    pub(super) pinned: [usize; CLASSES],
    /// Those beyond its share, which hold no room.
    pub(super) excess: [usize; CLASSES],
    /// The classes of which it holds its whole share.
    pub(super) saturated: [bool; CLASSES],
    /// Deliveries that have not ended.
    pub(super) open: usize,
    /// Still in the registry.
    pub(super) is_subscribed: bool,
    /// How far it is in the log, in a durable runtime.
    pub(super) reader: Option<Reader>,
    /// Its rows are being read.
    pub(super) is_opening: bool,
    /// It has met damage, and reads no more.
    pub(super) is_broken: bool,
}

/// Who waits for a key. The one that has it is not here.
#[derive(Debug, Default)]
pub(super) struct KeyLine {
    pub(super) waiting: VecDeque<Job>,
    /// Its head died, and the rest waits until that is mended.
    pub(super) is_halted: bool,
    /// Its head waits for another attempt, which may take long.
    pub(super) head_waits: bool,
}

impl Subscriber {
    pub(super) fn new(entry: Arc<Entry>, call: Box<dyn Call>) -> Self {
        Self {
            durations: Durations::of(entry.name()),
            reserved: entry.options.reserved.iter().sum(),
            site: Some(Arc::clone(&entry.site)),
            entry,
            call,
            in_flight: 0,
            in_flight_of: [0; CLASSES],
            for_slot: Lanes::default(),
            keys: HashMap::default(),
            early: BTreeMap::new(),
            pinned: [0; CLASSES],
            excess: [0; CLASSES],
            saturated: [false; CLASSES],
            open: 0,
            is_subscribed: true,
            reader: None,
            is_opening: false,
            is_broken: false,
        }
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.entry.options.order != Order::None
    }

    /// Whether a slot is free for this class: its own reserve first, then what nobody reserved.
    pub(super) fn has_slot(&self, class: usize) -> bool {
        let options = &self.entry.options;
        if self.in_flight >= options.concurrency {
            return false;
        }
        let reserved = self.reserved;
        if reserved == 0 || self.in_flight_of[class] < options.reserved[class] {
            return true;
        }
        let pairs = self.in_flight_of.iter().zip(options.reserved);
        let shared: usize = pairs.map(|(used, reserve)| used.saturating_sub(reserve)).sum();
        shared < options.concurrency - reserved
    }

    /// Whether an attempt of this class may start at once: nothing to wait for but a slot, and one is free.
    pub(super) fn is_free(&self, class: usize) -> bool {
        let options = &self.entry.options;
        options.order == Order::None && !self.saturated[class] && self.has_slot(class)
    }

    pub(super) fn take_slot(&mut self, class: usize) {
        self.in_flight += 1;
        self.in_flight_of[class] += 1;
        self.entry.meter.in_flight.up();
    }

    pub(super) fn free_slot(&mut self, class: usize) {
        self.in_flight -= 1;
        self.in_flight_of[class] -= 1;
        self.entry.meter.in_flight.down();
    }

    /// The next one that a free slot is for.
    pub(super) fn next_for_slot(&mut self) -> Option<Job> {
        if self.for_slot.is_empty() {
            return None;
        }
        let free: [bool; CLASSES] = std::array::from_fn(|class| self.has_slot(class));
        self.for_slot.pop_where(|class| free[class]).map(|(.., job)| job)
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("name", self.entry.name())
            .field("in_flight", &self.in_flight)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}
