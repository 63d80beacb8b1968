//! The dispatcher of a durable runtime: deliveries come from the log instead of the queue, and what comes of them goes to
//! the store in one commit, with the cursor that says so.
//!
//! Subscriptions that keep up are served from the tail in memory; one that does not reads the log by itself until it is
//! there again. A delivery that fails leaves the log as a row of its own, so a backoff holds nothing back but its key.

mod border;
mod care;
mod commit;
mod delay;
mod forget;
mod gap;
mod harm;
mod left_behind;
mod open;
mod outcome;
mod proposal;
mod read;
mod recover;
mod replay;
mod retention;
mod stage_letters;
mod stages;
mod taps;
mod trial;

pub(super) use self::proposal::Content;
pub use self::retention::{Limits, Retention};
pub(crate) use self::{
    border::StageBorder,
    stages::{NewStage, Statuses, start_key},
};

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::Context,
};

use bytes::Bytes;
use futures_util::{future::FutureExt, stream::FuturesUnordered};
use millstream_operators::Timestamp;

use self::{
    care::Care,
    commit::Committing,
    delay::Due,
    forget::Forgetting,
    open::Opening,
    proposal::{Proposal, Reply},
    read::Reading as PageReading,
    retention::Kept,
    taps::Taps,
    trial::Trial,
};
use super::{
    commands::{Replay, Write},
    dispatcher::Dispatcher,
};
use crate::{
    dead_letter::DeadLetter,
    event::{Envelope, EventId, EventName},
    intake::Shore,
    journal::{
        Cursor, DueKey, FailedKey, Harmed, HarmedRow, HarmedStage, Horizon, Known, NOW, NextDue, Restored, Tail,
        Unclaimed, last_now, letter_number, parse_key,
    },
    queue::CLASSES,
    store::{Occupancy, Op, PartitionId, Seq, Store, StoreError, Table, Tenure, Untold, tables},
};

/// The next delayed events.
type Looking = Pending<Result<NextDue, StoreError>>;
type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a durable runtime is made of.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) partition: PartitionId,
}

impl Home {
    /// The last reading of the clock that was written, where the store can say so at once, as a local one can. Time never
    /// goes back, whatever the machine's clock does between two processes.
    pub(crate) fn last_now(&self) -> Option<Timestamp> {
        let reader = self.store.reader(self.partition);
        let now = reader.get(tables::ENGINE, &[Bytes::from_static(NOW)]).now_or_never()?.ok()?;
        last_now(now).ok()
    }
}

/// Whether the partition is held.
pub(super) enum Hold {
    /// Not claimed, and not before then.
    Lost {
        until: Timestamp,
    },
    Claiming(Pending<Result<(Tenure, Restored), Unclaimed>>),
    Held(Arc<Tenure>),
}

