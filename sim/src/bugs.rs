//! Bugs that are planted around the real store, to see that they are caught: who cannot find a bug that he put there
//! himself has not looked.

use std::{
    fmt, io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use millstream::store::{
    Claim, Class, CommitError, Committed, Extent, KeyRange, Op, Page, Partition, PartitionId, Reader, Redb, Row, Seq,
    Store, StoreError, StoreFuture, Table, Wanted,
};
use redb::StorageBackend;

use crate::{
    disk::SimDisk,
    drive::Opens,
    history::{CURSOR, TIMER},
    real::Real,
};

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A batch of rows is acknowledged when it is handed over.
    AckBeforeCommit,
    /// The disk says that all is safe, and nothing is.
    LyingSync,
    /// A sync that failed counts as one that did not.
    DeafToSync,
    /// The cursor is written by a transaction of its own, after the rest.
    CursorApart,
    /// Outputs are appended before the rest of their batch.
    OutputsFirst,
    /// Keys that keep others out are written before what they are for.
    KeysFirst,
    /// Timers wait in memory for the next batch.
    TimerForgotten,
    /// A claim keeps nobody out.
    NoFence,
    /// Checksums are not looked at. See [`flip_unseen`](crate::unseen::flip_unseen).
    SkippedCrc,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::AckBeforeCommit,
        Self::LyingSync,
        Self::DeafToSync,
        Self::CursorApart,
        Self::OutputsFirst,
        Self::KeysFirst,
        Self::TimerForgotten,
        Self::NoFence,
        Self::SkippedCrc,
    ];

    /// What one says of a store who has seen through it: any of these.
    pub fn signs(self) -> &'static [&'static str] {
        match self {
            Self::AckBeforeCommit => &["was acknowledged and is lost"],
            Self::LyingSync => &["was acknowledged and is lost", "the store does not open"],
            Self::DeafToSync => &["was acknowledged and is lost", "the store does not open", "is damaged"],
            Self::CursorApart => &["of `cursor` is missing", "of `cursor` has a wrong value"],
            Self::OutputsFirst => &["is there without its batch"],
            Self::KeysFirst => &["is missing"],
            Self::TimerForgotten => &["of `timer` is missing"],
            Self::NoFence => &["had to be refused: Fence"],
            Self::SkippedCrc => &["are not what they were"],
        }
    }
}

/// Opens the real store with a bug around it.
#[derive(Clone, Copy, Debug)]
pub struct Planted(pub Bug);

impl Opens for Planted {
    fn open(&self, disk: &SimDisk) -> Result<Arc<dyn Store>, StoreError> {
        let inner: Arc<dyn Store> = match self.0 {
            Bug::LyingSync => Real::default().open(&disk.clone().lying())?,
            Bug::DeafToSync => Arc::new(Redb::builder().open_on(Deaf(disk.clone()))?),
            _ => Real::default().open(disk)?,
        };
        Ok(Arc::new(Bugged { inner, bug: self.0, newest: Arc::default() }))
    }

    fn open_again(&self, disk: &SimDisk) -> Result<Arc<dyn Store>, StoreError> {
        Real::default().open(disk)
    }
}

/// A disk whose failures to sync nobody hears.
#[derive(Debug)]
struct Deaf(SimDisk);

impl StorageBackend for Deaf {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data().or(Ok(()))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

type Shared = Arc<Mutex<Box<dyn Partition>>>;

/// A store with a bug.
#[derive(Debug)]
struct Bugged {
    inner: Arc<dyn Store>,
    bug: Bug,
    /// The partition of the last claim.
    newest: Arc<Mutex<Option<Shared>>>,
}

/// A claimed partition with a bug.
struct BuggedPartition {
    inner: Shared,
    reader: Box<dyn Reader>,
    bug: Bug,
    newest: Arc<Mutex<Option<Shared>>>,
    /// Timers that wait for the next batch.
    timers: Vec<Op>,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BuggedPartition {
    /// Commits a batch, of whatever claim where claims keep nobody out.
    fn commit_to_target(&self, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let newest = if self.bug == Bug::NoFence { lock(&self.newest).clone() } else { None };
        lock(newest.as_ref().unwrap_or(&self.inner)).commit(batch)
    }

    /// Commits a part of a batch, and then the rest of it.
    fn commit_in_two(
        &self,
        batch: Vec<Op>,
        is_first: impl Fn(&Op) -> bool,
    ) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let (first, second): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_first);
        let inner = Arc::clone(&self.inner);
        let begun = lock(&inner).commit(first);
        Box::pin(async move {
            let first = begun.await?;
            let rest = lock(&inner).commit(second);
            let second = rest.await?;
            Ok(if first.appended.is_empty() { second } else { first })
        })
    }
}

