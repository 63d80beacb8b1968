//! Drives a store through a workload on a simulated disk, and writes its history.
//!
//! The same seed drives the same store in the same way, to the last request to the disk: batches that are to be committed
//! together are handed over while the disk holds back the one before them.

use std::{future::ready, sync::Arc, time::Duration};

use fastrand::Rng;
use millstream::store::{Claim, CommitError, Committed, Op, Partition, Store, StoreError};

use crate::{
    author::{Author, STRANGERS},
    check::check,
    disk::{Fault, FaultKind, SimDisk},
    found::{Found, ReadError},
    history::{Caller, Claimed, Duty, Entry, Fate, HERE, History},
    wait::{Hang, Waiting, wait},
};

/// How a store is opened.
pub trait Opens: Send + Sync {
    /// Opens the store that is on this disk, or makes one on an empty disk.
    ///
    /// # Errors
    /// What the store says.
    fn open(&self, disk: &SimDisk) -> Result<Arc<dyn Store>, StoreError>;

    /// Opens what a crash has left. The same, but where a bug was planted that is not to be there when one looks for it.
    ///
    /// # Errors
    /// What the store says.
    fn open_again(&self, disk: &SimDisk) -> Result<Arc<dyn Store>, StoreError> {
        self.open(disk)
    }
}

/// How a store is opened in a run, by its number.
pub type OpensFor<'a> = dyn Fn(u64) -> Box<dyn Opens> + Sync + 'a;

/// What a drive was like.
#[derive(Debug, Default)]
pub struct Driven {
    /// What was asked and answered.
    pub history: History,
    /// What was wrong already while it ran.
    pub wrong: Vec<String>,
    /// How often the store said that something failed.
    pub reported: u64,
}

/// Faults that strike one after the other, each so many requests after the one before.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The first, if any.
    pub first: Option<Fault>,
    /// Goes on with others by this chance.
    pub seed: Option<u64>,
}

impl Faults {
    /// Lets the next one strike, if there is one.
    pub fn next(&mut self, disk: &SimDisk) {
        if let Some(first) = self.first.take() {
            disk.break_at(first);
        } else if let Some(seed) = &mut self.seed {
            let mut rng = Rng::with_seed(*seed);
            *seed = rng.u64(..);
            let kind = FaultKind::ALL[rng.usize(..FaultKind::ALL.len())];
            disk.break_at(Fault { at: disk.asked() + rng.u64(..400), kind, lasts: rng.bool() });
        }
    }
}

/// Drives a store for so many rounds.
///
/// # Errors
/// [`Hang`] if the store does not answer; then nothing of it can be dropped safely, and the process had better end.
pub fn drive(opens: &dyn Opens, disk: &SimDisk, seed: u64, rounds: usize, faults: Faults) -> Result<Driven, Hang> {
    let mut drive = Drive::new(opens, disk, seed, faults);
    drive.faults.next(disk);
    drive.open()?;
    for _ in 0..rounds {
        drive.round()?;
        drive.mend()?;
    }
    // Whatever the seed, each drive sees that a claim keeps the one before it out.
    drive.claim_again()?;
    drive.mend()?;
    drive.look()?;
    drive.mend()?;
    drive.close()?;
    Ok(drive.driven)
}

struct Drive<'a> {
    opens: &'a dyn Opens,
    disk: &'a SimDisk,
    rng: Rng,
    author: Author,
    faults: Faults,
    has_faults: bool,
    store: Option<Arc<dyn Store>>,
    holder: Option<Box<dyn Partition>>,
    /// Something failed, and the partition has to be claimed again.
    is_lost: bool,
    driven: Driven,
}

impl<'a> Drive<'a> {
    fn new(opens: &'a dyn Opens, disk: &'a SimDisk, seed: u64, faults: Faults) -> Self {
        Self {
            opens,
            disk,
            rng: Rng::with_seed(seed),
            author: Author::new(seed),
            has_faults: faults.first.is_some(),
            faults,
            store: None,
            holder: None,
            is_lost: false,
            driven: Driven::default(),
        }
    }

    fn say(&mut self, what: impl Into<String>) {
        self.driven.wrong.push(what.into());
    }

    /// Something failed: that is wrong where nothing was broken.
    fn report(&mut self, what: &str, error: &dyn std::fmt::Display) {
        self.driven.reported += 1;
        self.is_lost = true;
        if !self.has_faults {
            self.say(format!("{what}: {error}"));
        }
    }

    fn claims(&self) -> usize {
        self.driven.history.claims.len()
    }

