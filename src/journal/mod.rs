//! What a durable runtime keeps beside its log: how far each subscription is, what has left the log for another attempt,
//! what is delayed, and what is dead.
//!
//! Promises: each thing here is plain data that is written in the commit that makes it true, and read back as it was.
//! Knows events, dead letters and the store; it decides nothing and drives nothing.

mod cursor;
mod horizon;
mod mark;
mod names;
mod restore;
mod row;
mod tail;

#[cfg(feature = "archive")]
pub(crate) use self::restore::pass_on;
pub(crate) use self::{
    cursor::{Cursor, cursor_key},
    horizon::{DueKey, Horizon, parse_key, row_key},
    mark::{Endings, Mark, given_back_op, mark_op, unmark_op},
    names::{Harmed, HarmedStage, Known, Names},
    restore::{
        Dead, HarmedRow, NOW, NextDue, Opened, Restored, Unclaimed, last_now, letter_number, next_due, open, restore,
        rows_of,
    },
    row::{FailedKey, Stand, Standing, Subscribed, dead_op, dead_row, failed_op, parse_failed},
    tail::{Step, Tail},
};
