//! Where events, cursors and state survive the process: logs and tables of bytes, and one atomic batch a partition.
//!
//! Promises: a batch is written whole or not at all, is on disk before its commit says so, and is written by the one
//! who holds the partition. Knows nothing of events: to it a record is a name, a time and bytes. Retries, epochs and dead
//! letters live above it.
//!
//! A store is divided into *partitions*. A partition has a *log* for each *class* of urgency, all of which draw from one
//! rising sequence, and *tables* of rows ordered by key.

mod batch;
mod check;
mod error;
mod extent;
mod memory;
mod occupy;
mod page;
mod plan;
#[cfg(feature = "redb")]
mod redb;
pub mod tables;
mod tenure;
#[cfg(any(feature = "redb", feature = "testing"))]
mod ticket;
mod wake;
mod watch;

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;

#[cfg(feature = "redb")]
pub use self::redb::{
    Compaction, Inspector, LogStats, PartitionStats, Progress, Redb, RedbBuilder, StoreStats, TableRow, TableStats,
    Verification,
};
#[cfg(feature = "testing")]
pub use self::ticket::{ClockHold, hold_clock};
pub use self::{
    batch::{Op, Record, RowKey},
    error::{CommitError, StoreError},
    extent::{Extent, LogExtent},
    memory::Memory,
    occupy::{Occupancy, Occupants},
    page::{Page, PageRecord, Wanted},
};
pub(crate) use self::{
    check::OVERHEAD,
    tenure::{Tenure, Untold},
    wake::wake,
};

/// A future of a store: a local one is ready at once where nothing has to be written.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A part of a store that is written by one at a time. A runtime has one by default: number 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u32);

/// A log of a partition, by urgency: 0 is the most urgent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(pub u8);

/// How many classes a partition has.
pub const CLASSES: u8 = 4;

/// How many bytes a batch may have, what each record and row costs beside its bytes included: 64 MiB.
pub const MAX_BATCH_BYTES: usize = 64 << 20;

/// The place of a record in its partition. Rises with each record, over all classes, and may have gaps; it says nothing
/// else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// The name of a table. A store makes it when the first row is put into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub &'static str);

/// A row: its key and its value.
pub type Row = (Bytes, Bytes);

/// A row, or what is wrong with it. Of a damaged one the key is what was found, which may be damaged as well.
pub type FoundRow = (Bytes, Result<Bytes, StoreError>);

/// A partition that was claimed, and what was there.
#[derive(Debug)]
pub struct Claim {
    /// The right to write to it.
    pub partition: Box<dyn Partition>,
    /// The number of this claim: each is higher than all before it.
    pub fence: u64,
    /// After the last record of the partition, whatever its class: where the next one goes at the earliest.
    pub end: Seq,
}

/// What a batch has become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// The places of the records appended, in their order within the batch.
    pub appended: Vec<Seq>,
    /// After the last record of the partition before this batch.
    pub begin: Seq,
    /// After the last record of the partition once this batch was in it.
    pub end: Seq,
}