    fn round(&mut self) -> Result<(), Hang> {
        match self.rng.u8(..100) {
            0..45 => self.alone(),
            45..85 => self.together(),
            85..91 => self.claim_again(),
            91..95 => self.reopen(),
            _ => self.look(),
        }
    }

    fn any_caller(&mut self) -> Caller {
        let strangers = usize::from(STRANGERS);
        match self.rng.usize(..strangers * 2) {
            who if who < strangers => Caller::Stranger(u8::try_from(who).unwrap_or_default()),
            _ => Caller::Holder(self.claims()),
        }
    }

    fn alone(&mut self) -> Result<(), Hang> {
        let caller = self.any_caller();
        let (ops, duty) = self.author.batch(caller, &self.driven.history);
        let handed = self.hand_over(caller, ops, duty);
        self.settle(handed)
    }

    /// Several batches that are committed together, behind one that is committed alone.
    fn together(&mut self) -> Result<(), Hang> {
        let mut handed = vec![self.plug()];
        for _ in 0..self.rng.usize(1..6) {
            let caller = self.any_caller();
            let (ops, duty) = self.author.batch(caller, &self.driven.history);
            handed.push(self.hand_over(caller, ops, duty));
        }
        self.disk.release();
        handed.into_iter().try_for_each(|handed| self.settle(handed))
    }

