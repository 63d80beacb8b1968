//! The one thread that writes: it takes what was handed over while it wrote, commits it as one, and then answers.
//!
//! After a failure nothing more is written through the same handle. All who wait are told that the commit may have landed,
//! and the file is opened again by the next claim; the claims before it are void. Where the disk is full, the file is opened
//! again at once: if the commit is not in it, it has not landed and never will. The claims before it are void all the same, or
//! what was handed over behind it could land without it.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
};

use super::{
    Shared,
    fault::{Fault, contain, is_full},
    file::Opened,
    group::{Group, Kept, Shapes},
    queue::{Granted, Job},
    tables::{self, PARTITION},
};
use crate::store::{CommitError, Committed, StoreError, ticket::Settle};

type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Whether anything can be written.
enum Health {
    Fine,
    /// A commit has failed and may have landed.
    Broken(Cause),
}

/// What somebody waits for, and what he is told once the commit has landed.
enum Answer {
    Batch(Settle<Result<Committed, CommitError>>, Result<Committed, CommitError>),
    Claim(Settle<Result<Granted, StoreError>>, Result<Granted, StoreError>),
    Release(Settle<Result<(), StoreError>>),
}

impl Answer {
    fn give(self) {
        match self {
            Self::Batch(settle, answer) => settle.settle(answer),
            Self::Claim(settle, answer) => settle.settle(answer),
            Self::Release(settle) => settle.settle(Ok(())),
        }
    }

    fn fail(self, cause: &Failure) {
        match self {
            Self::Batch(settle, _) => settle.settle(Err(cause.to_commit())),
            Self::Claim(settle, _) => settle.settle(Err(cause.to_store())),
            Self::Release(settle) => settle.settle(Err(cause.to_store())),
        }
    }
}

/// Why nothing can be written.
#[derive(Clone)]
enum Failure {
    Full,
    Unknown(Cause),
}

impl Failure {
    fn to_commit(&self) -> CommitError {
        match self {
            Self::Full => CommitError::Full,
            Self::Unknown(source) => CommitError::Unknown { source: Arc::clone(source) },
        }
    }

    fn to_store(&self) -> StoreError {
        match self {
            Self::Full => StoreError::Full,
            Self::Unknown(source) => StoreError::Io { what: "committing".into(), source: Arc::clone(source) },
        }
    }
}

