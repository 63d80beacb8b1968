//! A bounded queue of four classes, as plain data: no lock, no clock, no task. Knows nothing of events.
//!
//! Promises: first in, first out inside a (class, fair key); deficit round-robin between classes; turns between fair
//! keys inside a class; what has no room is handed back; room is held until it is released, not until an item leaves
//! the queue. All operations take constant time, but for [`Bounded::sweep`], [`Bounded::oldest`] and what drops the
//! oldest.

mod bounded;
mod lanes;
mod room;

pub use self::bounded::Overflow;
pub(crate) use self::{
    bounded::{Bounded, Offer},
    lanes::Lanes,
    room::Room,
};

/// How many classes there are. Class 0 is the most urgent.
pub(crate) const CLASSES: usize = 4;

/// The classes' shares of the consumer: with items of every class waiting, 85 pops take so many of each.
pub(crate) const SHARES: [u32; CLASSES] = [64, 16, 4, 1];
