//! Operator stages under way: each is stepped while there is something to take, and restored where the partition was lost.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use millstream_operators::Timestamp;

use super::{Durable, Pending, border::StageBorder};
use crate::{
    dead_letter::DeadLetter,
    dispatch::Dispatcher,
    epoch::{DurableStage, Replayed, StageError, StageStatus, StateKey, Step},
    event,
    stage::{Start, contained},
    store::{Seq, StoreError, Tenure},
};

/// A stage that was given to the runtime.
#[derive(Debug)]
pub(crate) struct NewStage {
    pub(crate) stage: Box<dyn DurableStage>,
    pub(crate) border: Arc<StageBorder>,
    pub(crate) start: Start,
    /// Where the log ended when it was given, once that is known.
    pub(crate) end: Arc<OnceLock<Seq>>,
}

/// What is to be done with a stage next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Restore,
    Step,
    Settle,
    Idle {
        from: Seq,
        deadline: Option<Timestamp>,
    },
    /// Somebody has to look at it.
    Parked,
}

/// What a piece of work came to.
enum Done {
    Restored(Result<(), StageError>),
    Stepped(Result<Step, StageError>),
    Settled(Result<(), StageError>),
}

/// A stage, and what it does now.
pub(super) struct Runner {
    new: NewStagePart,
    /// None while it works.
    pub(super) stage: Option<Box<dyn DurableStage>>,
    work: Option<Pending<(Box<dyn DurableStage>, Done)>>,
    pub(super) next: Next,
    /// The partition was lost: whatever the work comes to, it is restored.
    is_lost: bool,
    /// Whether it knows how far it is.
    is_restored: bool,
    /// Keys whose timers are to fire again.
    unpark: Vec<StateKey>,
    /// Those of them that the stage knows of, since all was last committed.
    unparked: Vec<StateKey>,
    /// Dead letters that are replayed, until they are gone.
    pub(super) replaying: HashMap<u64, DeadLetter>,
    /// Those of them that the stage has not been given, and when they are due.
    pub(super) queued: Vec<(Timestamp, Replayed)>,
    pub(super) status: StageStatus,
}

/// What is known of a stage beside itself.
pub(super) struct NewStagePart {
    pub(super) border: Arc<StageBorder>,
    start: Start,
    end: Arc<OnceLock<Seq>>,
}

/// The key under which the place is marked where a stage begins: no subscription's name begins like that.
pub(crate) fn start_key(stage: &str) -> String {
    format!("{STAGE}{stage}")
}

/// What the key of a stage's beginning begins with.
pub(super) const STAGE: char = '\0';

/// Pieces of work of one stage in a round, so that others have their turn.
const TURNS: usize = 4;

impl Runner {
    pub(super) fn new(new: NewStage) -> Self {
        let NewStage { stage, border, start, end } = new;
        let status = stage.status();
        let new = NewStagePart { border, start, end };
        Self {
            new,
            stage: Some(stage),
            work: None,
            next: Next::Restore,
            is_lost: false,
            is_restored: false,
            unpark: Vec::new(),
            unparked: Vec::new(),
            replaying: HashMap::new(),
            queued: Vec::new(),
            status,
        }
    }

    pub(super) fn border(&self) -> &StageBorder {
        &self.new.border
    }

    /// All before it is done.
    pub(super) fn cursor(&self) -> Option<Seq> {
        (self.is_restored && self.next != Next::Restore).then_some(self.status.cursor)
    }

