//! A store that does whatever the contract allows a bad day to do.

use std::{
    collections::VecDeque,
    future::ready,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::FutureExt as _;

use super::hooked_store::{HeldPartition, HookedStore, StoreHooks};
use crate::store::{
    CLASSES, Claim, Class, CommitError, Committed, Memory, Occupancy, Op, Page, PartitionId, Reader, Record, Seq,
    Store, StoreError, StoreFuture, Wanted,
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
#[derive(Clone, Debug)]
pub struct FaultyStore(HookedStore<Faults>);

struct Faults {
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
        Self(HookedStore::new(inner.clone(), Faults { inner, state }))
    }

    /// One call in so many fails, for each way of failing; 0 for none.
    #[must_use]
    pub fn one_in(self, calls: u32) -> Self {
        self.0.hooks().lock().one_in = calls;
        self
    }

    /// How many faults there were.
    pub fn faults(&self) -> u64 {
        self.0.hooks().lock().faults
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

impl Faults {
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
    fn commit_kept(&self, held: &HeldPartition, batch: Vec<Op>) -> Result<Committed, CommitError> {
        let may_be_sent = |records: &[Record]| records.iter().all(|record| record.keys.is_empty());
        let (sends, kept): (Vec<Op>, Vec<Op>) = batch
            .into_iter()
            .partition(|op| matches!(op, Op::Send { class, records, .. } if class.0 < CLASSES && may_be_sent(records)));
        let committed = now(held.commit(kept))?;
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

impl StoreHooks for Faults {
    fn append(
        &self,
        store: &Arc<dyn Store>,
        partition: PartitionId,
        batch: Vec<Op>,
    ) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.deliver(false);
        let fate = self.lock().fate(false);
        match fate {
            Fate::Fine => store.append(partition, batch),
            Fate::LandedUnknown => Box::pin(ready(now(store.append(partition, batch)).and(Err(unknown())))),
            Fate::LostUnknown | Fate::Fenced => Box::pin(ready(Err(unknown()))),
        }
    }

    fn claim(&self, store: &Arc<dyn Store>, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        self.deliver(false);
        if self.lock().fails() {
            let error = io::Error::other("a fault that was asked for");
            return Box::pin(ready(Err(StoreError::io("claiming", error))));
        }
        store.claim(partition)
    }

    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.deliver(false);
        if held.is_lost() {
            return held.commit(batch);
        }
        let fate = self.lock().fate(true);
        let committed = match fate {
            Fate::Fine => self.commit_kept(held, batch),
            Fate::LandedUnknown => self.commit_kept(held, batch).and(Err(unknown())),
            Fate::LostUnknown => Err(unknown()),
            Fate::Fenced => Err(CommitError::Fenced),
        };
        if committed.as_ref().is_err_and(CommitError::is_loss) {
            held.lose();
        }
        Box::pin(ready(committed))
    }

    fn appended(
        &self,
        store: &Arc<dyn Store>,
        partition: PartitionId,
        seq: Seq,
    ) -> StoreFuture<'static, Result<(), StoreError>> {
        self.deliver(true);
        store.appended(partition, seq)
    }

    fn read<'a>(
        &'a self,
        reader: &'a dyn Reader,
        class: Class,
        from: Seq,
        max_bytes: usize,
        wanted: &'a Wanted,
    ) -> StoreFuture<'a, Result<Page, StoreError>> {
        self.deliver(false);
        let is_early = {
            let mut state = self.lock();
            // Not for ever, or a log would have no end.
            let is_early = state.early < 3 && state.fails();
            state.early = if is_early { state.early + 1 } else { 0 };
            is_early
        };
        let read = reader.read(class, from, if is_early { 0 } else { max_bytes }, wanted);
        Box::pin(async move {
            let mut page = read.await?;
            if is_early && page.records.is_empty() {
                page = Page { next: from, ..Page::default() };
            }
            Ok(page)
        })
    }
}

/// Its hooks are its own.
impl Store for FaultyStore {
    fn append(&self, partition: PartitionId, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.0.append(partition, batch)
    }

    fn claim(&self, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        self.0.claim(partition)
    }

    fn occupy(&self, partition: PartitionId, holder: &str) -> Result<Occupancy, Arc<str>> {
        self.0.occupy(partition, holder)
    }

    fn appended(&self, partition: PartitionId, seq: Seq) -> StoreFuture<'static, Result<(), StoreError>> {
        self.0.appended(partition, seq)
    }

    fn reader(&self, partition: PartitionId) -> Box<dyn Reader> {
        self.0.reader(partition)
    }
}
