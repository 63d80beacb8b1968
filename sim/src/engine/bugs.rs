//! Bugs that are planted between the engine and its store, where they do what the same bugs in the engine would do.

use std::mem;

use bytes::Bytes;
use millstream::store::{Op, Seq, Table, tables};
use serde_json::Value;

use super::plan::{Keeps, Part};

/// What is wrong with an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineBug {
    /// What is written is acknowledged before it is safe.
    AckBeforeCommit,
    /// Cursors of subscriptions are written by a transaction of their own, after the rest.
    CursorApart,
    /// Timers of stages are in memory alone.
    TimerForgotten,
    /// Delayed events are in memory alone.
    DelayForgotten,
    /// Outputs are in the log before the rest of their commit.
    OutputFirst,
    /// A dead letter's row goes before its replay is written.
    LetterGoneFirst,
    /// States of stages are written before the header with the cursor.
    StateWithoutCursor,
    /// What a handler writes to its storage is written before the rest of its outcome.
    StorageFirst,
    /// States of a stage are kept by key alone.
    TenantForgotten,
    /// The watermarks of stages are in memory alone.
    WatermarkForgotten,
    /// What somebody has not handled goes with what all have.
    TrimTooFar,
}

/// How a batch is committed.
#[derive(Debug)]
pub enum Split {
    /// As it is.
    Whole(Vec<Op>),
    /// By two transactions.
    Two(Vec<Op>, Vec<Op>),
}

/// How many places are trimmed that are not handled.
const FAR: u64 = 1_000;

/// The tables of stages that bugs are about.
const STAGE: Table = Table("stage");
const STAGE_TURN: Table = Table("stage_turn");
/// What the rows of the stage `totals` begin with.
const TOTALS: &[u8] = b"totals\0";
const STAGE_STATE: Table = Table("stage_state");
const STAGE_TIMER: Table = Table("stage_timer");

impl EngineBug {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::AckBeforeCommit,
        Self::CursorApart,
        Self::TimerForgotten,
        Self::DelayForgotten,
        Self::OutputFirst,
        Self::LetterGoneFirst,
        Self::StateWithoutCursor,
        Self::StorageFirst,
        Self::TenantForgotten,
        Self::WatermarkForgotten,
        Self::TrimTooFar,
    ];

    /// What one says of an engine who has seen through it: any of these.
    pub fn signs(self) -> &'static [&'static str] {
        match self {
            Self::AckBeforeCommit => &["was acknowledged and is lost"],
            Self::CursorApart => &["is billed 2 times", "is there twice", "was handled 2 times"],
            Self::TimerForgotten => &["was never calm"],
            Self::DelayForgotten | Self::TrimTooFar => &["is lost"],
            Self::OutputFirst => &["is there twice", "not what came in"],
            Self::LetterGoneFirst => &["neither billed nor a dead letter"],
            Self::StateWithoutCursor | Self::TenantForgotten | Self::WatermarkForgotten => &["not what came in"],
            Self::StorageFirst => &["is billed 2 times", "was handled 2 times"],
        }
    }

    /// The parts of the workload without which it cannot be seen.
    pub fn needs(self) -> &'static [Part] {
        match self {
            Self::TimerForgotten => &[Part::Calm],
            Self::OutputFirst | Self::StateWithoutCursor => &[Part::Totals],
            Self::WatermarkForgotten => &[Part::Windows],
            Self::TenantForgotten => &[Part::Totals, Part::Tenants],
            _ => &[],
        }
    }

    /// What the log must keep, or it cannot be seen.
    pub fn keeps(self) -> Option<Keeps> {
        (self == Self::TrimTooFar).then_some(Keeps::Bytes(4_000))
    }

    /// The key of a row, as the bug has it.
    pub fn key(self, table: Table, key: &Bytes) -> Bytes {
        let is_total = table == STAGE_STATE && key.starts_with(TOTALS);
        if self == Self::TenantForgotten && is_total { without_tenant(key) } else { key.clone() }
    }

    fn mistake(self, op: &mut Op) {
        if let Op::Put { table, key, .. } | Op::PutNew { table, key, .. } | Op::Delete { table, key } = op {
            *key = self.key(*table, key);
        }
        if let Op::Trim { below, .. } = op
            && self == Self::TrimTooFar
        {
            *below = Seq(below.0 + FAR);
        }
        if let Op::Put { table: STAGE, value, .. } = op
            && self == Self::WatermarkForgotten
        {
            *value = without_watermark(value);
        }
    }

    /// Commits a batch as the bug does.
    pub fn split(self, mut batch: Vec<Op>) -> Split {
        let later = match self {
            Self::AckBeforeCommit => return Split::Whole(batch),
            Self::TenantForgotten | Self::WatermarkForgotten | Self::TrimTooFar => {
                for op in &mut batch {
                    self.mistake(op);
                }
                return Split::Whole(batch);
            }
            Self::TimerForgotten | Self::DelayForgotten => {
                let of = if self == Self::TimerForgotten { STAGE_TIMER } else { tables::DELAYED };
                batch.retain(|op| !is_row(op, of) || matches!(op, Op::Delete { .. }));
                return Split::Whole(batch);
            }
            Self::CursorApart => take(&mut batch, |op| is_row(op, tables::CURSOR)),
            Self::OutputFirst => take(&mut batch, |op| !matches!(op, Op::Append { .. })),
            Self::LetterGoneFirst => take(&mut batch, |op| is_row(op, tables::FAILED)),
            Self::StateWithoutCursor => take(&mut batch, |op| is_row(op, STAGE) || is_row(op, STAGE_TURN)),
            Self::StorageFirst => take(&mut batch, |op| !is_row(op, tables::STORAGE)),
        };
        if batch.is_empty() || later.is_empty() {
            Split::Whole(batch.into_iter().chain(later).collect())
        } else {
            Split::Two(batch, later)
        }
    }
}

/// The key of a state is the stage's name, a zero, and then `6:tenantkey` or `:key`.
fn without_tenant(row: &Bytes) -> Bytes {
    let parted = || {
        let begin = row.iter().position(|byte| *byte == 0)? + 1;
        let colon = begin + row[begin..].iter().position(|byte| *byte == b':')?;
        let length: usize = std::str::from_utf8(&row[begin..colon]).ok()?.parse().ok()?;
        Some([&row[..begin], b":", row.get(colon + 1 + length..)?].concat().into())
    };
    parted().unwrap_or_else(|| row.clone())
}

/// The row of a stage is `MessagePack` with names.
fn without_watermark(row: &Bytes) -> Bytes {
    let forgotten = || {
        let mut row: Value = rmp_serde::from_slice(row).ok()?;
        *row.get_mut("reached")?.get_mut("watermark")? = 0.into();
        rmp_serde::to_vec_named(&row).ok()
    };
    forgotten().map_or_else(|| row.clone(), Bytes::from)
}

/// Takes out what is written later.
fn take(batch: &mut Vec<Op>, is_later: impl Fn(&Op) -> bool) -> Vec<Op> {
    let (later, first) = mem::take(batch).into_iter().partition(is_later);
    *batch = first;
    later
}

fn is_row(op: &Op, of: Table) -> bool {
    matches!(op, Op::Put { table, .. } | Op::PutNew { table, .. } | Op::Delete { table, .. } if *table == of)
}