    pub(super) fn is_quiet(&self, end: Seq, now: Timestamp) -> bool {
        match self.next {
            Next::Idle { from, deadline } => {
                self.work.is_none()
                    && self.queued.is_empty()
                    && end <= from
                    && deadline.is_none_or(|deadline| deadline > now)
            }
            Next::Parked => self.work.is_none(),
            Next::Restore | Next::Step | Next::Settle => false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let Next::Idle { deadline, .. } = self.next else { return None };
        deadline.into_iter().chain(self.queued.iter().map(|(due, _)| *due)).min()
    }

    /// Where it begins if the store knows nothing of it yet; none while that is not known.
    pub(super) fn beginning(&self, starts: &HashMap<String, Seq>) -> Option<Seq> {
        let marked = starts.get(&start_key(&self.new.border.stage)).copied();
        marked.or_else(|| Durable::start_of(self.new.start, self.new.end.get().copied()))
    }

    pub(super) fn lose(&mut self) {
        self.is_lost = self.work.is_some();
        (self.is_restored, self.next) = (false, Next::Restore);
        self.new.border.forget_letters();
        self.forget_replays();
    }

    /// Somebody has to look at it, once what it handed over has landed.
    fn park(&mut self, reason: String) {
        let Some(stage) = &mut self.stage else { return };
        stage.park(reason);
        self.status = stage.status();
        self.next = Next::Step;
    }

    /// Begins what is next. Whether there is something.
    fn begin(&mut self, tenure: &Arc<Tenure>, start: Option<Seq>, end: Seq, now: Timestamp) -> bool {
        if let Next::Idle { from, deadline } = self.next
            && (end > from || deadline.is_some_and(|deadline| deadline <= now))
        {
            self.next = Next::Step;
        }
        self.give_due(now);
        let Some(mut stage) = self.stage.take() else { return false };
        // Before it is restored it knows of no key.
        let unpark = if self.next == Next::Restore { Vec::new() } else { std::mem::take(&mut self.unpark) };
        for key in unpark {
            if stage.unpark(&key) {
                if !self.unparked.contains(&key) {
                    self.unparked.push(key);
                }
                if matches!(self.next, Next::Idle { .. }) {
                    self.next = Next::Step;
                }
            }
        }
        let (tenure, next) = (Arc::clone(tenure), self.next);
        let start = match (next, start) {
            (Next::Idle { .. } | Next::Parked, _) | (Next::Restore, None) => {
                self.stage = Some(stage);
                return false;
            }
            (_, start) => start.unwrap_or_default(),
        };
        self.work = Some(Box::pin(async move {
            let done = match next {
                Next::Restore => Done::Restored(stage.restore(tenure, start).await),
                Next::Settle => Done::Settled(stage.settle().await),
                Next::Step | Next::Idle { .. } | Next::Parked => Done::Stepped(stage.step(now).await),
            };
            (stage, done)
        }));
        true
    }

    /// Goes on with what was begun.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StageError>> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let (stage, done) = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        self.status = stage.status();
        self.stage = Some(stage);
        if std::mem::take(&mut self.is_lost) {
            self.next = Next::Restore;
            // What is queued was read after the loss.
            self.take_replays_back();
            return Poll::Ready(Ok(()));
        }
        match &done {
            Done::Stepped(Ok(Step::Idle { .. })) => self.unparked.clear(),
            // What it knew is gone with all that is not committed.
            Done::Restored(restored) => {
                self.is_restored = restored.is_ok();
                self.unpark.append(&mut self.unparked);
            }
            _ => {}
        }
        let (next, result) = match done {
            Done::Restored(Ok(())) | Done::Settled(Ok(())) | Done::Stepped(Ok(Step::Again)) => (Next::Step, Ok(())),
            Done::Stepped(Ok(Step::Committing)) => (Next::Settle, Ok(())),
            Done::Stepped(Ok(Step::Idle { from, deadline })) => (Next::Idle { from, deadline }, Ok(())),
            Done::Stepped(Ok(Step::Parked)) => (Next::Parked, Ok(())),
            Done::Restored(Err(error)) | Done::Settled(Err(error)) | Done::Stepped(Err(error)) => {
                (Next::Restore, Err(error))
            }
        };
        self.next = next;
        Poll::Ready(result)
    }
}

impl Dispatcher {
    /// Rows of a name are gone for which stages were parked before they could begin: they begin now.
    pub(super) fn begin_stages_again(&mut self) {
        let Some(durable) = &mut self.durable else { return };
        for runner in durable.stages.iter_mut().filter(|runner| !runner.is_restored && runner.next == Next::Parked) {
            (runner.is_lost, runner.next) = (runner.work.is_some(), Next::Restore);
        }
    }

