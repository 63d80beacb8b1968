//! A store that does whatever the contract allows a bad day to do.

use std::{
    collections::VecDeque,
    fmt,
    future::ready,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::FutureExt as _;

use crate::store::{
    CLASSES, Claim, Class, CommitError, Committed, Extent, FoundRow, KeyRange, Memory, Occupancy, Op, Page, Partition,
    PartitionId, Reader, Record, Row, Seq, Store, StoreError, StoreFuture, Table, Wanted,
};

/// Wraps the store in memory and fails, seeded, in every way that the contract of [`Store`] allows:
///
/// - a commit or an append ends [`Unknown`](CommitError::Unknown), landed or not, and with it all that the claim hands over
///   after it;
/// - a claim is lost to nobody, [`Fenced`](CommitError::Fenced), or cannot be had at once;
/// - what is sent arrives late: with one of the next calls, in its order;
/// - a page ends early, even with nothing in it, and says that it is not the last.
///
/// Each happens to one call in `one_in`, 8 unless set; 0 switches them all off.
///
/// ```
/// use millstream::{store::Memory, testing::{FaultyStore, store_conformance}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// store_conformance(async || FaultyStore::new(Memory::new(), 7)).await;
/// # }
/// ```
#[derive(Clone)]
pub struct FaultyStore {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Memory,
    state: Mutex<State>,
}

struct State {
    random: fastrand::Rng,
    one_in: u32,
    faults: u64,
    /// What was sent and has not arrived.
    sent: VecDeque<(PartitionId, Class, Vec<Record>)>,
    /// How many pages in a row ended early.
    early: u32,
}

/// What becomes of a batch.
enum Fate {
    Fine,
    LandedUnknown,
    LostUnknown,
    Fenced,
}

impl FaultyStore {
    /// Wraps a store in memory; the same seed and the same calls fail in the same way.
    pub fn new(inner: Memory, seed: u64) -> Self {
        let (random, sent) = (fastrand::Rng::with_seed(seed), VecDeque::new());
        let state = Mutex::new(State { random, one_in: 8, faults: 0, sent, early: 0 });
        Self { shared: Arc::new(Shared { inner, state }) }
    }

    /// One call in so many fails, for each way of failing; 0 for none.
    #[must_use]
    pub fn one_in(self, calls: u32) -> Self {
        self.shared.lock().one_in = calls;
        self
    }

    /// How many faults there were.
    pub fn faults(&self) -> u64 {
        self.shared.lock().faults
    }
}

impl State {
    fn fails(&mut self) -> bool {
        let fails = self.one_in > 0 && self.random.u32(0..self.one_in) == 0;
        self.faults += u64::from(fails);
        fails
    }

    fn fate(&mut self, is_holder: bool) -> Fate {
        if !self.fails() {
            return Fate::Fine;
        }
        match self.random.u8(0..if is_holder { 3 } else { 2 }) {
            0 => Fate::LandedUnknown,
            1 => Fate::LostUnknown,
            _ => Fate::Fenced,
        }
    }
}

fn unknown() -> CommitError {
    CommitError::unknown(io::Error::other("a fault that was asked for"))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets something arrive that was sent: perhaps, or all of it.
    fn deliver(&self, all: bool) {
        loop {
            let mut state = self.lock();
            if !all && state.one_in > 0 && state.random.bool() {
                return;
            }
            let Some((to, class, records)) = state.sent.pop_front() else { return };
            // Under the lock, so that what was sent first arrives first.
            let _ = now(self.inner.append(to, vec![Op::Append { class, records }]));
        }
    }

    /// Commits a batch at once, but for what it sends.
    fn commit(&self, partition: &mut dyn Partition, batch: Vec<Op>) -> Result<Committed, CommitError> {
        let may_be_sent = |records: &[Record]| records.iter().all(|record| record.keys.is_empty());
        let (sends, kept): (Vec<Op>, Vec<Op>) = batch
            .into_iter()
            .partition(|op| matches!(op, Op::Send { class, records, .. } if class.0 < CLASSES && may_be_sent(records)));
        let committed = now(partition.commit(kept))?;
        self.lock().sent.extend(sends.into_iter().filter_map(|op| match op {
            Op::Send { to, class, records } => Some((to, class, records)),
            _ => None,
        }));
        Ok(committed)
    }
}

/// What the store in memory says, which does all at once.
fn now<T>(future: StoreFuture<'_, T>) -> T {
    future.now_or_never().expect("the store in memory is ready at once")
}

impl Store for FaultyStore {
    fn append(&self, partition: PartitionId, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.shared.deliver(false);
        let fate = self.shared.lock().fate(false);
        let append = |batch| self.shared.inner.append(partition, batch);
        match fate {
            Fate::Fine => append(batch),
            Fate::LandedUnknown => Box::pin(ready(now(append(batch)).and(Err(unknown())))),
            Fate::LostUnknown | Fate::Fenced => Box::pin(ready(Err(unknown()))),
        }
    }

    fn claim(&self, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        self.shared.deliver(false);
        if self.shared.lock().fails() {
            let error = io::Error::other("a fault that was asked for");
            return Box::pin(ready(Err(StoreError::io("claiming", error))));
        }
        let (claim, shared) = (self.shared.inner.claim(partition), Arc::clone(&self.shared));
        Box::pin(async move {
            let mut claim = claim.await?;
            let reader = FaultyReader { inner: shared.inner.reader(partition), shared: Arc::clone(&shared) };
            claim.partition = Box::new(FaultyPartition { inner: claim.partition, reader, is_lost: false });
            Ok(claim)
        })
    }

    fn occupy(&self, partition: PartitionId, holder: &str) -> Result<Occupancy, Arc<str>> {
        self.shared.inner.occupy(partition, holder)
    }

    fn appended(&self, partition: PartitionId, seq: Seq) -> StoreFuture<'static, Result<(), StoreError>> {
        self.shared.deliver(true);
        self.shared.inner.appended(partition, seq)
    }

    fn reader(&self, partition: PartitionId) -> Box<dyn Reader> {
        Box::new(FaultyReader { inner: self.shared.inner.reader(partition), shared: Arc::clone(&self.shared) })
    }
}

