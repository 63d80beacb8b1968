//! A store that keeps what is handed over until it is told to land it, to refuse it or to lose it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use tokio::{sync::oneshot, task::yield_now};

use crate::store::{
    Claim, Class, CommitError, Committed, Extent, KeyRange, Op, Page, Partition, PartitionId, Reader, Row, Seq, Store,
    StoreError, StoreFuture, Table, Wanted,
};

type Outcome = Result<Committed, CommitError>;

#[derive(Debug)]
struct Pending {
    batch: Vec<Op>,
    done: oneshot::Sender<Outcome>,
}

#[derive(Debug, Default)]
struct Queue {
    pending: VecDeque<Pending>,
    /// The claim that is behind this one.
    held: Option<Box<dyn Partition>>,
    claims: u64,
    is_lost: bool,
    handed_over: usize,
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is on disk, and its owner is told.
    Landed,
    /// It is on disk, and its owner is told that nobody knows.
    LandedUnknown,
    /// It is not on disk, and its owner is told that nobody knows.
    Lost,
    /// It is not on disk, and its owner is told so; those after it go their own way.
    Full,
    /// It is not on disk, for it is too large.
    TooLarge,
}

#[derive(Clone, Debug)]
pub(super) struct Slow {
    store: Arc<dyn Store>,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug)]
struct Held {
    reader: Box<dyn Reader>,
    queue: Arc<Mutex<Queue>>,
    claim: u64,
}

impl Slow {
    pub(super) fn new(store: impl Store) -> Self {
        Self { store: Arc::new(store), queue: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap()
    }

    pub(super) fn pending(&self) -> usize {
        self.lock().pending.len()
    }

    /// How many batches were handed over in all.
    pub(super) fn handed_over(&self) -> usize {
        self.lock().handed_over
    }

    /// Decides about the oldest batch.
    pub(super) async fn decide(&self, fate: Fate) {
        let (pending, held) = {
            let mut queue = self.lock();
            let Some(pending) = queue.pending.pop_front() else { return };
            (pending, queue.held.take())
        };
        let mut held = held.expect("claimed");
        let lost = || CommitError::unknown(std::io::Error::other("made to fail"));
        let is_lost = self.lock().is_lost;
        let outcome = match fate {
            _ if is_lost => Err(lost()),
            Fate::Landed => held.commit(pending.batch).await,
            Fate::LandedUnknown => held.commit(pending.batch).await.and_then(|_| Err(lost())),
            Fate::Lost => Err(lost()),
            Fate::Full => Err(CommitError::Full),
            Fate::TooLarge => Err(CommitError::TooLarge { bytes: 2, max: 1 }),
        };
        let mut queue = self.lock();
        queue.is_lost |= matches!(outcome, Err(CommitError::Unknown { .. }));
        queue.held = Some(held);
        let _ = pending.done.send(outcome);
    }
}

impl Store for Slow {
    fn append(&self, partition: PartitionId, batch: Vec<Op>) -> StoreFuture<'static, Outcome> {
        self.store.append(partition, batch)
    }

    fn claim(&self, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        let this = self.clone();
        Box::pin(async move {
            let Claim { partition: held, fence, end, .. } = this.store.claim(partition).await?;
            let mut queue = this.lock();
            queue.pending.clear();
            queue.held = Some(held);
            queue.is_lost = false;
            queue.claims += 1;
            let held =
                Held { reader: this.store.reader(partition), queue: Arc::clone(&this.queue), claim: queue.claims };
            Ok(Claim { partition: Box::new(held), fence, end })
        })
    }

    fn appended(&self, partition: PartitionId, seq: Seq) -> StoreFuture<'static, Result<(), StoreError>> {
        self.store.appended(partition, seq)
    }

    fn reader(&self, partition: PartitionId) -> Box<dyn Reader> {
        Box::new(Held { reader: self.store.reader(partition), queue: Arc::clone(&self.queue), claim: 0 })
    }
}

/// Every read waits once, so that whoever reads can be dropped there.
impl Reader for Held {
    fn get<'a>(&'a self, table: Table, keys: &'a [Bytes]) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        Box::pin(async move {
            yield_now().await;
            self.reader.get(table, keys).await
        })
    }

    fn scan(&self, table: Table, range: KeyRange, limit: usize) -> StoreFuture<'_, Result<Vec<Row>, StoreError>> {
        Box::pin(async move {
            yield_now().await;
            self.reader.scan(table, range, limit).await
        })
    }

    fn last(&self, table: Table, range: KeyRange) -> StoreFuture<'_, Result<Option<Row>, StoreError>> {
        Box::pin(async move {
            yield_now().await;
            self.reader.last(table, range).await
        })
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
        Box::pin(async move {
            yield_now().await;
            self.reader.read(class, from, max_bytes, wanted).await
        })
    }
}

impl Partition for Held {
    fn commit(&mut self, batch: Vec<Op>) -> StoreFuture<'static, Outcome> {
        let (done, outcome) = oneshot::channel();
        let mut queue = self.queue.lock().unwrap();
        if queue.claims == self.claim {
            queue.handed_over += 1;
            queue.pending.push_back(Pending { batch, done });
        }
        Box::pin(async move { outcome.await.unwrap_or(Err(CommitError::Fenced)) })
    }

    fn release(self: Box<Self>) -> StoreFuture<'static, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
