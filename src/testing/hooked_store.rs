//! A store around another, with a hook at each call.

use std::{
    fmt,
    future::ready,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::store::{
    Claim, Class, CommitError, Committed, Extent, FoundRow, KeyRange, Occupancy, Op, Page, Partition, PartitionId,
    Reader, Row, Seq, Store, StoreError, StoreFuture, Table, Wanted,
};

/// What becomes of the calls to a [`HookedStore`]. Each does by default what the store below does; whoever sets one decides
/// whether, when and with what the store below is asked, and what is said of it.
///
/// What is said must be what the contract of [`Store`] allows, or the runtime above is promised what is not true.
pub trait StoreHooks: Send + Sync + 'static {
    /// A batch of somebody who has not claimed the partition.
    fn append(
        &self,
        store: &Arc<dyn Store>,
        partition: PartitionId,
        batch: Vec<Op>,
    ) -> StoreFuture<'static, Result<Committed, CommitError>> {
        store.append(partition, batch)
    }

    /// A claim.
    fn claim(&self, store: &Arc<dyn Store>, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        store.claim(partition)
    }

    /// A partition was claimed: the first that is heard of it.
    fn claimed(&self, held: &HeldPartition) {
        let _ = held;
    }

    /// A batch of the one who holds a partition.
    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        held.commit(batch)
    }

    /// A partition is given back.
    fn release(&self, held: &HeldPartition) -> StoreFuture<'static, Result<(), StoreError>> {
        held.release()
    }

    /// Somebody waits for a record.
    fn appended(
        &self,
        store: &Arc<dyn Store>,
        partition: PartitionId,
        seq: Seq,
    ) -> StoreFuture<'static, Result<(), StoreError>> {
        store.appended(partition, seq)
    }

    /// Rows are read by their keys.
    fn get<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        keys: &'a [Bytes],
    ) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        reader.get(table, keys)
    }

    /// Rows are read in their order. Whoever asks for damaged ones as well calls [`scan_each`](Self::scan_each) instead.
    fn scan<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'a, Result<Vec<Row>, StoreError>> {
        reader.scan(table, range, limit)
    }

    /// Rows are read in their order, damaged ones among them.
    fn scan_each<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'a, Result<Vec<FoundRow>, StoreError>> {
        reader.scan_each(table, range, limit)
    }

    /// The last row of a range is read.
    fn last<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
    ) -> StoreFuture<'a, Result<Option<Row>, StoreError>> {
        reader.last(table, range)
    }

    /// Somebody asks how far the logs reach.
    fn extent<'a>(&'a self, reader: &'a dyn Reader) -> StoreFuture<'a, Result<Extent, StoreError>> {
        reader.extent()
    }

    /// Records are read.
    fn read<'a>(
        &'a self,
        reader: &'a dyn Reader,
        class: Class,
        from: Seq,
        max_bytes: usize,
        wanted: &'a Wanted,
    ) -> StoreFuture<'a, Result<Page, StoreError>> {
        reader.read(class, from, max_bytes, wanted)
    }
}

/// A store around another that asks its [`StoreHooks`] at each call: for commits that are slow, lost or refused, rows that are
/// damaged, something that happens right between two steps, or a count. Clones are the same store.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering::Relaxed}};
/// use millstream::{
///     Draft, Runtime,
///     store::{Committed, CommitError, Memory, Op, PartitionId, Store, StoreFuture},
///     testing::{self, HookedStore, StoreHooks},
/// };
///
/// /// Has no room for whatever is emitted, so many times.
/// struct Full(AtomicUsize);
///
/// impl StoreHooks for Full {
///     fn append(
///         &self,
///         store: &Arc<dyn Store>,
///         partition: PartitionId,
///         batch: Vec<Op>,
///     ) -> StoreFuture<'static, Result<Committed, CommitError>> {
///         if self.0.load(Relaxed) == 0 {
///             return store.append(partition, batch);
///         }
///         self.0.fetch_sub(1, Relaxed);
///         Box::pin(async { Err(CommitError::Full) })
///     }
/// }
///
/// let store = HookedStore::new(Memory::new(), Full(AtomicUsize::new(1)));
/// testing::run(Runtime::builder().store(store.clone()), async |kit| {
///     assert!(kit.emit(Draft::json("order.placed", 7.into()))?.await.is_err());
///     // Nothing is taken in until whoever drives has opened the store again.
///     kit.settle().await;
///     assert!(kit.emit(Draft::json("order.placed", 8.into()))?.await.is_ok());
///     Ok(())
/// });
/// assert_eq!(store.hooks().0.load(Relaxed), 0);
/// ```
pub struct HookedStore<H> {
    inner: Arc<dyn Store>,
    hooks: Arc<H>,
}

impl<H: StoreHooks> HookedStore<H> {
    /// Around a store.
    pub fn new(inner: impl Store, hooks: H) -> Self {
        Self::of(Arc::new(inner), hooks)
    }

    /// Around a store that others have, too.
    pub fn of(inner: Arc<dyn Store>, hooks: H) -> Self {
        Self { inner, hooks: Arc::new(hooks) }
    }

    /// The hooks.
    pub fn hooks(&self) -> &H {
        &self.hooks
    }

    fn hooked(&self, reader: Box<dyn Reader>) -> HookedReader<H> {
        HookedReader { inner: reader, hooks: Arc::clone(&self.hooks) }
    }
}

impl<H: StoreHooks> Store for HookedStore<H> {
    fn append(&self, partition: PartitionId, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.hooks.append(&self.inner, partition, batch)
    }