fn is_row(op: &Op, of: Table) -> bool {
    matches!(op, Op::Put { table, .. } | Op::Delete { table, .. } if *table == of)
}

impl Partition for BuggedPartition {
    fn commit(&mut self, mut batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        match self.bug {
            Bug::CursorApart => self.commit_in_two(batch, |op| !is_row(op, CURSOR)),
            Bug::OutputsFirst => self.commit_in_two(batch, |op| matches!(op, Op::Append { .. })),
            Bug::AckBeforeCommit if batch.iter().all(|op| !matches!(op, Op::Append { .. })) => {
                drop(lock(&self.inner).commit(batch));
                Box::pin(std::future::ready(Ok(Committed::default())))
            }
            Bug::TimerForgotten => {
                let (timers, rest) = batch.into_iter().partition(|op| is_row(op, TIMER));
                batch = mem::replace(&mut self.timers, timers);
                batch.extend::<Vec<_>>(rest);
                lock(&self.inner).commit(batch)
            }
            _ => self.commit_to_target(batch),
        }
    }

    fn release(self: Box<Self>) -> StoreFuture<'static, Result<(), StoreError>> {
        // What is shared cannot be given back; it is dropped with the last who holds it.
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Store for Bugged {
    fn append(&self, partition: PartitionId, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        if self.bug != Bug::KeysFirst {
            return self.inner.append(partition, batch);
        }
        let (keys, rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(|op| matches!(op, Op::PutNew { .. }));
        let store = Arc::clone(&self.inner);
        let begun = store.append(partition, keys);
        Box::pin(async move {
            begun.await?;
            store.append(partition, rest).await
        })
    }

    fn claim(&self, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        let claim = self.inner.claim(partition);
        let (reader, bug, newest) = (self.inner.reader(partition), self.bug, Arc::clone(&self.newest));
        Box::pin(async move {
            let claim = claim.await?;
            let inner = Arc::new(Mutex::new(claim.partition));
            *lock(&newest) = Some(Arc::clone(&inner));
            let partition = Box::new(BuggedPartition { inner, reader, bug, newest, timers: Vec::new() });
            Ok(Claim { partition, ..claim })
        })
    }

    fn appended(&self, partition: PartitionId, seq: Seq) -> StoreFuture<'static, Result<(), StoreError>> {
        self.inner.appended(partition, seq)
    }

    fn reader(&self, partition: PartitionId) -> Box<dyn Reader> {
        self.inner.reader(partition)
    }
}

impl Reader for BuggedPartition {
    fn get<'a>(&'a self, table: Table, keys: &'a [Bytes]) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        self.reader.get(table, keys)
    }

    fn scan(&self, table: Table, range: KeyRange, limit: usize) -> StoreFuture<'_, Result<Vec<Row>, StoreError>> {
        self.reader.scan(table, range, limit)
    }

    fn last(&self, table: Table, range: KeyRange) -> StoreFuture<'_, Result<Option<Row>, StoreError>> {
        self.reader.last(table, range)
    }

    fn extent(&self) -> StoreFuture<'_, Result<Extent, StoreError>> {
        self.reader.extent()
    }

    fn read<'a>(
        &'a self,
        class: Class,
        from: Seq,
        max_bytes: usize,
        wanted: &'a Wanted,
    ) -> StoreFuture<'a, Result<Page, StoreError>> {
        self.reader.read(class, from, max_bytes, wanted)
    }
}

impl fmt::Debug for BuggedPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuggedPartition").field("bug", &self.bug).finish_non_exhaustive()
    }
}