    /// A stage joins.
    pub(in crate::dispatch) fn add_stage(&mut self, new: NewStage) {
        if let Some(durable) = &mut self.durable {
            durable.stages.push(Runner::new(new));
        }
        self.replay_asked();
    }

    /// The timers of a parked key fire again.
    pub(in crate::dispatch) fn unpark(&mut self, stage: &str, key: StateKey) {
        let Some(durable) = &mut self.durable else { return };
        if let Some(runner) = durable.stages.iter_mut().find(|runner| &*runner.border().stage == stage) {
            runner.unpark.push(key);
        }
    }

    /// Steps the stages as far as they can go now.
    pub(super) fn step_stages(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        let count = self.durable.as_ref().map_or(0, |durable| durable.stages.len());
        for place in 0..count {
            for _ in 0..TURNS {
                let Some(result) = self.step_stage(place, cx) else { break };
                moved = true;
                if let Err(error) = result
                    && self.stage_failed(place, error)
                {
                    return true;
                }
                self.return_replays(place);
            }
        }
        if moved {
            self.tell_stages();
        }
        moved
    }

    /// One piece of work; none where there is nothing to do now.
    fn step_stage(&mut self, place: usize, cx: &mut Context<'_>) -> Option<Result<(), StageError>> {
        let durable = self.durable.as_mut()?;
        let tenure = Arc::clone(durable.tenure()?);
        let end = durable.tail.end();
        if durable.is_being_forgotten(&durable.stages[place].new.border.stage) {
            // It begins anew after that.
            return None;
        }
        let stage = Arc::clone(&durable.stages[place].new.border.stage);
        let harm = self.harm_of_stage(&stage);
        let durable = self.durable.as_mut()?;
        let runner = &mut durable.stages[place];
        if let Some(why) = harm.filter(|_| runner.next == Next::Restore && runner.work.is_none()) {
            // What it handed over under another claim is nobody's business any more.
            runner.stage.iter_mut().for_each(|stage| stage.blank());
            runner.park(why);
        }
        if runner.work.is_none() {
            let start = runner.beginning(&durable.starts);
            if !runner.begin(&tenure, start, end, self.now) {
                return None;
            }
        }
        match runner.poll(cx) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// Whether the partition is lost with it.
    fn stage_failed(&mut self, place: usize, error: StageError) -> bool {
        match error {
            StageError::Blank => return false,
            StageError::Commit(error) if !error.is_loss() => return false,
            StageError::Commit(error) => {
                self.lose(StoreError::Io { what: "a stage's commit".to_owned(), source: Arc::new(error) });
            }
            StageError::Read(error @ StoreError::Corrupt { .. }) => {
                let Some(durable) = &mut self.durable else { return false };
                let runner = &mut durable.stages[place];
                tracing::error!(stage = &*runner.border().stage, %error, "a stage has met damage");
                runner.park(error.to_string());
                return false;
            }
            StageError::Read(error) => self.lose(error),
        }
        true
    }

    /// Says how the stages are.
    fn tell_stages(&mut self) {
        let Some(durable) = &self.durable else { return };
        let statuses = durable.stages.iter().map(|runner| (Arc::clone(&runner.border().stage), runner.status.clone()));
        self.parts.statuses.set(statuses.collect());
    }
}

/// How the stages are, for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Statuses(std::sync::Mutex<BTreeMap<Arc<str>, StageStatus>>);

impl Statuses {
    fn set(&self, statuses: BTreeMap<Arc<str>, StageStatus>) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = statuses;
    }

    pub(crate) fn get(&self) -> BTreeMap<Arc<str>, StageStatus> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// The chain is the user's: a panic while it goes is contained.
impl Drop for Runner {
    fn drop(&mut self) {
        let (stage, work) = (self.stage.take(), self.work.take());
        for gone in [contained(|| drop(work)), contained(|| drop(stage))] {
            if let Err(error) = gone {
                tracing::error!(stage = &*self.new.border.stage, %error, "a stage panicked while it was dropped");
                event::add_dropped_badly(1);
            }
        }
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("stage", &self.border().stage).field("next", &self.next).finish_non_exhaustive()
    }
}
