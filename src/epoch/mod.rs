//! Durable operator stages: a chain whose state, timers and outputs are committed in epochs.
//!
//! An epoch is one batch: how far the log was taken, every state that changed, the timers, and what came out. It lands whole or
//! not at all, so what is on disk is always a state that the stage had between two events. Promises: after any crash the
//! stage goes on as if the last epoch had just been cut; what comes out is ordered by the event that led to it, then by
//! (deadline, key), whatever the epochs and lanes; a state that does not fit is never guessed at.
//!
//! Knows the store, events and the operators: no queue, no task, no clock. Whoever runs a stage gives it a claim of the
//! partition and a [`Border`], and steps it.
//!
//! The way through the files: [`settings`] describes a stage, [`driven`] steps it, [`input`] reads the log, [`run`] steps the
//! chain, [`states`] finds its states ([`lane`], [`entry`]), [`cut`] writes an epoch ([`delta`], [`value`], [`rows`]) and
//! [`restore`] reads it again.

mod border;
mod contained;
mod cut;
mod delta;
#[cfg(feature = "testing")]
mod drill;
mod driven;
mod entry;
mod error;
mod header;
mod input;
mod item;
mod key;
mod lane;
mod moment;
mod parts;
mod restore;
mod rows;
mod run;
mod settings;
#[cfg(feature = "archive")]
pub(crate) mod show;
mod states;
mod status;
#[cfg(test)]
mod tests;
mod time;
mod value;

#[cfg(test)]
pub(crate) use self::border::Origin;
#[cfg(feature = "testing")]
pub use self::drill::Drill;
pub(crate) use self::{
    border::{Border, Cause, Death, Done, Sink},
    driven::{DurableStage, Replayed, Step},
    error::StageError,
    key::StateKey,
    restore::{Remaining, cursors, rows_to_forget},
    status::StageStatus,
};
pub use self::{
    header::StageCounts,
    item::StageItem,
    parts::{MigrateError, SavedParts},
    settings::{Late, Stage},
};
