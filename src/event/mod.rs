//! What travels: an event's data, its envelope, its name, and the patterns that select it.
//!
//! Promises: typed data is never serialised on its way to a typed handler; a name, once accepted, is a valid subject;
//! a draft that was refused can be handed back whole. Knows no queue, no handler and no runtime.

mod clock;
mod data;
mod draft;
mod envelope;
mod id;
mod key;
mod name;
mod pattern;
mod payload;
mod priority;
mod record;
mod traits;

#[cfg(feature = "archive")]
pub(crate) use self::key::unscoped;
pub use self::{
    clock::Clock,
    data::{Data, DecodeError},
    draft::{Draft, IntoDraft, ParseError},
    envelope::{Aggregate, Envelope, Headers},
    id::{EventId, IdError},
    key::{Key, Tenant},
    name::{EventName, NameError},
    pattern::{Pattern, PatternError},
    priority::Priority,
    record::RecordError,
    traits::{Event, UpgradeError},
};
pub(crate) use self::{
    data::JsonSize,
    draft::More,
    envelope::{Lineage, Way, aggregate_key},
    id::IdSource,
    key::scoped,
    payload::{add_dropped_badly, dropped_badly},
};