/// Writes for all.
pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    kept: Kept,
    opening: u64,
    health: Health,
    /// What the last commit has written, or has tried to.
    written: Shapes,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, kept: Kept::default(), opening: 0, health: Health::Fine, written: Vec::new() }
    }

    /// Works until the queue is closed and empty, then closes the file.
    pub(super) fn run(mut self) {
        let mut jobs = VecDeque::new();
        while self.shared.queue.take(&mut jobs) {
            while !jobs.is_empty() {
                self.step(&mut jobs);
            }
        }
        self.close();
        self.shared.watch.stop();
    }

    fn step(&mut self, jobs: &mut VecDeque<Job>) {
        match (&self.health, jobs.front()) {
            (_, Some(Job::Tool(_))) => {
                if let Some(Job::Tool(work)) = jobs.pop_front() {
                    work(self);
                }
            }
            (Health::Fine, _) => self.commit(jobs),
            (Health::Broken(_), Some(Job::Claim { .. })) => self.reopen(jobs),
            (Health::Broken(cause), _) => {
                let failure = Failure::Unknown(Arc::clone(cause));
                jobs.pop_front().into_iter().for_each(|job| refuse(job, &failure));
            }
        }
    }

    /// Opens the file again for a claim; where that fails, the one who claims is told why.
    fn reopen(&mut self, jobs: &mut VecDeque<Job>) {
        match self.shared.source.open(self.shared.settings) {
            Ok(opened) => {
                self.opening += 1;
                self.shared.set(Some(opened));
                self.health = Health::Fine;
            }
            Err(error) => {
                if let Some(Job::Claim { settle, .. }) = jobs.pop_front() {
                    settle.settle(Err(error));
                }
            }
        }
    }

    /// Commits all jobs up to the next that has to be alone.
    fn commit(&mut self, jobs: &mut VecDeque<Job>) {
        let mut answers = Vec::with_capacity(jobs.len());
        let shared = Arc::clone(&self.shared);
        let done = {
            let guard = shared.database();
            match guard.as_ref() {
                Some(opened) => {
                    let done = contain(|| self.attempt(&opened.database, opened.seen.bytes(), jobs, &mut answers));
                    done.map_err(|fault| {
                        opened.seen.stop();
                        let is_full = fault.is_full() || opened.seen.failure().is_some_and(is_full);
                        (fault, is_full)
                    })
                }
                None => Err((Fault::Stopped(StoreError::Closed), false)),
            }
        };
        match done {
            Ok(()) => {
                // Before the answers: who waits for records must be awake when a clock that was held runs again.
                for (partition, shape) in &self.written {
                    shared.watch.advance(*partition, shape.next);
                }
                answers.into_iter().for_each(Answer::give);
            }
            Err((fault, is_full)) => self.fail(fault, is_full, answers),
        }
    }

    fn attempt(
        &mut self,
        database: &redb::Database,
        bytes: u64,
        jobs: &mut VecDeque<Job>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Fault> {
        self.written.clear();
        let mut txn = database.begin_write()?;
        txn.set_quick_repair(bytes > self.shared.settings.quick_repair);
        let mut group = Group::begin(&txn, &mut self.kept, self.opening)?;
        while let Some(job) = jobs.pop_front() {
            match job {
                Job::Batch { partition, permit, ops, settle, .. } => {
                    // Whatever happens to it, somebody waits for an answer.
                    answers.push(Answer::Batch(settle, Err(CommitError::Fenced)));
                    let answer = group.add(partition, permit, ops)?;
                    if let Some(Answer::Batch(_, place)) = answers.last_mut() {
                        *place = answer;
                    }
                }
                Job::Claim { partition, settle } => {
                    answers.push(Answer::Claim(settle, Err(StoreError::Fenced)));
                    let answer = group.claim(partition)?;
                    if let Some(Answer::Claim(_, place)) = answers.last_mut() {
                        *place = answer;
                    }
                }
                Job::Release { settle } => answers.push(Answer::Release(settle)),
                Job::Tool(_) => {
                    jobs.push_front(job);
                    break;
                }
            }
        }
        let Some(shapes) = group.write()? else {
            // The names of tables that were new in it are not in the file either.
            self.kept.forget_tables();
            return Ok(txn.abort()?);
        };
        self.written = shapes;
        txn.commit()?;
        Ok(())
    }

    fn fail(&mut self, fault: Fault, is_full: bool, answers: Vec<Answer>) {
        let cause = fault.committing();
        let failure = if is_full && self.has_not_landed() {
            Failure::Full
        } else {
            self.stop(Arc::clone(&cause));
            Failure::Unknown(cause)
        };
        for answer in answers {
            answer.fail(&failure);
        }
    }

    /// Opens the file again and looks whether the commit that failed is in it. Where it is not, work goes on: what is opened
    /// now is what is built upon, so it never will be.
    fn has_not_landed(&mut self) -> bool {
        self.close();
        self.kept = Kept::default();
        let Ok(opened) = self.shared.source.open(self.shared.settings) else { return false };
        self.opening += 1;
        self.shared.set(Some(opened));
        let look = contain(|| {
            let Some((partition, shape)) = self.written.first() else { return Ok(true) };
            let table = self.shared.snapshot()?.open_table(tables::definition(PARTITION))?;
            Ok(tables::shape(&table, *partition)?.commits < shape.commits)
        });
        look.unwrap_or(false)
    }

    /// Works on the database while nobody else reads or writes. A failure is one of the store.
    pub(super) fn exclusively<T>(
        &mut self,
        work: impl FnOnce(&mut Opened) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let mut guard = shared.database.write().unwrap_or_else(PoisonError::into_inner);
        let opened = guard.as_mut().ok_or(StoreError::Closed)?;
        let done = contain(|| work(opened));
        let has_failed = done.is_err() && opened.seen.failure().is_some();
        drop(guard);
        done.map_err(|fault| {
            let is_structural = matches!(fault, Fault::Panicked(_));
            let fault = Arc::new(fault);
            if has_failed || is_structural {
                self.stop(Arc::clone(&fault) as Cause);
            }
            StoreError::Io { what: "compacting".into(), source: fault }
        })
    }

    /// Nothing is written any more before the next claim.
    fn stop(&mut self, cause: Cause) {
        self.close();
        self.kept = Kept::default();
        self.health = Health::Broken(cause);
        self.shared.watch.stop();
    }

    /// Closes the file. redb may panic while it does, where it is damaged.
    fn close(&self) {
        let opened = self.shared.set(None);
        // What was acknowledged is on disk: a failure to close costs a repair at the next opening, nothing else.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(opened)));
    }
}

fn refuse(job: Job, failure: &Failure) {
    match job {
        Job::Batch { settle, .. } => settle.settle(Err(failure.to_commit())),
        Job::Claim { settle, .. } => settle.settle(Err(failure.to_store())),
        Job::Release { settle } => settle.settle(Err(failure.to_store())),
        Job::Tool(_) => {}
    }
}
