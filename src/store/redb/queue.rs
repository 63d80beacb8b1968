//! What the committer has to do, in the order in which it was handed over.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

use super::committer::Committer;
use crate::store::{CommitError, Committed, Op, PartitionId, Seq, StoreError, ticket::Settle};

/// How many batches may wait, and how many bytes. Whoever hands over more waits, on his thread, until the committer has
/// taken what is there; but not the committer himself, who does so where he wakes somebody with an answer.
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
    /// Who takes: he must not wait for himself.
    taker: Option<ThreadId>,
}

impl State {
    fn is_full(&self) -> bool {
        self.jobs.len() >= MAX_WAITING || self.bytes >= MAX_WAITING_BYTES
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a job over. Waits where the queue is full; drops the job where it is closed.
    pub(super) fn push(&self, job: Job) {
        let mut state = self.lock();
        while !state.is_closed && state.is_full() && state.taker != Some(thread::current().id()) {
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