/// The dispatcher's side of the store.
pub(super) struct Durable {
    home: Home,
    /// No other runtime of this process runs on it until this is gone.
    _occupancy: Occupancy,
    hold: Hold,
    /// Claims that failed since the last one that did not.
    failures: u32,
    /// How often it was lost since the last commit that landed.
    losses: u32,
    /// Why the partition is not held.
    pub(super) error: Option<StoreError>,
    /// All subscriptions that the store knows; the cursors of those that nobody has claimed.
    known: HashMap<String, Known>,
    /// Those of which it has rows that cannot be read.
    harmed: HashMap<String, Harmed>,
    /// Stages of which it has rows that cannot be read.
    harmed_stages: HashMap<String, HarmedStage>,
    /// Dead letters that cannot be read.
    harmed_letters: Vec<HarmedRow>,
    /// Damaged rows that were counted.
    counted: HashSet<(Table, Bytes)>,
    /// Where those begin that an earlier process subscribed and never opened; those of stages under their
    /// [`start_key`].
    starts: HashMap<String, Seq>,
    /// Readers that were dropped, and the batch that has the last of what they wrote.
    closing: HashMap<u32, u64>,
    last_id: u32,
    tail: Tail,
    /// The most bytes of it.
    recent_bytes: usize,
    /// All of the tail before it was told to those who keep up.
    told: Seq,
    horizon: Horizon,
    batch: Batch,
    /// The number of the batch that is put together now.
    batch_number: u64,
    /// Outcomes that a commit may refuse.
    proposals: VecDeque<Proposal>,
    /// Those that are being tried.
    trial: Option<Trial>,
    /// How many are tried together at most.
    most_tried: usize,
    committing: VecDeque<Committing>,
    opening: FuturesUnordered<Opening>,
    reading: FuturesUnordered<PageReading>,
    due: Option<Due>,
    /// Rows of delayed events that go with what is on its way.
    firing: HashSet<Bytes>,
    looking: Option<Looking>,
    stages: Vec<stages::Runner>,
    taps: Taps,
    /// How far each stage is that the store knows, whether it runs or not.
    stage_cursors: HashMap<String, Seq>,
    forgetting: Forgetting,
    /// What an earlier process may have ended with.
    care: Care,
    /// Whether deliveries are in the log that were to leave it when there was no room.
    has_left_behind: bool,
    /// Writes from outside of handlers that came while the partition was not held.
    writes: Vec<Write>,
    /// Letters that are to be replayed once their subscription is open.
    replays: Vec<Replay>,
    /// Letters that are to go once the partition is held, and after how many readings of the store they were taken out.
    pub(super) purged: Vec<(Vec<DeadLetter>, u64)>,
    /// The same for letters that cannot be read, by number.
    purged_numbers: Vec<u64>,
    /// The clock's last reading that was written.
    saved_now: Timestamp,
    /// Below it, whole chunks were trimmed.
    trimmed: [Seq; CLASSES],
    /// Where the oldest event lies that the limits keep.
    kept: Kept,
    /// Delayed events of which nobody knows whether they have landed, until the store says so; then those that have.
    lost_delayed: BTreeSet<DueKey>,
    /// Dead letters that went for want of room, of which nobody knows whether they are gone.
    lost_dropped: Vec<u64>,
    /// Events emitted before it belong to an earlier process.
    began: Timestamp,
}

/// What the next commit writes.
#[derive(Default)]
pub(super) struct Batch {
    ops: Vec<Op>,
    /// Events that are appended, in the order of `ops`, and what the record of each takes.
    events: Vec<(Arc<Envelope>, usize)>,
    /// Delayed events that are written.
    delayed: Vec<DueKey>,
    /// The roots against which events were counted that handlers returned.
    roots: Vec<EventId>,
    /// The rows of those that are due, which go.
    fired: Vec<Bytes>,
    /// The dead letters that go for want of room, by number.
    dropped: Vec<u64>,
    /// Who waits for it to be in the store.
    replies: Vec<Reply>,
    /// What it takes, about.
    bytes: usize,
}

/// How far a durable subscription is.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) id: u32,
    /// What came before is none of its business.
    since: Option<Timestamp>,
    pub(super) cursors: [Cursor; CLASSES],
    /// The classes in which it keeps up with the tail.
    is_attached: [bool; CLASSES],
    /// Those of which a page is being read.
    is_reading: [bool; CLASSES],
    /// Where it reads again what was open when it was opened, before it reads on.
    resume: [Option<Seq>; CLASSES],
    /// What the store has of how far it is.
    written: [Seq; CLASSES],
    /// Deliveries that have left the log.
    rows: usize,
}

/// What a delivery has to do with the log.
#[derive(Clone, Copy, Debug)]
pub(in crate::dispatch) struct Logged {
    pub(in crate::dispatch) key: FailedKey,
    pub(in crate::dispatch) place: Place,
}

/// Where a delivery is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dispatch) enum Place {
    /// It is open in its subscription's cursor.
    Log,
    /// It has left the log, and is a row of its own.
    Row,
    /// It was a dead letter, and is neither yet.
    Nowhere,
}

/// The most deliveries that a subscription has from the log, by class.
const RING: usize = 1_024;
/// The most deliveries of a subscription that have left the log; beyond it, it reads no more.
const MOST_ROWS: usize = 10_000;
/// The most steps that wait for the next commit; beyond it, nothing more is delivered.
const MOST_OPS: usize = 8_192;
/// The most bytes of them.
const MOST_BYTES: usize = 16 << 20;
/// The most losses in a row that are nobody's business.
const MOST_LOSSES: u32 = 5;

