//! The tables that the engine keeps in a store, for those who look at one from outside.

use super::Table;

/// The engine's own settings: its clock's last reading, and the last claim that was given back.
pub const ENGINE: Table = Table("engine");
/// Durable subscriptions by name.
pub const SUBSCRIPTION: Table = Table("subscription");
/// Where each subscription begins that has not been opened yet.
pub const START: Table = Table("start");
/// How far each subscription has read each class.
pub const CURSOR: Table = Table("cursor");
/// Deliveries that have left the log: those that wait for another attempt, and those behind their key.
pub const FAILED: Table = Table("failed");
/// Attempts that were begun with care and have not ended, for a process that comes after one that ended with them.
pub const ATTEMPT: Table = Table("attempt");
/// Dead letters by number.
pub const DEAD: Table = Table("dead");
/// Events that wait for their due time, by it.
pub const DELAYED: Table = Table("delayed");
/// Idempotency keys, with the id of the event that has each.
pub const ONCE: Table = Table("once");
/// Events of aggregates, by tenant, kind, id and version.
pub const AGGREGATE: Table = Table("aggregate");
/// What handlers and plugins keep, by tenant, namespace and key.
pub const STORAGE: Table = Table("storage");
/// All of these. A stage has tables of its own, whose names begin with `stage`.
pub const ALL: [Table; 11] =
    [ENGINE, SUBSCRIPTION, START, CURSOR, FAILED, ATTEMPT, DEAD, DELAYED, ONCE, AGGREGATE, STORAGE];
