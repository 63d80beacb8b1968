//! What the committer has to do, in the order in which it was handed over.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

use super::committer::Committer;
use crate::store::{CommitError, Committed, Op, PartitionId, Seq, StoreError, ticket::Settle};

/// How many batches may wait, and how many bytes. Whoever hands over more waits, on his thread, until the committer has
/// taken what is there.
const MAX_WAITING: usize = 65_536;
const MAX_WAITING_BYTES: usize = 256 << 20;
/// What is taken at once: so that one commit takes no longer than a few flushes.
const GROUP: usize = 8_192;
const GROUP_BYTES: usize = 8 << 20;

/// The right to write, as the committer knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permit {
    pub(super) fence: u64,
    /// How often the file was opened when it was given.
    pub(super) opening: u64,
}

/// A claim, as the committer answers it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    pub(super) permit: Permit,
    pub(super) end: Seq,
}

/// One thing to do.
pub(super) enum Job {
    Batch {
        partition: PartitionId,
        permit: Option<Permit>,
        ops: Vec<Op>,
        bytes: usize,
        settle: Settle<Result<Committed, CommitError>>,
    },
    Claim {
        partition: PartitionId,
        settle: Settle<Result<Granted, StoreError>>,
    },
    Release {
        settle: Settle<Result<(), StoreError>>,
    },
    /// Work on the database by itself.
    Tool(Box<dyn FnOnce(&mut Committer) + Send>),
}

impl Job {
    fn bytes(&self) -> usize {
        if let Self::Batch { bytes, .. } = self { *bytes } else { 0 }
    }
}

/// A bounded queue with one taker.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: usize,
    is_closed: bool,
    is_idle: bool,
    /// How many wait for room.
    crowd: usize,
    /// Who takes what is there.
    taker: Option<ThreadId>,
}

impl State {
    /// Whether the caller has to wait for room. Who would make it hands over at once: with an answer he wakes whoever has more to
    /// write, on his own thread.
    fn is_full(&self) -> bool {
        let is_full = self.jobs.len() >= MAX_WAITING || self.bytes >= MAX_WAITING_BYTES;
        is_full && self.taker != Some(thread::current().id())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a job over. Waits where the queue is full; drops the job where it is closed.
    pub(super) fn push(&self, job: Job) {
        let mut state = self.lock();
        while !state.is_closed && state.is_full() {
            state.crowd += 1;
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.crowd -= 1;
        }
        if state.is_closed {
            return;
        }
        state.bytes += job.bytes();
        state.jobs.push_back(job);
        if std::mem::take(&mut state.is_idle) {
            self.work.notify_one();
        }
    }

    /// Waits for jobs and takes what is there, as much as one commit should have. False where there is none and never will
    /// be.
    pub(super) fn take(&self, jobs: &mut VecDeque<Job>) -> bool {
        let mut state = self.lock();
        state.taker.get_or_insert_with(|| thread::current().id());
        while state.jobs.is_empty() {
            if state.is_closed {
                return false;
            }
            state.is_idle = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_idle = false;
        if state.jobs.len() <= GROUP && state.bytes <= GROUP_BYTES {
            std::mem::swap(jobs, &mut state.jobs);
            state.bytes = 0;
        } else {
            let mut bytes = 0;
            while let Some(job) = state.jobs.pop_front() {
                bytes += job.bytes();
                jobs.push_back(job);
                if jobs.len() >= GROUP || bytes >= GROUP_BYTES {
                    break;
                }
            }
            state.bytes -= bytes;
        }
        if state.crowd > 0 {
            self.room.notify_all();
        }
        true
    }

    /// Takes no more jobs; those that are there are still done.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.work.notify_all();
        self.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ticket::ticket;

    fn batch(bytes: usize) -> Job {
        Job::Batch { partition: PartitionId(0), permit: None, ops: Vec::new(), bytes, settle: ticket().0 }
    }

    #[test]
    fn whoever_takes_never_waits_for_room() {
        let (queue, mut jobs) = (Queue::default(), VecDeque::new());
        thread::scope(|threads| {
            let taker = threads.spawn(|| {
                queue.push(batch(MAX_WAITING_BYTES));
                assert!(queue.take(&mut jobs));
                (0..3).for_each(|_| queue.push(batch(MAX_WAITING_BYTES)));
                assert_eq!(queue.lock().bytes, 3 * MAX_WAITING_BYTES);
            });
            taker.join().expect("it does not wait");
        });
        assert!(queue.lock().is_full(), "anybody else does");
    }
}
