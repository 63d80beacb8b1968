//! A stage under way: what it holds between two steps, and what a step does.
//!
//! A step is short: it reads what it needs (the log, states, due timers), then steps the chain with no wait in between, then
//! perhaps cuts an epoch and hands it over. Reads change nothing but what is in memory, so a step may be dropped at any of
//! them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::Pin,
    sync::Arc,
};

use futures_util::FutureExt;
use millstream_operators::{Timestamp, durable::Durable};

use super::{
    StageError, StageStatus, StateKey,
    border::{Border, Death, Done, Origin, Sink},
    contained::Contained,
    header::{Reached, StageCounts},
    input::Input,
    lane::Lane,
    moment::Moment,
    rows::TURNS,
    states::{LoadError, States},
    time::Time,
};
use crate::{
    event::{Key, Pattern},
    stage::Start,
    store::{CommitError, Committed, PageRecord, Reader, Seq, StoreFuture, Tenure},
};

/// How many records are taken in one step at most.
pub(super) const CHUNK: usize = 1_024;

/// How many epochs may be handed over and not committed yet.
const IN_FLIGHT: usize = 2;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something was done: step again.
    Again,
    /// Nothing can be done until an epoch has landed: wait for [`settle`](DurableStage::settle).
    Committing,
    /// All is taken and committed. Step again once the log has a record at or after `from`, or at `deadline`, if there is
    /// one, by the clock that `step` is given.
    Idle { from: Seq, deadline: Option<Timestamp> },
    /// Somebody has to look at it: see [`StageStatus::parked`]. A restart or a [`restore`](DurableStage::restore) tries again.
    Parked,
}

/// A durable stage, whatever its chain. It has no task: whoever runs it steps it.
pub(crate) trait DurableStage: fmt::Debug + Send {
    /// Which events it takes.
    fn pattern(&self) -> &Pattern;

    /// Drops all that is in memory and goes on from what the store says: at the start, and after every error of `step` or
    /// `settle`. Where the store knows nothing of the stage yet, it begins at `from`.
    ///
    /// A stage that does not fit what is stored is restored and then parked: no error.
    ///
    /// # Errors
    /// Where the store cannot be read, or the first commit of a new stage fails.
    fn restore(&mut self, tenure: Arc<Tenure>, from: Seq) -> StoreFuture<'_, Result<(), StageError>>;

    /// Takes what there is to take, a chunk at most, and hands over an epoch if it is time. `now` is the clock; one that goes
    /// back stands still.
    ///
    /// # Errors
    /// [`StageError`]. After a commit that failed nothing is in memory any more and every step is refused until `restore`.
    ///
    /// # Cancel safety
    /// It may be dropped and called again.
    fn step(&mut self, now: Timestamp) -> StoreFuture<'_, Result<Step, StageError>>;

    /// Waits until the oldest epoch that was handed over is committed; at once if there is none.
    ///
    /// # Errors
    /// As `step`.
    ///
    /// # Cancel safety
    /// It may be dropped and called again.
    fn settle(&mut self) -> StoreFuture<'_, Result<(), StageError>>;

    /// What it says of itself.
    fn status(&self) -> StageStatus;

    /// Takes a dead letter's event once more, before all that the log has. The letter is gone with the epoch that has the outcome.
    fn replay(&mut self, replayed: Replayed);

    /// The numbers of letters that were to be replayed and whose epoch is known not to have landed, or was not handed over and is
    /// dropped. With `all` also those that are on their way to an epoch: only for a stage that is not stepped before it is
    /// restored.
    fn take_back(&mut self, all: bool) -> Vec<u64>;

    /// Drops all that is in memory, and what was handed over with it: the claim is lost, and it is not restored.
    fn blank(&mut self);

    /// Parks it, for the store has damaged rows of it: it is stepped on until what it handed over has landed.
    fn park(&mut self, reason: String);

    /// Fires the timers of a parked key again, from the next step on. Says whether there was one.
    fn unpark(&mut self, key: &StateKey) -> bool;
}

/// A dead letter of the stage that is taken once more.
#[derive(Clone, Debug)]
pub(crate) struct Replayed {
    pub(crate) number: u64,
    /// Its event, as it lay in the log.
    pub(crate) record: PageRecord,
}

/// A record, and the number of the dead letter that it was, if it was one.
pub(super) type Taken = (PageRecord, Option<u64>);