struct FaultyReader {
    inner: Box<dyn Reader>,
    shared: Arc<Shared>,
}

impl Reader for FaultyReader {
    fn get<'a>(&'a self, table: Table, keys: &'a [Bytes]) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        self.inner.get(table, keys)
    }

    fn scan(&self, table: Table, range: KeyRange, limit: usize) -> StoreFuture<'_, Result<Vec<Row>, StoreError>> {
        self.inner.scan(table, range, limit)
    }

    fn scan_each(&self, table: Table, range: KeyRange) -> StoreFuture<'_, Result<Vec<FoundRow>, StoreError>> {
        self.inner.scan_each(table, range)
    }

    fn last(&self, table: Table, range: KeyRange) -> StoreFuture<'_, Result<Option<Row>, StoreError>> {
        self.inner.last(table, range)
    }

    fn extent(&self) -> StoreFuture<'_, Result<Extent, StoreError>> {
        self.inner.extent()
    }

    fn read<'a>(
        &'a self,
        class: Class,
        from: Seq,
        max_bytes: usize,
        wanted: &'a Wanted,
    ) -> StoreFuture<'a, Result<Page, StoreError>> {
        self.shared.deliver(false);
        let is_early = {
            let mut state = self.shared.lock();
            // Not for ever, or a log would have no end.
            let is_early = state.early < 3 && state.fails();
            state.early = if is_early { state.early + 1 } else { 0 };
            is_early
        };
        let read = self.inner.read(class, from, if is_early { 0 } else { max_bytes }, wanted);
        Box::pin(async move {
            let mut page = read.await?;
            if is_early && page.records.is_empty() {
                page = Page { next: from, ..Page::default() };
            }
            Ok(page)
        })
    }
}

struct FaultyPartition {
    inner: Box<dyn Partition>,
    reader: FaultyReader,
    /// Whether a commit of this claim has ended in a way that ends the claim.
    is_lost: bool,
}

impl Partition for FaultyPartition {
    fn commit(&mut self, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let shared = &self.reader.shared;
        shared.deliver(false);
        if self.is_lost {
            return Box::pin(ready(Err(unknown())));
        }
        let fate = shared.lock().fate(true);
        let committed = match fate {
            Fate::Fine => shared.commit(&mut *self.inner, batch),
            Fate::LandedUnknown => shared.commit(&mut *self.inner, batch).and(Err(unknown())),
            Fate::LostUnknown => Err(unknown()),
            Fate::Fenced => Err(CommitError::Fenced),
        };
        self.is_lost |= matches!(committed, Err(CommitError::Unknown { .. } | CommitError::Fenced));
        Box::pin(ready(committed))
    }

    fn release(self: Box<Self>) -> StoreFuture<'static, Result<(), StoreError>> {
        self.inner.release()
    }
}

impl Reader for FaultyPartition {
    fn get<'a>(&'a self, table: Table, keys: &'a [Bytes]) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        self.reader.get(table, keys)
    }

    fn scan(&self, table: Table, range: KeyRange, limit: usize) -> StoreFuture<'_, Result<Vec<Row>, StoreError>> {
        self.reader.scan(table, range, limit)
    }

    fn scan_each(&self, table: Table, range: KeyRange) -> StoreFuture<'_, Result<Vec<FoundRow>, StoreError>> {
        self.reader.scan_each(table, range)
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

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("inner", &self.shared.inner).finish_non_exhaustive()
    }
}

impl fmt::Debug for FaultyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyReader").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl fmt::Debug for FaultyPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyPartition").field("inner", &self.inner).finish_non_exhaustive()
    }
}
