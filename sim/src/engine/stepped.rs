//! A store whose batches are committed when somebody says so: what a runtime hands over waits in a line, and so much of it
//! as one commit is to have is given to the real store at a time, while the runtime stands still. Who handed it over is told
//! when somebody says so, too: until then others see what was written, and he does not know.
//!
//! So the real store's thread never works beside the runtime, and the same seed makes the same commits and the same races,
//! however fast the machine is.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures::channel::oneshot::{self, Receiver, Sender};
use millstream::{
    store::{Claim, CommitError, Committed, Op, PartitionId, Reader, Store, StoreError, StoreFuture, Table},
    testing::{HeldPartition, HookedStore, StoreHooks},
};

use super::bugs::{EngineBug, Split};
use crate::{
    disk::SimDisk,
    wait::{Hang, Waiting},
};

/// The store. Its copies are the same.
#[derive(Clone)]
pub struct Stepped(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    disk: SimDisk,
    bug: Option<EngineBug>,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    untold: VecDeque<Answer>,
    waker: Option<Waker>,
}

/// Something to hand over.
type Job = Box<dyn FnOnce(&SimDisk) -> Box<dyn Flying> + Send>;

/// Something that was handed over.
trait Flying {
    /// Whether the store has answered.
    fn is_told(&mut self) -> bool;
    /// Waits for the answer.
    fn land(self: Box<Self>) -> Result<Answer, Hang>;
}

/// Tells whoever asked.
type Answer = Box<dyn FnOnce() + Send>;

struct Flight<T> {
    waiting: Waiting<T>,
    tell: Sender<T>,
}

impl<T: Send + 'static> Flying for Flight<T> {
    fn is_told(&mut self) -> bool {
        self.waiting.is_told()
    }

    fn land(self: Box<Self>) -> Result<Answer, Hang> {
        let Self { waiting, tell } = *self;
        let (answer, _) = waiting.wait()?;
        // Whoever asked may be gone.
        Ok(Box::new(move || drop(tell.send(answer))))
    }
}

/// Waits until the disk holds back what was handed over; false where the answer is there without a write.
fn is_held(disk: &SimDisk, first: &mut dyn Flying) -> bool {
    loop {
        if disk.wait_held(Duration::from_millis(1)) {
            return true;
        }
        if first.is_told() {
            return false;
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stepped {
    /// Around a store on a disk, with a bug that is planted, if any.
    pub fn new(store: Arc<dyn Store>, disk: &SimDisk, bug: Option<EngineBug>) -> Self {
        Self(Arc::new(Shared { store, disk: disk.clone(), bug, line: Mutex::default() }))
    }

    /// What a runtime is opened on.
    pub fn store(&self) -> HookedStore<Self> {
        HookedStore::of(Arc::clone(&self.0.store), self.clone())
    }

    /// How much waits.
    pub fn waiting(&self) -> usize {
        lock(&self.0.line).jobs.len()
    }

    /// How much has landed of which nobody was told yet.
    pub fn untold(&self) -> usize {
        lock(&self.0.line).untold.len()
    }

    /// Waits until something waits, or to be told.
    pub async fn is_asked(&self) {
        poll_fn(|cx| {
            let mut line = lock(&self.0.line);
            if line.jobs.is_empty() && line.untold.is_empty() {
                line.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Commits the first so many of what waits: the first by itself, the others together behind it. Nobody is told yet.
    ///
    /// # Errors
    /// [`Hang`] if the store does not answer.
    pub fn step(&self, count: usize) -> Result<(), Hang> {
        let disk = &self.0.disk;
        let jobs: Vec<_> = {
            let mut line = lock(&self.0.line);
            let count = count.min(line.jobs.len());
            line.jobs.drain(..count).collect()
        };
        let is_group = jobs.len() > 1;
        let mut jobs = jobs.into_iter();
        let Some(first) = jobs.next() else { return Ok(()) };
        if is_group {
            disk.hold();
        }
        let mut flying = vec![first(disk)];
        let is_held = is_group && is_held(disk, &mut *flying[0]);
        if is_held {
            flying.extend(jobs.by_ref().map(|job| job(disk)));
        }
        disk.release();
        let landed = flying.into_iter().map(Flying::land);
        // What came to no write holds nobody back: then the others are alone as well.
        let landed = landed.chain(jobs.map(|job| job(disk).land())).collect::<Result<Vec<_>, _>>()?;
        lock(&self.0.line).untold.extend(landed);
        Ok(())
    }

    /// Tells the first so many of those whose batches have landed.
    pub fn tell(&self, count: usize) {
        let answers: Vec<_> = {
            let mut line = lock(&self.0.line);
            let count = count.min(line.untold.len());
            line.untold.drain(..count).collect()
        };
        for tell in answers {
            tell();
        }
    }

    /// Commits all that waits, and tells all.
    ///
    /// # Errors
    /// [`Hang`] if the store does not answer.
    pub fn finish(&self) -> Result<(), Hang> {
        self.tell(usize::MAX);
        while self.waiting() > 0 {
            self.step(usize::MAX)?;
            self.tell(usize::MAX);
        }
        Ok(())
    }

    /// Whether nobody else holds it any more.
    pub fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    fn hand_over<T: Send + 'static>(
        &self,
        begin: impl FnOnce() -> StoreFuture<'static, T> + Send + 'static,
    ) -> Receiver<T> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |disk| Box::new(Flight { waiting: Waiting::new(begin(), disk), tell }));
        let mut line = lock(&self.0.line);
        line.jobs.push_back(job);
        if let Some(waker) = line.waker.take() {
            waker.wake();
        }
        told
    }

    fn hand_over_batch(
        &self,
        batch: Vec<Op>,
        begin: impl Fn(Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> + Send + 'static,
    ) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let bug = self.0.bug;
        let told = self.hand_over(move || -> StoreFuture<'static, Result<Committed, CommitError>> {
            let split = if let Some(bug) = bug { bug.split(batch) } else { Split::Whole(batch) };
            match split {
                Split::Whole(batch) => begin(batch),
                Split::Two(first, second) => Box::pin(async move {
                    let first = begin(first).await?;
                    let second = begin(second).await?;
                    Ok(if first.appended.is_empty() { second } else { first })
                }),
            }
        });
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(CommitError::unknown(StoreError::Closed))) })
    }
}

impl StoreHooks for Stepped {
    fn append(
        &self,
        store: &Arc<dyn Store>,
        partition: PartitionId,
        batch: Vec<Op>,
    ) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let store = Arc::clone(store);
        self.hand_over_batch(batch, move |batch| store.append(partition, batch))
    }

    fn claim(&self, store: &Arc<dyn Store>, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        let store = Arc::clone(store);
        let told = self.hand_over(move || store.claim(partition));
        Box::pin(async move { told.await.unwrap_or(Err(StoreError::Closed)) })
    }

    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let held = held.clone();
        self.hand_over_batch(batch, move |batch| held.commit(batch))
    }

    fn release(&self, held: &HeldPartition) -> StoreFuture<'static, Result<(), StoreError>> {
        let held = held.clone();
        let told = self.hand_over(move || held.release());
        Box::pin(async move { told.await.unwrap_or(Err(StoreError::Closed)) })
    }

    /// Looks for rows where the bug has put them.
    fn get<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        keys: &'a [Bytes],
    ) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        let Some(bug) = self.0.bug else { return reader.get(table, keys) };
        Box::pin(async move {
            let keys: Vec<_> = keys.iter().map(|key| bug.key(table, key)).collect();
            reader.get(table, &keys).await
        })
    }
}

impl fmt::Debug for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stepped").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}