/// A record, and what it turned out to be.
#[derive(Debug)]
pub(super) struct Decoded<In> {
    pub(super) record: PageRecord,
    pub(super) letter: Option<u64>,
    pub(super) item: Result<Item<In>, Death>,
}

#[derive(Debug)]
pub(super) struct Item<In> {
    pub(super) value: Contained<In>,
    pub(super) key: StateKey,
    /// The event's own time.
    pub(super) time: Timestamp,
    /// Its `at` is filled in when it is taken.
    pub(super) origin: Origin,
}

/// An epoch that was handed over.
pub(super) struct Flight {
    pub(super) epoch: u64,
    pub(super) cursor: Seq,
    /// How many events and timers it has.
    pub(super) size: usize,
    pub(super) done: Done,
    /// The letters that it replays.
    pub(super) letters: Vec<u64>,
    pub(super) commit: Pin<Box<dyn Future<Output = Result<Committed, CommitError>> + Send>>,
}

/// Where a stage is in its life.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Nothing in memory: it must be restored.
    Blank,
    Running,
    Parked(String),
}

/// Finds an item's key within its tenant.
pub(super) type KeyOf<In> = Arc<dyn Fn(&In) -> Key + Send + Sync>;

/// All about the epoch under way that a discard takes back.
#[derive(Debug, Default)]
pub(super) struct Draftwork {
    /// The records taken.
    pub(super) taken: Vec<Taken>,
    pub(super) taken_bytes: usize,
    /// Timers fired.
    pub(super) fired: usize,
    pub(super) sink: Sink,
    /// Of those that were to be given up, the ones that were.
    pub(super) buried: Vec<Seq>,
    pub(super) is_parked_changed: bool,
}

impl Draftwork {
    /// How many events and timers it has.
    pub(super) fn size(&self) -> usize {
        self.taken.len() + self.fired
    }
}

/// A [`Stage`](super::Stage) with its chain.
pub(super) struct Driven<In, O: Durable<In>> {
    pub(super) name: String,
    pub(super) pattern: Pattern,
    pub(super) key: Option<KeyOf<In>>,
    pub(super) drops_late: bool,
    /// How many events and timers an epoch has at most, as it was set and as it is after batches were too large.
    pub(super) epoch_limit: usize,
    /// The same while it is looked for whoever has made a state that cannot be written.
    pub(super) search_limit: usize,
    pub(super) border: Arc<dyn Border>,
    pub(super) phase: Phase,
    pub(super) tenure: Option<Arc<Tenure>>,
    pub(super) states: States<In, O>,
    pub(super) input: Input,
    pub(super) start: Start,
    /// Letters that are to be replayed.
    pub(super) replays: VecDeque<Replayed>,
    /// Those that were, and came to nothing.
    pub(super) returned: Vec<u64>,
    /// Records that were read and not taken.
    pub(super) decoded: VecDeque<Decoded<In>>,
    pub(super) time: Time,
    pub(super) counts: StageCounts,
    /// Time and counts when the last epoch was cut.
    pub(super) cut: (Reached, StageCounts),
    pub(super) work: Draftwork,
    /// Events that will be given up when they come, and why.
    pub(super) poisoned: BTreeMap<Seq, Death>,
    /// Keys that are not parked any more, and whose rows are still there.
    pub(super) unparked: Vec<StateKey>,
    /// The last epoch that was cut.
    pub(super) epoch: u64,
    /// The cursor of the last epoch that landed.
    pub(super) cursor: Seq,
    pub(super) in_flight: VecDeque<Flight>,
    /// The last timer that was fired, and how often in a row.
    pub(super) repeats: (Option<Moment>, u32),
}

impl<In, O: Durable<In>> fmt::Debug for Driven<In, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driven")
            .field("name", &self.name)
            .field("phase", &self.phase)
            .field("epoch", &self.epoch)
            .field("states", &self.states)
            .finish_non_exhaustive()
    }
}

/// Reads through a claim while the stage changes: the claim outlives the borrow.
pub(super) struct Reading(pub(super) Arc<Tenure>);

impl Reading {
    pub(super) fn reader(&self) -> &dyn Reader {
        self.0.reader()
    }
}

