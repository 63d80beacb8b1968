//! What is written at once.

use std::sync::Arc;

use bytes::Bytes;
use millstream_operators::Timestamp;

use super::{Class, PartitionId, Seq, Table};

/// One step of a batch. The steps of a batch are applied in their order, and each sees what those before it did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Appends records to a class's log.
    Append {
        /// The log.
        class: Class,
        /// The records, in their order.
        records: Vec<Record>,
    },
    /// Appends records to another partition, later and exactly once.
    Send {
        /// Where to.
        to: PartitionId,
        /// The log there.
        class: Class,
        /// The records, in their order. They carry no [`keys`](Record::keys): nobody could be told of a conflict.
        records: Vec<Record>,
    },
    /// Writes a row, whether there is one of that key or not.
    Put {
        /// The table.
        table: Table,
        /// The row's key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// Removes a row, if there is one.
    Delete {
        /// The table.
        table: Table,
        /// The row's key.
        key: Bytes,
    },
    /// Writes a row that must not be there yet, or must have expired; else the batch is a
    /// [`Conflict`](super::CommitError::Conflict).
    PutNew {
        /// The table. Its rows are all written by this step, for they carry their expiry.
        table: Table,
        /// The row's key.
        key: Bytes,
        /// Its value.
        value: Bytes,
        /// The time of writing, and until when the row keeps others out; none for ever. A row that has expired is still
        /// read until another takes its place or a later step of this kind sweeps it away.
        life: Option<(Timestamp, Timestamp)>,
    },
    /// Removes whole chunks of a class's log that lie below `below`. Some records below it may stay.
    Trim {
        /// The log.
        class: Class,
        /// The first record to keep.
        below: Seq,
    },
}

/// One record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is called, so that readers can skip what they do not want.
    pub name: Arc<str>,
    /// When it came to be, likewise.
    pub time: Timestamp,
    /// The record.
    pub bytes: Bytes,
    /// Rows that are written with it and hold its [`Seq`] as eight bytes, big-endian. None of them may be there yet; else
    /// the batch is a [`Conflict`](super::CommitError::Conflict).
    pub keys: Vec<RowKey>,
}

/// Names a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowKey {
    /// The table.
    pub table: Table,
    /// The row's key.
    pub key: Bytes,
}
