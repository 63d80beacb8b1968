//! What happens in the workload: events, and the rows that handlers keep of them.

use std::time::Duration;

use millstream::{Event, Tenant};
use serde::{Deserialize, Serialize};

/// An order that was emitted. Its number is its place in the chronicle.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[event(name = "order.placed", key = "user")]
pub struct Order {
    /// Which.
    pub number: u64,
    /// Of which tenant.
    pub tenant: u8,
    /// Whose.
    pub user: u32,
    /// How much.
    pub cents: u64,
    /// How long it was delayed.
    pub delay_ms: u64,
    /// Fills the log.
    pub pad: String,
}

/// What comes of an order, once.
#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "order.billed", key = "order")]
pub struct Billed {
    /// The order.
    pub order: u64,
    /// How long it was delayed.
    pub delay_ms: u64,
}

/// What some orders append to their user's ledger, an aggregate.
#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "ledger.entry", key = "user")]
pub struct Entry {
    /// The order.
    pub order: u64,
    /// Whose ledger.
    pub user: u32,
}

/// What the stage `totals` says after each order.
#[derive(Event, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[event(name = "order.total", key = "user")]
pub struct Total {
    /// Of which tenant.
    pub tenant: u8,
    /// Whose.
    pub user: u32,
    /// How many orders.
    pub count: u64,
    /// What they cost.
    pub cents: u64,
}

/// What the stage `calm` says once a user has not ordered for a while: the last order.
#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "order.calm", key = "user")]
pub struct Calm {
    /// Whose.
    pub user: u32,
    /// The order.
    pub order: u64,
}

/// What is appended to a cart, an aggregate. Its number is its place in the chronicle.
#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "cart.changed", key = "cart")]
pub struct Change {
    /// Which.
    pub number: u64,
    /// Of which tenant.
    pub tenant: u8,
    /// The cart.
    pub cart: u32,
}

/// What a meter showed at a time of its own. Its number is its place in the chronicle.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[event(name = "meter.read", key = "meter")]
pub struct Reading {
    /// Which.
    pub number: u64,
    /// Of which tenant.
    pub tenant: u8,
    /// The meter.
    pub meter: u32,
    /// When it was read.
    pub at_ms: u64,
}

/// What the stage `windows` says of a window that has closed.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[event(name = "meter.window", key = "meter")]
pub struct Window {
    /// Of which tenant.
    pub tenant: u8,
    /// The meter.
    pub meter: u32,
    /// When the window began.
    pub start_ms: u64,
    /// Its readings, in the order of their times.
    pub readings: Vec<u64>,
}

/// How long a window is.
pub const WIDTH: Duration = Duration::from_secs(10);
/// How far behind the newest reading the watermark is.
pub const LATENESS: Duration = Duration::from_secs(4);

/// What is known of an order that was billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// How often.
    pub times: u64,
    /// As which of its user's.
    pub nth: u64,
}

/// The names of tenants, by number; the first is that of nobody.
const TENANTS: [&str; 3] = ["", "north", "south"];

/// A tenant by its number; 0 is nobody.
pub fn tenant(number: u8) -> Option<Tenant> {
    let name = TENANTS.get(usize::from(number)).filter(|name| !name.is_empty())?;
    Some(Tenant::from(*name))
}

impl Order {
    /// Whether it cannot be billed as long as the bank is closed for good.
    pub fn is_doomed(&self) -> bool {
        is_doomed(self.number)
    }
}

/// Whether an order cannot be billed as long as the bank is closed for good.
pub fn is_doomed(order: u64) -> bool {
    order % 11 == 5
}

/// Whether an order cannot be settled as long as the bank is closed for good.
pub fn is_unsettled(order: u64) -> bool {
    order % 13 == 4
}

/// Whether an order has an entry in its user's ledger.
pub fn has_entry(order: u64) -> bool {
    order % 4 == 2
}

/// Where handlers keep what.
pub mod rooms {
    /// Bills by order.
    pub const BILLS: &str = "bills";
    /// How many orders of each user were billed.
    pub const USERS: &str = "users";
    /// How many entries each ledger has.
    pub const LEDGERS: &str = "ledgers";
    /// How often each billed event was handled, by order.
    pub const BILLED: &str = "billed";
    /// How often each entry of a ledger was handled, by order.
    pub const ENTRIES: &str = "entries";
    /// The last total of each user.
    pub const TOTALS: &str = "totals";
    /// The last calm order of each user.
    pub const CALM: &str = "calm";
    /// How often each change of a cart was handled, by its number.
    pub const CARTS: &str = "carts";
    /// How often each reading was handled in a window, by its number.
    pub const READ: &str = "read";
    /// When the last window of each meter began.
    pub const WINDOWS: &str = "windows";
    /// Settlements by order.
    pub const SETTLED: &str = "settled";
    /// How many orders of each user were settled.
    pub const SETTLERS: &str = "settlers";
    /// The last version of each cart that was handled in its order.
    pub const JOURNAL: &str = "journal";
    /// How often each order was handled by one who is slow.
    pub const SLOW: &str = "slow";
    /// What is written from outside.
    pub const NOTES: &str = "notes";
    /// All of them.
    pub const ALL: [&str; 15] = [
        BILLS, USERS, LEDGERS, BILLED, ENTRIES, TOTALS, CALM, CARTS, READ, WINDOWS, SETTLED, SETTLERS, JOURNAL, SLOW,
        NOTES,
    ];
}