impl Durable {
    pub(super) fn new((home, occupancy): (Home, Occupancy), recent_bytes: usize, now: Timestamp) -> Self {
        Self {
            home,
            _occupancy: occupancy,
            hold: Hold::Lost { until: now },
            failures: 0,
            losses: 0,
            error: None,
            known: HashMap::new(),
            harmed: HashMap::new(),
            harmed_stages: HashMap::new(),
            harmed_letters: Vec::new(),
            counted: HashSet::new(),
            starts: HashMap::new(),
            closing: HashMap::new(),
            last_id: 0,
            tail: Tail::at(Seq(0), recent_bytes),
            recent_bytes,
            told: Seq(0),
            horizon: Horizon::default(),
            batch: Batch::default(),
            batch_number: 0,
            proposals: VecDeque::new(),
            trial: None,
            most_tried: Trial::MOST,
            committing: VecDeque::new(),
            opening: FuturesUnordered::new(),
            reading: FuturesUnordered::new(),
            due: None,
            firing: HashSet::new(),
            looking: None,
            stages: Vec::new(),
            taps: Taps::new(),
            stage_cursors: HashMap::new(),
            forgetting: Forgetting::default(),
            care: Care::default(),
            has_left_behind: false,
            writes: Vec::new(),
            replays: Vec::new(),
            purged: Vec::new(),
            purged_numbers: Vec::new(),
            saved_now: now,
            trimmed: [Seq(0); CLASSES],
            kept: Kept::default(),
            lost_delayed: BTreeSet::new(),
            lost_dropped: Vec::new(),
            began: now,
        }
    }

    pub(super) fn tenure(&self) -> Option<&Arc<Tenure>> {
        if let Hold::Held(tenure) = &self.hold { Some(tenure) } else { None }
    }

    /// Whether a claim has failed, or one after the other has come to nothing, and the next one is not due.
    fn has_failed(&self) -> bool {
        (self.failures > 0 || self.losses > MOST_LOSSES) && matches!(self.hold, Hold::Lost { .. })
    }

    fn is_crowded(&self) -> bool {
        self.batch.ops.len() >= MOST_OPS || self.batch.bytes >= MOST_BYTES
    }

    /// Whether nothing more may be written for now: there is as much as a commit should have, and none can be handed over before it
    /// is known what became of those that are on their way, or of the outcomes that are being tried.
    pub(super) fn is_stuffed(&self) -> bool {
        !self.can_hand_over() && self.batch.bytes >= MOST_BYTES
    }

    /// Whether nothing is on its way to or from the store.
    fn is_quiet(&self, now: Timestamp) -> bool {
        self.tenure().is_some()
            && self.batch.is_empty()
            && self.proposals.is_empty()
            && self.trial.is_none()
            && self.committing.is_empty()
            && self.opening.is_empty()
            && self.reading.is_empty()
            && self.due.is_none()
            && self.looking.is_none()
            && self.horizon.wants().is_none()
            && self.kept.is_quiet()
            && self.forgetting.is_quiet()
            && self.care.is_quiet()
            && self.taps.is_quiet()
            && self.replays.is_empty()
            && self.purged.is_empty()
            && self.purged_numbers.is_empty()
            && self.stages.iter().all(|stage| stage.is_quiet(self.tail.end(), now))
    }

    /// When the partition may be claimed again, where it is lost.
    fn lost_until(&self) -> Option<Timestamp> {
        if let Hold::Lost { until } = self.hold { Some(until) } else { None }
    }

    /// Whether more delayed events may be taken out of the store.
    fn may_fire(&self) -> bool {
        self.due.is_none() && self.trial.is_none() && !self.is_crowded()
    }

    /// When something happens by itself: a delayed event is due, or the partition may be claimed again.
    pub(super) fn next(&self) -> Option<Timestamp> {
        match self.hold {
            Hold::Lost { until } => Some(until),
            Hold::Claiming(_) => None,
            Hold::Held(_) => {
                let delayed = self.horizon.next().filter(|_| self.may_fire());
                delayed.into_iter().chain(self.stages.iter().filter_map(stages::Runner::deadline)).min()
            }
        }
    }

