//! Dispatch: pull a batch, match, keep order and limits, poll handlers, settle outcomes, emit what they returned.
//!
//! Promises: one slow handler delays nobody else; one panic fails one delivery; each delivery ends in exactly one
//! column of the book. Everything here belongs to whoever drives the runtime, so nothing is locked, and a driver that
//! is dropped between two polls loses nothing: the next one goes on. Knows events, the queue, the intake, stages,
//! dead letters, and in a durable runtime the journal and the store.

mod attempt;
mod beat;
mod commands;
mod dispatcher;
mod distribute;
mod durable;
mod finish;
mod gates;
mod job;
mod members;
mod meters;
mod oldest;
mod registry;
mod route;
mod running;
mod subscriber;
mod timers;

pub(crate) use self::{
    beat::SlowPolls,
    commands::{Command, Replay, Write},
    dispatcher::{Dispatcher, Parts, Progress},
    durable::{Home, NewStage, StageBorder, Statuses, start_key},
    meters::Meter,
    registry::{AddError, Entry, Registry},
};
pub use self::{
    distribute::UnroutedPolicy,
    durable::{Limits, Retention},
    meters::SubscriptionBook,
};