/// Where events survive. Shared by all of a process: anyone may append.
///
/// # Contract
/// - Batches of one partition are applied one after the other, each whole or not at all. A batch that was acknowledged is
///   never lost, whatever happens to the process or the machine.
/// - Batches that were handed over in order by one caller are applied in that order. Once one of a claim ends
///   [`Unknown`](CommitError::Unknown), [`Full`](CommitError::Full) or [`Fenced`](CommitError::Fenced), the claim is lost: all
///   that it handed over after it fails as well.
/// - A batch that is refused for what it contains ([`Conflict`](CommitError::Conflict), [`Invalid`](CommitError::Invalid),
///   [`TooLarge`](CommitError::TooLarge)) fails alone: others that are committed with it are not touched.
/// - What was acknowledged is seen by every read that begins after.
/// - What is read is what was written, or an error: never a wrong value.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Hands over a batch of someone who has not claimed the partition: [`Op::Append`] and [`Op::PutNew`] alone are allowed.
    /// The batch is handed over when this returns; the future says what became of it. Whoever wakes it may poll it on the spot,
    /// on his thread and outside any async runtime: what needs one spawns there, and lets the future wait for a channel.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the batch back.
    fn append(&self, partition: PartitionId, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>>;

    /// Claims a partition: whoever held it before can commit no more.
    fn claim(&self, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>>;

    /// Takes the right to run on a partition in this process, for a runtime that is being built; it is given back when the
    /// runtime is shut down or dropped. A store whose handles share [`Occupants`] asks these. By default nobody is refused.
    ///
    /// # Errors
    /// Who has it and is alive.
    fn occupy(&self, partition: PartitionId, holder: &str) -> Result<Occupancy, Arc<str>> {
        let _ = (partition, holder);
        Ok(Occupancy::unknown())
    }

    /// Resolves once the partition has a record at or after `seq`; at once if it has.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    fn appended(&self, partition: PartitionId, seq: Seq) -> StoreFuture<'static, Result<(), StoreError>>;

    /// A reader of the partition that cannot write: several may read beside the one who holds the partition.
    fn reader(&self, partition: PartitionId) -> Box<dyn Reader>;
}

/// Reads a partition: what is committed, nothing else.
pub trait Reader: fmt::Debug + Send + Sync {
    /// The values of these keys, in their order; none where there is no row.
    fn get<'a>(&'a self, table: Table, keys: &'a [Bytes]) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>>;

    /// The first `limit` rows of a range, by key.
    fn scan(&self, table: Table, range: KeyRange, limit: usize) -> StoreFuture<'_, Result<Vec<Row>, StoreError>>;

    /// The first `limit` rows of a range, by key. Unlike with [`scan`](Self::scan) a damaged row is told in its place and hides no
    /// other; one that lies just beside the range is told too, and counted, for it may belong there. A store that cannot do that fails
    /// as `scan` does.
    fn scan_each(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<FoundRow>, StoreError>> {
        Box::pin(async move {
            let rows = self.scan(table, range, limit).await?;
            Ok(rows.into_iter().map(|(key, value)| (key, Ok(value))).collect())
        })
    }

    /// The last row of a range, by key.
    fn last(&self, table: Table, range: KeyRange) -> StoreFuture<'_, Result<Option<Row>, StoreError>>;

    /// How far the logs reach, and what they take.
    fn extent(&self) -> StoreFuture<'_, Result<Extent, StoreError>>;

    /// The records of a class at or after `from`, in their order, until their bytes pass `max_bytes`: one at least, however
    /// large. A store may stop earlier, even before the first; [`Page::is_end`] says where the log ends. Records that
    /// `wanted` does not want may be left out.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] where records at or after `from` are not there any more: a normal answer, go on from `first`.
    fn read<'a>(
        &'a self,
        class: Class,
        from: Seq,
        max_bytes: usize,
        wanted: &'a Wanted,
    ) -> StoreFuture<'a, Result<Page, StoreError>>;
}

/// A claimed partition: the only one who writes to it.
pub trait Partition: Reader {
    /// Hands over a batch; the future says what became of it. Several may be in flight: they are applied in the order of
    /// the calls.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the batch back.
    fn commit(&mut self, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>>;

    /// Gives the partition back, after all that was handed over.
    fn release(self: Box<Self>) -> StoreFuture<'static, Result<(), StoreError>>;
}

/// A range of keys: from `start`, included, to `end`, excluded, where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub start: Bytes,
    /// The first key that is not in it any more; none for no end.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// All keys.
    pub fn all() -> Self {
        Self::default()
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = start.iter().rposition(|&byte| byte < u8::MAX).map(|last| {
            let mut end = start[..=last].to_vec();
            end[last] += 1;
            end.into()
        });
        Self { start, end }
    }

    /// The keys of this range that come after `key`.
    #[must_use]
    pub fn after(mut self, key: &[u8]) -> Self {
        let mut start = Vec::with_capacity(key.len() + 1);
        start.extend_from_slice(key);
        start.push(0);
        self.start = start.into();
        self
    }

    /// Whether a key is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }
}

impl Seq {
    /// The next place.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range_even_where_it_ends_in_the_last_byte() {
        let range = KeyRange::prefix(&b"a\xff"[..]);
        assert!(range.contains(b"a\xff") && range.contains(b"a\xff\x00") && !range.contains(b"b"));
        assert_eq!(range.end.as_deref(), Some(&b"b"[..]));
        assert_eq!(KeyRange::prefix(&b"\xff"[..]).end, None);
        assert!(!KeyRange::all().after(b"k").contains(b"k") && KeyRange::all().after(b"k").contains(b"k\x00"));
    }
}
