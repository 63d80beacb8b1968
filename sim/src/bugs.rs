//! Bugs that are planted around the real store, to see that they are caught: who cannot find a bug that he put there
//! himself has not looked.

use std::{
    collections::HashMap,
    future::ready,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use millstream::{
    store::{CommitError, Committed, Op, PartitionId, Redb, Store, StoreError, StoreFuture, Table},
    testing::{HeldPartition, HookedStore, StoreHooks},
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
        let bugged = Bugged { bug: self.0, newest: Mutex::default(), timers: Mutex::default() };
        Ok(Arc::new(HookedStore::of(inner, bugged)))
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

/// The bugs that are in what is handed over.
struct Bugged {
    bug: Bug,
    /// The partition of the last claim.
    newest: Mutex<Option<HeldPartition>>,
    /// Timers that wait for the next batch, by the claim.
    timers: Mutex<HashMap<u64, Vec<Op>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Committing = StoreFuture<'static, Result<Committed, CommitError>>;

impl Bugged {
    /// Commits a batch, of whatever claim where claims keep nobody out.
    fn commit_to_target(&self, held: &HeldPartition, batch: Vec<Op>) -> Committing {
        let newest = if self.bug == Bug::NoFence { lock(&self.newest).clone() } else { None };
        newest.as_ref().unwrap_or(held).commit(batch)
    }
}

/// Commits a part of a batch, and then the rest of it.
fn commit_in_two(held: &HeldPartition, batch: Vec<Op>, is_first: impl Fn(&Op) -> bool) -> Committing {
    let (first, second): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_first);
    let (begun, held) = (held.commit(first), held.clone());
    Box::pin(async move {
        let first = begun.await?;
        let second = held.commit(second).await?;
        Ok(if first.appended.is_empty() { second } else { first })
    })
}

fn is_row(op: &Op, of: Table) -> bool {
    matches!(op, Op::Put { table, .. } | Op::Delete { table, .. } if *table == of)
}

impl StoreHooks for Bugged {
    fn append(&self, store: &Arc<dyn Store>, partition: PartitionId, batch: Vec<Op>) -> Committing {
        if self.bug != Bug::KeysFirst {
            return store.append(partition, batch);
        }
        let (keys, rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(|op| matches!(op, Op::PutNew { .. }));
        let (begun, store) = (store.append(partition, keys), Arc::clone(store));
        Box::pin(async move {
            begun.await?;
            store.append(partition, rest).await
        })
    }

    fn claimed(&self, held: &HeldPartition) {
        *lock(&self.newest) = Some(held.clone());
    }

    fn commit(&self, held: &HeldPartition, mut batch: Vec<Op>) -> Committing {
        match self.bug {
            Bug::CursorApart => commit_in_two(held, batch, |op| !is_row(op, CURSOR)),
            Bug::OutputsFirst => commit_in_two(held, batch, |op| matches!(op, Op::Append { .. })),
            Bug::AckBeforeCommit if batch.iter().all(|op| !matches!(op, Op::Append { .. })) => {
                drop(held.commit(batch));
                Box::pin(ready(Ok(Committed::default())))
            }
            Bug::TimerForgotten => {
                let (timers, rest) = batch.into_iter().partition(|op| is_row(op, TIMER));
                batch = lock(&self.timers).insert(held.fence(), timers).unwrap_or_default();
                batch.extend::<Vec<_>>(rest);
                held.commit(batch)
            }
            _ => self.commit_to_target(held, batch),
        }
    }

    fn release(&self, _: &HeldPartition) -> StoreFuture<'static, Result<(), StoreError>> {
        // Another claim may still write to it; it is dropped with the last who has it.
        Box::pin(ready(Ok(())))
    }
}