    /// When the next delayed event is due, or a stage's deadline.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.horizon.next().into_iter().chain(self.stages.iter().filter_map(stages::Runner::deadline)).min()
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.replies.is_empty()
    }
}

impl Reader {
    /// Whether it takes no more of a class for now. What an earlier process had in hand counts once it is read again.
    fn is_full(&self, class: usize) -> bool {
        let most = RING.min(Cursor::MOST_OPEN);
        match self.resume[class] {
            Some(place) => self.cursors[class].open_before(place) >= most,
            None => self.cursors[class].open_count() >= most || self.rows >= MOST_ROWS,
        }
    }

    fn is_attached(&self) -> bool {
        self.is_attached.iter().all(|attached| *attached)
    }

    /// Whether it reads on only once some of what has left the log has ended. Where that is parked, no waiting brings it about;
    /// where it is not, it counts by itself.
    fn is_kept_back(&self) -> bool {
        self.rows >= MOST_ROWS && self.resume.iter().all(Option::is_none)
    }
}

impl Dispatcher {
    /// Whether deliveries must not end for now, for what comes of them could not be written.
    pub(super) fn is_stuffed(&self) -> bool {
        self.durable.as_ref().is_some_and(|durable| durable.is_stuffed())
    }

    /// Does what can be done now about the store. Whether anything moved.
    pub(super) fn durable_round(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = self.hold_partition(cx);
        if self.durable.as_ref().is_none_or(|durable| durable.tenure().is_none()) {
            return moved;
        }
        moved |= self.open_subscriptions(cx);
        moved |= self.replay_deferred();
        moved |= self.poll_commits(cx);
        // What is lost just now is not lost once more for the reason that is told of it.
        let is_lost = self.durable.as_ref().is_none_or(|durable| durable.tenure().is_none());
        if is_lost || self.an_emit_failed() {
            return true;
        }
        for step in Self::STEPS {
            moved |= step(self, cx);
            if self.durable.as_ref().is_none_or(|durable| durable.tenure().is_none()) {
                // Lost on the way: what is known now is of before.
                return true;
            }
        }
        moved
    }