    /// Another claims the partition while a batch of the one who holds it is on its way; what that one hands over later is
    /// refused.
    fn claim_again(&mut self) -> Result<(), Hang> {
        let (Some(store), old) = (self.store.clone(), Caller::Holder(self.claims())) else { return Ok(()) };
        let plug = self.plug();
        let (ops, _) = self.author.batch(old, &self.driven.history);
        let behind = self.hand_over(old, ops, Duty::MayFence);
        let claim = Waiting::new(store.claim(HERE), self.disk);
        self.disk.release();
        self.settle(plug)?;
        self.settle(behind)?;
        match claim.wait()? {
            (Err(error), _) => self.report("a claim failed", &error),
            (Ok(claim), at) => {
                let (ops, _) = self.author.batch(old, &self.driven.history);
                let late = self.hand_over(old, ops, Duty::Fence);
                self.settle(late)?;
                self.claimed(claim, at);
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), Hang> {
        self.close()?;
        self.open()
    }

    /// Gives the partition back and closes the store.
    fn close(&mut self) -> Result<(), Hang> {
        if let Some(holder) = self.holder.take()
            && let Err(error) = wait(holder.release())?
        {
            self.report("a release failed", &error);
        }
        self.store = None;
        Ok(())
    }

    /// Opens the store and claims the partition. On a broken disk it may fail; on one that was mended it must not.
    fn open(&mut self) -> Result<(), Hang> {
        for is_mended in [false, true] {
            if is_mended {
                self.disk.mend();
            }
            // A store that is opened anew cannot know of a sync that failed before.
            self.disk.drop_cache();
            match self.opens.open(self.disk) {
                Ok(store) => self.store = Some(store),
                Err(error) => self.report("the store does not open", &error),
            }
            if self.claim()? {
                return Ok(());
            }
            (self.holder, self.store) = (None, None);
        }
        self.say("the store does not open on a disk that was mended");
        Ok(())
    }

    fn claim(&mut self) -> Result<bool, Hang> {
        let Some(store) = &self.store else { return Ok(false) };
        match Waiting::new(store.claim(HERE), self.disk).wait()? {
            (Ok(claim), at) => self.claimed(claim, at),
            (Err(error), _) => {
                self.report("a claim failed", &error);
                return Ok(false);
            }
        }
        self.is_lost = false;
        Ok(true)
    }

    fn claimed(&mut self, claim: Claim, at: usize) {
        let (fence, end) = (claim.fence, claim.end);
        if let Some(last) = self.driven.history.claims.last().filter(|last| last.fence >= fence || last.end > end) {
            self.driven.wrong.push(format!("claim {fence} at {} comes after {} at {}", end.0, last.fence, last.end.0));
        }
        self.driven.history.claims.push(Claimed { at, fence, end });
        self.holder = Some(claim.partition);
    }

    /// After a failure: claims again, on the same store if it lets us, else on one that is opened anew. All that was
    /// acknowledged must be there.
    fn mend(&mut self) -> Result<(), Hang> {
        if !self.is_lost {
            return Ok(());
        }
        self.holder = None;
        let mut is_held = self.claim()?;
        if !is_held && self.disk.is_broken() && self.rng.bool() {
            self.disk.mend();
            is_held = self.claim()?;
        }
        if !is_held {
            self.store = None;
            self.open()?;
        }
        if self.faults.seed.is_some() && !self.disk.is_broken() {
            self.faults.next(self.disk);
        }
        self.look()
    }

    /// Reads all and holds it to the history.
    fn look(&mut self) -> Result<(), Hang> {
        let Some(store) = &self.store else { return Ok(()) };
        match Found::read(&**store) {
            Err(ReadError::Hang(hang)) => return Err(hang),
            Err(ReadError::Absurd(what)) => self.say(what),
            Err(ReadError::Store(error)) => self.report("a read failed", &error),
            Ok(found) => self.driven.wrong.extend(check(&self.driven.history, usize::MAX, &found)),
        }
        Ok(())
    }

    /// A batch that keeps the disk busy until it is released.
    fn plug(&mut self) -> Handed {
        self.disk.hold();
        let ops = Author::plug(&self.driven.history);
        let mut plug = self.hand_over(Caller::Holder(self.claims()), ops, Duty::Commit);
        while !plug.1.is_told() && !self.disk.wait_held(Duration::from_millis(1)) {}
        plug
    }

    fn hand_over(&mut self, caller: Caller, ops: Vec<Op>, duty: Duty) -> Handed {
        let number = self.driven.history.entries.len();
        let handed = self.disk.position();
        let entry = Entry { caller, ops: ops.clone(), duty, handed, fate: Fate::Open };
        self.driven.history.entries.push(entry);
        let future = match (caller, &mut self.holder, &self.store) {
            (Caller::Holder(_), Some(holder), _) => holder.commit(ops),
            (Caller::Stranger(_), _, Some(store)) => store.append(HERE, ops),
            _ => Box::pin(ready(Err(CommitError::Fenced))),
        };
        (number, Waiting::new(future, self.disk))
    }

    /// Waits for what becomes of a batch, and whether it may.
    fn settle(&mut self, (number, waiting): Handed) -> Result<(), Hang> {
        let (answer, at) = waiting.wait()?;
        let duty = self.driven.history.entries[number].duty;
        let fate = match answer {
            Ok(committed) => self.acked(number, committed, at),
            Err(error) => self.failed(number, error, at),
        };
        let is_refused = matches!(fate, Fate::Refused { .. });
        if let (Fate::Acked { .. }, Duty::Refuse | Duty::Fence) = (&fate, duty) {
            self.say(format!("batch {number} was committed, but had to be refused: {duty:?}"));
        }
        if is_refused && duty == Duty::Commit && !self.has_faults {
            self.say(format!("batch {number} was refused: {fate:?}"));
        }
        self.driven.history.entries[number].fate = fate;
        Ok(())
    }

    fn acked(&mut self, number: usize, committed: Committed, at: usize) -> Fate {
        let Committed { appended, end, .. } = committed;
        let records = self.driven.history.entries[number].records().filter(|written| written.to == HERE).count();
        if appended.len() != records || !appended.is_sorted() || appended.last().is_some_and(|last| *last >= end) {
            self.say(format!("batch {number} has {records} records at {appended:?}, and ends at {end:?}"));
        }
        Fate::Acked { at, appended, end }
    }

    fn failed(&mut self, number: usize, error: CommitError, at: usize) -> Fate {
        let duty = self.driven.history.entries[number].duty;
        match (&error, duty) {
            (CommitError::Conflict { .. }, _) => self.look_at_conflict(number, &error),
            (CommitError::Invalid { .. }, Duty::Refuse) | (CommitError::Fenced, Duty::Fence | Duty::MayFence) => {}
            (CommitError::Full, _) => self.report("a commit failed", &error),
            _ => {
                self.report("a commit failed", &error);
                return Fate::Unknown;
            }
        }
        Fate::Refused { at, error }
    }

    /// Only a row that another batch wrote, or may have written, is in the way.
    fn look_at_conflict(&mut self, number: usize, error: &CommitError) {
        let CommitError::Conflict { table, key, .. } = error else { return };
        let writes = |op: &Op| match op {
            Op::PutNew { table: to, key: at, .. } => (to, at) == (table, key),
            Op::Append { records, .. } => {
                records.iter().flat_map(|record| &record.keys).any(|row| (&row.table, &row.key) == (table, key))
            }
            _ => false,
        };
        let standing = self.driven.history.entries.iter().filter(|entry| !matches!(entry.fate, Fate::Refused { .. }));
        if !standing.flat_map(|entry| &entry.ops).any(writes) {
            self.say(format!("batch {number} was refused for a row that nobody wrote: {error}"));
        }
    }
}

/// A batch on its way, by its number.
type Handed = (usize, Waiting<Result<Committed, CommitError>>);