impl<In, O> Driven<In, O>
where
    In: super::StageItem,
    O: Durable<In, Out: crate::event::IntoDraft, State: Send> + Send,
{
    /// What was handed over is waited for all the same: nobody else tells what it has written.
    pub(super) fn park(&mut self, reason: String) {
        tracing::error!(stage = self.name, reason, "the stage is parked");
        let in_flight = std::mem::take(&mut self.in_flight);
        self.blank();
        self.in_flight = in_flight;
        self.phase = Phase::Parked(reason);
    }

    /// A stage that is parked has come to rest once all has landed that it handed over.
    fn parked(&self) -> Step {
        if self.in_flight.is_empty() { Step::Parked } else { Step::Committing }
    }

    /// Drops all that is in memory. What was handed over goes its own way.
    pub(super) fn blank(&mut self) {
        self.phase = Phase::Blank;
        self.take_replays_back();
        self.states.clear();
        self.decoded.clear();
        self.border.take_back(std::mem::take(&mut self.work.sink.done));
        self.work = Draftwork::default();
        for flight in std::mem::take(&mut self.in_flight) {
            self.take_back_flight(flight.done, false);
        }
        self.unparked.clear();
        self.repeats = (None, 0);
    }

    /// An epoch that was handed over is given up, and whether it is known that it has not landed.
    fn take_back_flight(&self, mut done: Done, is_known: bool) {
        if !is_known {
            done.delayed.clear();
        }
        self.border.take_back(done);
    }

    /// What was to be replayed and is in no epoch that was handed over.
    fn take_replays_back(&mut self) {
        self.returned.extend(self.work.taken.iter_mut().filter_map(|(_, letter)| letter.take()));
        self.returned.extend(self.decoded.iter_mut().filter_map(|decoded| decoded.letter.take()));
        self.returned.extend(self.replays.drain(..).map(|replayed| replayed.number));
    }

    /// A read that failed changes nothing; a state that does not fit parks the stage.
    fn unread(&mut self, error: LoadError) -> Result<Step, StageError> {
        match error {
            LoadError::Store(error) => Err(StageError::Read(error)),
            LoadError::Unfit(reason) => {
                self.park(reason);
                Ok(self.parked())
            }
        }
    }

    async fn run_step(&mut self, now: Timestamp) -> Result<Step, StageError> {
        self.land()?;
        let reading = match (&self.phase, &self.tenure) {
            (Phase::Parked(_), _) => return Ok(self.parked()),
            (Phase::Running, Some(tenure)) => Reading(Arc::clone(tenure)),
            _ => return Err(StageError::Blank),
        };
        if self.in_flight.len() >= IN_FLIGHT {
            return Ok(Step::Committing);
        }
        self.time.clock(now);
        if self.is_full() {
            return self.cut_epoch(&reading).await;
        }
        if self.decoded.is_empty() {
            if let Err(error) = self.input.fill(reading.reader()).await {
                return self.unread(error.into());
            }
            self.decode();
        }
        if let Err(error) = self.prefetch(&reading).await {
            return self.unread(error);
        }
        if self.run() {
            return Ok(Step::Again);
        }
        if matches!(self.phase, Phase::Parked(_)) {
            return Ok(self.parked());
        }
        if self.has_work() {
            return self.cut_epoch(&reading).await;
        }
        if !self.in_flight.is_empty() {
            return Ok(Step::Committing);
        }
        match self.states.find_first(reading.reader()).await {
            Ok(due) => {
                let deadline = due.and_then(|due| self.time.alarm(due));
                Ok(Step::Idle { from: self.input.position(), deadline })
            }
            Err(error) => self.unread(error),
        }
    }

    /// Brings into memory what the next run needs.
    async fn prefetch(&mut self, reading: &Reading) -> Result<(), LoadError> {
        let (upto, keys) = self.needed();
        self.states.prefetch(upto, keys, reading.reader()).await
    }

    /// Up to when timers are due in the next run, and the keys of its items.
    fn needed(&self) -> (Timestamp, Vec<StateKey>) {
        let chunk = self.decoded.iter().take(CHUNK);
        let items: Vec<_> = chunk.filter_map(|decoded| decoded.item.as_ref().ok()).collect();
        let latest = items.iter().map(|item| self.time.arrival(item.time).upto).max();
        let upto = latest.unwrap_or_else(|| self.time.upto(self.input.is_at_end()));
        (upto, items.into_iter().map(|item| item.key.clone()).collect())
    }

    async fn cut_epoch(&mut self, reading: &Reading) -> Result<Step, StageError> {
        match self.states.look_at_rows(reading.reader()).await {
            Ok(()) => {
                self.cut(&reading.0);
                Ok(Step::Again)
            }
            Err(error) => self.unread(error),
        }
    }

    /// Sees which epochs have landed.
    fn land(&mut self) -> Result<(), StageError> {
        while let Some(first) = self.in_flight.front_mut() {
            match (&mut first.commit).now_or_never() {
                None => break,
                Some(committed) => self.landed(committed)?,
            }
        }
        Ok(())
    }

    fn landed(&mut self, committed: Result<Committed, CommitError>) -> Result<(), StageError> {
        let Some(flight) = self.in_flight.pop_front() else { return Ok(()) };
        match committed {
            Ok(_) => {
                self.states.landed = flight.epoch;
                self.states.is_spared = false;
                self.cursor = flight.cursor;
                self.states.evict();
                Ok(())
            }
            Err(error) => self.refused(flight, error),
        }
    }

    /// An epoch is not known to be there: nor is any that builds on it.
    fn refused(&mut self, flight: Flight, error: CommitError) -> Result<(), StageError> {
        if !error.is_loss() {
            let flights = std::iter::once(&flight).chain(&self.in_flight);
            self.returned.extend(flights.flat_map(|flight| flight.letters.iter().copied()));
        }
        let Flight { epoch, size, done, .. } = flight;
        let later = std::mem::take(&mut self.in_flight).into_iter().map(|flight| flight.done);
        let is_known = !error.is_loss();
        std::iter::once(done).chain(later).for_each(|done| self.take_back_flight(done, is_known));
        match &error {
            CommitError::TooLarge { .. } if size > 1 => {
                self.epoch_limit = (size / 2).max(1);
                tracing::warn!(
                    stage = self.name,
                    events = self.epoch_limit,
                    "an epoch was too large: fewer events from now on"
                );
            }
            CommitError::TooLarge { .. } if !self.states.is_spared => self.states.is_spared = true,
            // The epoch before it is not there: what became of that one is told by its own error, or by the store.
            CommitError::Conflict { table: TURNS, .. } => {}
            CommitError::TooLarge { .. }
            | CommitError::Invalid { .. }
            | CommitError::Conflict { .. }
            | CommitError::Corrupt { .. } => {
                self.park(format!("epoch {epoch} cannot be committed: {error}"));
                return Ok(());
            }
            _ => {}
        }
        self.blank();
        Err(StageError::Commit(error))
    }

    async fn await_oldest(&mut self) -> Result<(), StageError> {
        let Some(first) = self.in_flight.front_mut() else { return Ok(()) };
        let committed = (&mut first.commit).await;
        self.landed(committed)
    }
}

