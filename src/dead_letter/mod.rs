//! Dead letters: deliveries and events that were given up, with all that is known about why.
//!
//! Promises: each has its event, its reason and its errors; the store is bounded, and what it drops it counts. Knows
//! events and the errors of stages.

mod filter;
mod letter;
mod replay;
mod store;

pub(crate) use self::store::DeadLetters;
pub use self::{
    filter::DeadLetterFilter,
    letter::{DeadLetter, Death, Failure},
    replay::{Replay, ReplayReport},
};
