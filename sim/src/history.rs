//! What was asked of a store and what it said: the model that each image is held to.

use bytes::Bytes;
use millstream::store::{CommitError, Op, PartitionId, Record, Seq, Table};

/// Rows that the holder of the partition writes and deletes as it likes.
pub const STATE: Table = Table("state");
/// How far the holder has come; each of its batches writes it.
pub const CURSOR: Table = Table("cursor");
/// What the holder means to do later.
pub const TIMER: Table = Table("timer");
/// One row for each batch, by which one sees that it is there.
pub const SEEN: Table = Table("seen");
/// Keys that keep others out for a while, each caller's own.
pub const ONCE: Table = Table("once");
/// Keys that keep others out for ever, and that all callers want.
pub const RACE: Table = Table("race");
/// Where records are, by a key of theirs.
pub const PLACE: Table = Table("place");

/// The partition that is written to.
pub const HERE: PartitionId = PartitionId(0);
/// Another, to which it sends.
pub const ELSEWHERE: PartitionId = PartitionId(1);

/// All tables of the workload.
pub const TABLES: [Table; 7] = [STATE, CURSOR, TIMER, SEEN, ONCE, RACE, PLACE];

/// What is written after a crash, to see that work goes on: the key of a row in [`CURSOR`], its value, and records.
pub const AFTER: &[u8] = b"after the crash";

/// Who hands a batch over. What one hands over is applied in that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// Who holds the partition, by the number of the claim within the history.
    Holder(usize),
    /// Someone who only appends.
    Stranger(u8),
}

/// What a store that nothing happens to has to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Commit it.
    Commit,
    /// Commit it, or refuse it because a key is there already.
    MayConflict,
    /// Refuse it: it asks for what is not allowed.
    Refuse,
    /// Refuse it: another has claimed the partition.
    Fence,
    /// Commit it, or refuse it because another claims the partition meanwhile.
    MayFence,
}

/// What became of a batch. `at` is how many steps the disk had recorded when the caller was told.
#[derive(Clone, Debug)]
pub enum Fate {
    /// The caller was not told.
    Open,
    /// It is safe.
    Acked {
        /// When that was said.
        at: usize,
        /// Where its records are.
        appended: Vec<Seq>,
        /// After the last record.
        end: Seq,
    },
    /// Nothing of it may be seen from then on; and before then neither, if it was refused for what it asks for.
    Refused {
        /// When that was said.
        at: usize,
        /// Why.
        error: CommitError,
    },
    /// It may be there or not.
    Unknown,
}

/// A batch and what became of it. Its number is its place in the history.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who handed it over.
    pub caller: Caller,
    /// What is in it.
    pub ops: Vec<Op>,
    /// What is to become of it.
    pub duty: Duty,
    /// How many steps the disk had recorded when it was handed over.
    pub handed: usize,
    /// What became of it.
    pub fate: Fate,
}

/// A claim that was granted.
#[derive(Clone, Copy, Debug)]
pub struct Claimed {
    /// How many steps the disk had recorded then.
    pub at: usize,
    /// Its number.
    pub fence: u64,
    /// Where it says that the next record goes at the earliest.
    pub end: Seq,
}

/// All that happened to a partition.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Batches, in the order in which they were handed over.
    pub entries: Vec<Entry>,
    /// Claims, in their order.
    pub claims: Vec<Claimed>,
}

/// A record that a batch appends or sends.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// The partition.
    pub to: PartitionId,
    /// The class.
    pub class: u8,
    /// The record.
    pub record: &'a Record,
}

impl Entry {
    /// The records that it appends and sends, in their order.
    pub fn records(&self) -> impl Iterator<Item = Written<'_>> {
        let logs = self.ops.iter().filter_map(|op| match op {
            Op::Append { class, records } => Some((HERE, class.0, records)),
            Op::Send { to, class, records } => Some((*to, class.0, records)),
            _ => None,
        });
        logs.flat_map(|(to, class, records)| records.iter().map(move |record| Written { to, class, record }))
    }

    /// Where its records went, as far as the caller was told.
    pub fn appended(&self) -> &[Seq] {
        if let Fate::Acked { appended, .. } = &self.fate { appended } else { &[] }
    }

    /// After the last record when it was committed, as far as the caller was told.
    pub fn end(&self) -> Option<Seq> {
        if let Fate::Acked { end, .. } = self.fate { Some(end) } else { None }
    }

    /// Whether nothing of it may be there when the disk had recorded so many steps. What the disk had no room for may have
    /// been on its way until the caller was told.
    pub fn is_refused_by(&self, position: usize) -> bool {
        match &self.fate {
            Fate::Refused { at, error: CommitError::Full } => *at <= position,
            Fate::Refused { .. } => true,
            _ => false,
        }
    }

    /// Whether the caller had been told that it is safe when the disk had recorded so many steps.
    pub fn is_acked_by(&self, position: usize) -> bool {
        matches!(self.fate, Fate::Acked { at, .. } if at <= position)
    }
}

/// The key of the row in [`SEEN`] of a batch.
pub fn number_key(number: usize) -> Bytes {
    Bytes::copy_from_slice(&(number as u64).to_be_bytes())
}

/// The batch whose row in [`SEEN`] this is.
pub fn number_of(key: &[u8]) -> Option<usize> {
    usize::try_from(u64::from_be_bytes(key.try_into().ok()?)).ok()
}