    fn claim(&self, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        let (claim, store) = (self.hooks.claim(&self.inner, partition), self.clone());
        Box::pin(async move {
            let Claim { partition: inner, fence, end } = claim.await?;
            let held = HeldPartition { state: Arc::new(Mutex::new(State::Held(inner))), partition, fence };
            store.hooks.claimed(&held);
            let reader = store.hooked(store.inner.reader(partition));
            Ok(Claim { partition: Box::new(HookedPartition { held, reader }), fence, end })
        })
    }

    fn occupy(&self, partition: PartitionId, holder: &str) -> Result<Occupancy, Arc<str>> {
        self.inner.occupy(partition, holder)
    }

    fn appended(&self, partition: PartitionId, seq: Seq) -> StoreFuture<'static, Result<(), StoreError>> {
        self.hooks.appended(&self.inner, partition, seq)
    }

    fn reader(&self, partition: PartitionId) -> Box<dyn Reader> {
        Box::new(self.hooked(self.inner.reader(partition)))
    }
}

/// A partition of the store below that somebody has claimed. Clones are the same claim.
#[derive(Clone, Debug)]
pub struct HeldPartition {
    state: Arc<Mutex<State>>,
    partition: PartitionId,
    fence: u64,
}

#[derive(Debug)]
enum State {
    Held(Box<dyn Partition>),
    /// A commit has ended in a way that ends the claim. It is kept: what was handed over goes on.
    Lost(Box<dyn Partition>),
    Released,
}

impl HeldPartition {
    /// Which it is.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The number of the claim.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Hands a batch over to the store below. Of a lost claim it fails, [`Unknown`](CommitError::Unknown), and the store below
    /// does not hear of it; of one that was given back it is [`Fenced`](CommitError::Fenced).
    pub fn commit(&self, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        match &mut *self.lock() {
            State::Held(partition) => partition.commit(batch),
            State::Lost(_) => {
                Box::pin(ready(Err(CommitError::unknown(io::Error::other("the claim was lost before it")))))
            }
            State::Released => Box::pin(ready(Err(CommitError::Fenced))),
        }
    }

    /// Ends the claim for its holder, as each commit does that ends [`Unknown`](CommitError::Unknown), [`Full`](CommitError::Full)
    /// or [`Fenced`](CommitError::Fenced): whoever makes one end in such a way calls this, or breaks the contract.
    pub fn lose(&self) {
        let mut state = self.lock();
        *state = match std::mem::replace(&mut *state, State::Released) {
            State::Held(partition) => State::Lost(partition),
            other => other,
        };
    }

    /// Whether it was lost in that way.
    pub fn is_lost(&self) -> bool {
        matches!(*self.lock(), State::Lost(_))
    }

    /// Gives it back to the store below, if that was not done yet.
    pub fn release(&self) -> StoreFuture<'static, Result<(), StoreError>> {
        match std::mem::replace(&mut *self.lock(), State::Released) {
            State::Held(partition) | State::Lost(partition) => partition.release(),
            State::Released => Box::pin(ready(Ok(()))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct HookedReader<H> {
    inner: Box<dyn Reader>,
    hooks: Arc<H>,
}

impl<H: StoreHooks> Reader for HookedReader<H> {
    fn get<'a>(&'a self, table: Table, keys: &'a [Bytes]) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        self.hooks.get(&*self.inner, table, keys)
    }

    fn scan(&self, table: Table, range: KeyRange, limit: usize) -> StoreFuture<'_, Result<Vec<Row>, StoreError>> {
        self.hooks.scan(&*self.inner, table, range, limit)
    }

    fn scan_each(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<FoundRow>, StoreError>> {
        self.hooks.scan_each(&*self.inner, table, range, limit)
    }

    fn last(&self, table: Table, range: KeyRange) -> StoreFuture<'_, Result<Option<Row>, StoreError>> {
        self.hooks.last(&*self.inner, table, range)
    }

    fn extent(&self) -> StoreFuture<'_, Result<Extent, StoreError>> {
        self.hooks.extent(&*self.inner)
    }

    fn read<'a>(
        &'a self,
        class: Class,
        from: Seq,
        max_bytes: usize,
        wanted: &'a Wanted,
    ) -> StoreFuture<'a, Result<Page, StoreError>> {
        self.hooks.read(&*self.inner, class, from, max_bytes, wanted)
    }
}

struct HookedPartition<H> {
    held: HeldPartition,
    reader: HookedReader<H>,
}

impl<H: StoreHooks> Partition for HookedPartition<H> {
    fn commit(&mut self, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.reader.hooks.commit(&self.held, batch)
    }

    fn release(self: Box<Self>) -> StoreFuture<'static, Result<(), StoreError>> {
        self.reader.hooks.release(&self.held)
    }
}

impl<H: StoreHooks> Reader for HookedPartition<H> {
    fn get<'a>(&'a self, table: Table, keys: &'a [Bytes]) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        self.reader.get(table, keys)
    }

    fn scan(&self, table: Table, range: KeyRange, limit: usize) -> StoreFuture<'_, Result<Vec<Row>, StoreError>> {
        self.reader.scan(table, range, limit)
    }

    fn scan_each(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<FoundRow>, StoreError>> {
        self.reader.scan_each(table, range, limit)
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

impl<H> Clone for HookedStore<H> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), hooks: Arc::clone(&self.hooks) }
    }
}

impl<H> fmt::Debug for HookedStore<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<H> fmt::Debug for HookedReader<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedReader").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<H> fmt::Debug for HookedPartition<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedPartition").field("held", &self.held).finish_non_exhaustive()
    }
}