impl<In, O> DurableStage for Driven<In, O>
where
    In: super::StageItem,
    O: Durable<In, Out: crate::event::IntoDraft, State: Send> + Send,
{
    fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    fn restore(&mut self, tenure: Arc<Tenure>, from: Seq) -> StoreFuture<'_, Result<(), StageError>> {
        Box::pin(self.run_restore(tenure, from))
    }

    fn step(&mut self, now: Timestamp) -> StoreFuture<'_, Result<Step, StageError>> {
        Box::pin(self.run_step(now))
    }

    fn settle(&mut self) -> StoreFuture<'_, Result<(), StageError>> {
        Box::pin(self.await_oldest())
    }

    fn status(&self) -> StageStatus {
        let parked = self.states.parked.iter().map(|(key, parked)| (key.clone(), parked.clone()));
        StageStatus {
            parked: if let Phase::Parked(reason) = &self.phase { Some(reason.clone()) } else { None },
            cursor: self.cursor,
            taken_to: self.taken_to(),
            epoch: self.states.landed,
            watermark: self.time.reached.watermark,
            counts: self.counts,
            keys: self.states.lanes.iter().map(Lane::len).sum(),
            bytes: self.states.bytes(),
            dirty: self.states.dirty.len(),
            deltas: self.states.deltas.len(),
            in_flight: self.in_flight.len(),
            parked_keys: parked.collect(),
        }
    }

    fn replay(&mut self, replayed: Replayed) {
        self.replays.push_back(replayed);
    }

    fn take_back(&mut self, all: bool) -> Vec<u64> {
        if all {
            self.take_replays_back();
        }
        std::mem::take(&mut self.returned)
    }

    fn blank(&mut self) {
        Driven::blank(self);
    }

    fn park(&mut self, reason: String) {
        Driven::park(self, reason);
    }

    fn unpark(&mut self, key: &StateKey) -> bool {
        let was_there = self.states.unpark(key);
        if was_there {
            self.unparked.push(key.clone());
            self.work.is_parked_changed = true;
        }
        was_there
    }
}
