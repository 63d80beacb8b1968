//! What was asked of a runtime and what it said: the model that each image of the whole engine is held to.

use std::{collections::BTreeMap, ops::Range};

use millstream::{EventId, Timestamp};

use super::{
    events::{Order, Reading},
    plan::Plan,
    world::Effects,
};

/// What became of something. Times are how many steps the disk had recorded when the caller was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// The caller was not told, or that it is not known.
    #[default]
    Open,
    /// It is safe.
    Acked(usize),
    /// Nothing of it may be seen from then on.
    Refused(usize),
}

/// Something that was asked for, from when on, and what became of it.
#[derive(Clone, Debug)]
pub struct Asked<T> {
    /// What.
    pub what: T,
    /// How many steps the disk had recorded when it was asked first.
    pub handed: usize,
    /// What became of it.
    pub fate: Fate,
}

/// An order that was emitted, once or again and again with one idempotency key.
#[derive(Clone, Debug)]
pub struct Emitted {
    /// The order.
    pub order: Order,
    /// Whether it has an idempotency key.
    pub is_once: bool,
    /// The id that was acknowledged.
    pub id: Option<EventId>,
}

/// Changes that were appended to a cart.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Of which tenant.
    pub tenant: u8,
    /// The cart.
    pub cart: u32,
    /// The numbers of the changes.
    pub numbers: Range<u64>,
    /// The version of the last, as it was acknowledged.
    pub version: u64,
}

/// A row that was written from outside.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    /// Of which tenant.
    pub tenant: u8,
    /// Its key.
    pub key: u8,
    /// Its value, which rises.
    pub value: u64,
}

/// How many events subscriptions were told that they may have lost, by name.
pub type Lost = BTreeMap<String, u64>;

/// All that happened in a run.
#[derive(Debug)]
pub struct Chronicle {
    /// What was to happen.
    pub plan: Plan,
    /// Orders, by number.
    pub orders: Vec<Asked<Emitted>>,
    /// Appends, in their order.
    pub appends: Vec<Asked<Appended>>,
    /// Readings of meters, by number.
    pub readings: Vec<Asked<Reading>>,
    /// Rows from outside, in their order.
    pub notes: Vec<Asked<Noted>>,
    /// How much each subscription had been told that it has lost when the disk had recorded so many steps.
    pub lost: Vec<(usize, Lost)>,
    /// Which time it was when the disk had recorded so many steps.
    pub moments: Vec<(usize, Timestamp)>,
    /// The keys of all effects.
    pub effects: Effects,
    /// What was wrong already while it ran.
    pub wrong: Vec<String>,
    /// How often the runtime said that something failed.
    pub reported: u64,
}

/// When time begins in each run: 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp::from_secs(1_767_225_600);

impl<T> Asked<T> {
    /// Asked for when the disk had recorded so many steps.
    pub fn at(what: T, handed: usize) -> Self {
        Self { what, handed, fate: Fate::Open }
    }

    /// Whether the caller had been told that it is safe when the disk had recorded so many steps.
    pub fn is_acked_by(&self, position: usize) -> bool {
        matches!(self.fate, Fate::Acked(at) if at <= position)
    }

    /// Whether it may be there when the disk had recorded so many steps.
    pub fn may_be_there(&self, position: usize) -> bool {
        self.handed <= position && !matches!(self.fate, Fate::Refused(at) if at <= position)
    }
}

impl Chronicle {
    /// Nothing has happened yet.
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            orders: Vec::new(),
            appends: Vec::new(),
            readings: Vec::new(),
            notes: Vec::new(),
            lost: Vec::new(),
            moments: Vec::new(),
            effects: BTreeMap::new(),
            wrong: Vec::new(),
            reported: 0,
        }
    }

    /// Which time it was when the disk recorded the last of so many steps.
    pub fn moment(&self, position: usize) -> Timestamp {
        let at = self.moments.partition_point(|(at, _)| *at < position);
        self.moments.get(at).or(self.moments.last()).map_or(START, |(_, moment)| *moment)
    }

    /// How much a subscription had been told that it has lost when the disk had recorded so many steps.
    pub fn lost_by(&self, position: usize, subscription: &str) -> u64 {
        let at = self.lost.partition_point(|(at, _)| *at < position);
        let lost = self.lost.get(at).or(self.lost.last());
        lost.and_then(|(_, lost)| lost.get(subscription)).copied().unwrap_or_default()
    }

    /// After how many steps of the disk somebody was told that what he asked for is safe.
    pub fn told(&self) -> Vec<usize> {
        let fates = self.orders.iter().map(|asked| asked.fate);
        let fates =
            fates.chain(self.appends.iter().map(|asked| asked.fate)).chain(self.notes.iter().map(|asked| asked.fate));
        let fates = fates.chain(self.readings.iter().map(|asked| asked.fate));
        fates.filter_map(|fate| if let Fate::Acked(at) = fate { Some(at) } else { None }).collect()
    }

    /// Of which tenant a change of a cart is, by its number.
    pub fn tenant_of_change(&self, number: u64) -> Option<u8> {
        self.appends.iter().find(|asked| asked.what.numbers.contains(&number)).map(|asked| asked.what.tenant)
    }

    /// How many changes were appended or are to be.
    pub fn changes(&self) -> u64 {
        self.appends.last().map_or(0, |append| append.what.numbers.end)
    }
}