    /// What is done of the store in a round, while the partition is held.
    const STEPS: [fn(&mut Self, &mut Context<'_>) -> bool; 12] = [
        |this, _| this.take_landed(),
        Self::step_stages,
        Self::forget_names,
        |this, _| this.take_untold(),
        Self::follow_tail,
        Self::read_for_streams,
        Self::read_pages,
        Self::fire_delayed,
        Self::look_at_limits,
        Self::take_care,
        |this, _| this.write_left_behind(),
        Self::commit,
    ];

    /// Does what can be done about writes to the storage, and runs no handler: for whoever writes where nobody drives.
    pub(crate) fn storage_round(&mut self, cx: &mut Context<'_>) {
        loop {
            self.now = self.parts.intake.clock.now();
            let mut moved = self.obey() | self.hold_partition(cx);
            if self.durable.as_ref().is_some_and(|durable| durable.tenure().is_some()) {
                moved |= self.poll_commits(cx) || self.an_emit_failed() || self.commit(cx);
            }
            // Nobody else sees to it that a claim which has to wait is tried again.
            let waits = self.durable.as_ref().and_then(|durable| durable.lost_until());
            moved = moved || waits.is_some_and(|until| self.sleeps_until(until, cx).is_ready());
            if !moved {
                return;
            }
        }
    }

    /// What has landed since the last look.
    fn take_landed(&mut self) -> bool {
        let Some(durable) = &mut self.durable else { return false };
        let mut state = self.parts.intake.lock();
        durable.lost_delayed.extend(state.log.shore.take_unknown());
        let Shore { delayed, has_forgotten, .. } = &mut state.log.shore;
        let (delayed, has_forgotten) = (std::mem::take(delayed), std::mem::take(has_forgotten));
        let (landed, forgotten) = (state.log.shore.take(), state.log.shore.take_forgotten());
        let unwanted = state.log.take_unwanted();
        drop(state);
        let moved = !landed.is_empty() || !delayed.is_empty() || forgotten.is_some();
        if let Some((begin, end)) = forgotten {
            durable.tail.land_unread(begin, end);
        }
        if has_forgotten {
            // A look that is under way would say of all before it that it was read.
            durable.looking = None;
            durable.horizon.forget();
        }
        for landed in landed {
            durable.tail.land(landed);
        }
        for (due, id) in delayed {
            durable.horizon.add((due, id.as_u128()));
        }
        self.warn_unwanted(&unwanted);
        moved
    }

    /// What stages have committed since the last look goes into the books.
    fn take_untold(&mut self) -> bool {
        let Some(tenure) = self.durable.as_ref().and_then(|durable| durable.tenure().cloned()) else { return false };
        let untold = tenure.take_untold();
        let moved = !untold.is_empty();
        for Untold { committed, names, puts, gone } in untold {
            let names: Vec<_> = names.iter().map(|name| EventName::unchecked(name)).collect();
            let wanted: Vec<_> = names.iter().map(|name| self.parts.registry.wants(name)).collect();
            let Some(durable) = &mut self.durable else { return moved };
            if !names.is_empty() {
                durable.tail.land_unread(committed.begin, committed.end);
            }
            gone.iter().filter_map(|key| letter_number(key)).for_each(|number| durable.has_replayed(number));
            let delayed: Vec<_> = puts.iter().filter(|(table, _)| *table == tables::DELAYED).collect();
            for key in delayed.iter().filter_map(|(_, key)| parse_key(key)) {
                for stage in &durable.stages {
                    stage.border().forget_delayed(key);
                }
                durable.horizon.add(key);
            }
            let mut state = self.parts.intake.lock();
            state.tally.emitted += (wanted.len() + delayed.len()) as u64;
            state.tally.delayed += delayed.len() as u64;
            state.route(&names, &wanted);
            state.log.ends_at(committed.end);
            drop(state);
            for (_, key) in puts.iter().filter(|(table, _)| *table == tables::DEAD) {
                self.keep_stage_letter(key);
            }
        }
        moved
    }

    /// A dead letter of a stage is in the store.
    fn keep_stage_letter(&mut self, key: &[u8]) {
        let Some(number) = key.try_into().ok().map(u64::from_be_bytes) else { return };
        let Some(durable) = &self.durable else { return };
        let letter = durable.stages.iter().find_map(|stage| stage.border().take_letter(number));
        let Some(letter) = letter else { return };
        let gone = self.parts.letters.lock().unwrap_or_else(PoisonError::into_inner).keep_written(letter);
        self.let_all_go(gone);
    }

    /// Whether a durable runtime has nothing to do with its store; said to those who ask the intake.
    pub(super) fn is_settled(&mut self) -> bool {
        let is_quiet = self.durable.as_ref().is_none_or(|durable| durable.is_quiet(self.now)) && self.all_keep_up();
        if let Some(durable) = &self.durable {
            let mut state = self.parts.intake.lock();
            // Whoever subscribes is known by name before he says that there may be something to read.
            let is_quiet = is_quiet && state.queue.len() == 0 && state.log.is_quiet() && !self.has_new_subscribers();
            let before = (state.log.unsettled, state.log.next_due);
            let now = (!is_quiet, durable.next_due());
            (state.log.unsettled, state.log.next_due) = now;
            drop(state);
            if before != now {
                // Whoever waits for rest beside another who drives looks again.
                self.parts.intake.settled.notify_waiters();
            }
            return is_quiet;
        }
        is_quiet
    }

    /// Whether each durable subscription is at the end of the log.
    fn all_keep_up(&self) -> bool {
        self.durable.is_none()
            || self.subscribers.iter().all(|(_, subscriber)| {
                subscriber.entry.options.is_tap
                    || !subscriber.is_subscribed
                    // What it cannot read, no waiting brings.
                    || subscriber.is_broken
                    || subscriber.reader.as_ref().is_some_and(|reader| reader.is_attached() || reader.is_kept_back())
            })
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable").field("home", &self.home).field("error", &self.error).finish_non_exhaustive()
    }
}
