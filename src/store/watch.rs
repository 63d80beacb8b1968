//! Who waits for a log to grow.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use slab::Slab;

use super::{PartitionId, Seq, StoreError};

/// Where each partition ends, and who waits for it to go on.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Ends>);

#[derive(Debug, Default)]
struct Ends {
    known: HashMap<PartitionId, Seq>,
    waiters: Slab<(PartitionId, Seq, Waker)>,
    /// How often the store has stopped: whoever waited before it is told.
    stops: u64,
}

impl Watch {
    /// Whether anything is known of a partition.
    #[cfg(feature = "redb")]
    pub(super) fn knows(&self, partition: PartitionId) -> bool {
        self.lock().known.contains_key(&partition)
    }

    /// The partition ends at `end`: wakes who waited for it. Never goes back.
    pub(super) fn advance(&self, partition: PartitionId, end: Seq) {
        let woken: Vec<Waker> = {
            let mut ends = self.lock();
            let known = ends.known.entry(partition).or_default();
            *known = end.max(*known);
            if ends.waiters.is_empty() {
                return;
            }
            let is_there = |(at, seq, _): &(PartitionId, Seq, Waker)| *at == partition && *seq < end;
            let there: Vec<usize> =
                ends.waiters.iter().filter(|(_, waiter)| is_there(waiter)).map(|(slot, _)| slot).collect();
            there.into_iter().map(|slot| ends.waiters.remove(slot).2).collect()
        };
        woken.into_iter().for_each(super::wake);
    }

    /// The store has stopped: all who wait are told, and nothing is known any more.
    #[cfg(feature = "redb")]
    pub(super) fn stop(&self) {
        let waiters = {
            let mut ends = self.lock();
            ends.stops += 1;
            ends.known.clear();
            std::mem::take(&mut ends.waiters)
        };
        waiters.into_iter().for_each(|(_, (_, _, waker))| super::wake(waker));
    }

    /// Resolves once the partition ends after `seq`.
    pub(super) fn appended(self: &Arc<Self>, partition: PartitionId, seq: Seq) -> Appended {
        let stops = self.lock().stops;
        Appended { watch: Arc::clone(self), partition, seq, stops, slot: None }
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a partition to go on.
#[derive(Debug)]
pub(super) struct Appended {
    watch: Arc<Watch>,
    partition: PartitionId,
    seq: Seq,
    stops: u64,
    slot: Option<usize>,
}

impl Future for Appended {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut ends = this.watch.lock();
        if ends.stops != this.stops {
            this.slot = None;
            return Poll::Ready(Err(StoreError::Closed));
        }
        if ends.known.get(&this.partition).is_some_and(|end| this.seq < *end) {
            // Whoever waits for what is there has been woken, and so taken out.
            this.slot = None;
            return Poll::Ready(Ok(()));
        }
        let waker = context.waker();
        match this.slot.and_then(|slot| ends.waiters.get_mut(slot)) {
            Some(waiter) => waiter.2.clone_from(waker),
            None => this.slot = Some(ends.waiters.insert((this.partition, this.seq, waker.clone()))),
        }
        Poll::Pending
    }
}

impl Drop for Appended {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        let mut ends = self.watch.lock();
        let waits = ends.known.get(&self.partition).is_none_or(|end| *end <= self.seq);
        if ends.stops == self.stops && waits {
            ends.waiters.try_remove(slot);
        }
    }
}
