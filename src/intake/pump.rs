//! From the queue to the store, in a durable runtime: whatever was queued while the last batch was written is the next
//! one, so all who wait share a write.
//!
//! Nobody has to drive it: it runs where an event is emitted, and goes on where the store says that a batch has landed.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use millstream_operators::Timestamp;

use super::{Group, Held, Intake, Outcome, PersistError, Phase, State, Teller, Told};
use crate::{
    event::{Envelope, EventId, EventName},
    store::{
        Class, CommitError, Committed, MAX_BATCH_BYTES, Op, PartitionId, Record, RowKey, Store, StoreFuture, tables,
    },
};

/// What goes to the store with an event.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// The record; gone once it was handed over.
    pub(crate) bytes: Bytes,
    /// How long the record is.
    pub(crate) size: usize,
    pub(crate) landing: Teller,
    /// Keeps others of this key out until then.
    pub(crate) once: Option<(Bytes, Timestamp)>,
    /// The aggregate's version that the event makes, which nobody else may have made.
    pub(crate) version: Option<Bytes>,
}

/// Whether somebody wants events of a name.
pub(crate) trait Interest: Send + Sync {
    fn wants(&self, name: &EventName) -> bool;
}

/// What is written together or not at all, and where it is on its way.
struct Batch {
    load: Load,
    landing: StoreFuture<'static, Result<Committed, CommitError>>,
}

/// What is on its way.
enum Load {
    /// Events for the log.
    Events(Vec<Held>),
    /// Events for the log, all or none.
    Group(Group),
    /// An event that waits for its due time.
    Delayed(Timestamp, Held),
    /// The mark of the place in the log where a subscription begins whose name the store has never seen.
    Mark(Arc<str>),
}

/// The way from the queue to the store. One at a time runs it, and runs again for whoever asked meanwhile.
pub(crate) struct Pump {
    /// None once the runtime is stopped.
    store: Mutex<Option<Arc<dyn Store>>>,
    partition: PartitionId,
    intake: OnceLock<Weak<Intake>>,
    interest: Box<dyn Interest>,
    asked: AtomicUsize,
    way: Mutex<VecDeque<Batch>>,
}

/// The name of a record that is no event but the mark of a place. No event can have it.
pub(crate) const MARK: &str = "";

/// The most events that are handed over at a time.
const MOST: usize = 4_096;

/// And the most bytes of their records, unless a single one has more.
const MOST_BYTES: usize = MAX_BATCH_BYTES / 4;

/// The key of a delayed event's row: its due time, then its id.
pub(crate) fn delayed_key(due: Timestamp, id: EventId) -> Bytes {
    [&due.as_nanos().to_be_bytes()[..], &id.as_u128().to_be_bytes()].concat().into()
}

/// The record of an event.
pub(crate) fn record(event: &Envelope, bytes: Bytes) -> Record {
    Record { name: event.name.to_shared(), time: event.time(), bytes, keys: Vec::new() }
}

/// The class of a store's log.
#[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
pub(crate) fn class_of(event: &Envelope) -> Class {
    Class(event.priority.class() as u8)
}

impl Pump {
    pub(crate) fn new(store: Arc<dyn Store>, partition: PartitionId, interest: Box<dyn Interest>) -> Arc<Self> {
        let (asked, way) = (AtomicUsize::new(0), Mutex::default());
        let store = Mutex::new(Some(store));
        Arc::new(Self { store, partition, intake: OnceLock::new(), interest, asked, way })
    }

    /// Says whose queue it empties, once.
    pub(crate) fn attach(&self, intake: &Arc<Intake>) {
        let _ = self.intake.set(Arc::downgrade(intake));
    }

    /// Lets go of the store: the queue is closed, and nothing more comes.
    pub(crate) fn release(&self) {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last handle waits for what is on its way, which asks for the lock.
        drop(store);
    }

    /// Goes on as far as it can now.
    pub(crate) fn go(self: &Arc<Self>) {
        // Acquire and release: whoever runs sees all that was queued before he was asked.
        if self.asked.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let mut seen = 1;
        loop {
            self.run();
            match self.asked.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    fn run(self: &Arc<Self>) {
        // Without it the runtime was dropped: whoever waits is told all the same.
        let intake = self.intake.get().and_then(Weak::upgrade);
        let waker = Waker::from(Arc::clone(self));
        let mut cx = Context::from_waker(&waker);
        let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Some(first) = way.front_mut() {
                let Poll::Ready(landed) = first.landing.as_mut().poll(&mut cx) else { return };
                if let Some(Batch { load, .. }) = way.pop_front() {
                    if let Some(intake) = &intake {
                        self.settle(intake, &load, &landed);
                    }
                    load.tell(&landed);
                }
            }
            let Some(intake) = &intake else { return };
            let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(store) = store else { return };
            let mut state = intake.lock();
            let taken = Self::take(&mut state);
            drop(state);
            if taken.is_empty() {
                return;
            }
            way.extend(self.hand_over(&*store, intake.clock.now(), taken));
        }
    }

    /// Takes what waits: marks before all events that come behind them, then the classes in their turns, then what is to be
    /// delayed. While the store has failed, all of it waits until somebody has claimed it again; of a runtime that is stopped it is
    /// handed back.
    fn take(state: &mut State) -> Vec<Load> {
        if state.log.failure.is_some() || state.phase == Phase::Stopped {
            return Vec::new();
        }
        let marks: Vec<_> = state.log.to_mark.drain(..).map(Load::Mark).collect();
        if !marks.is_empty() {
            state.log.on_way += marks.len();
            return marks;
        }
        let mut events = VecDeque::new();
        state.queue.pop_many(MOST, &mut events, |(_, held)| held);
        state.log.afloat += events.len() as u64;
        let delayed = state.log.to_delay.len().min(MOST);
        let delayed: Vec<_> = state.log.to_delay.drain(..delayed).map(|(due, held)| Load::Delayed(due, held)).collect();
        let groups: Vec<_> = state.log.to_append.drain(..).map(Load::Group).collect();
        state.log.on_way += events.len() + delayed.len();
        state.log.on_way += groups.iter().map(|group| group.events().len()).sum::<usize>();
        Self::together(events).into_iter().chain(groups).chain(delayed).collect()
    }

    /// Those that depend on nothing go together, as far as a batch has room; one that may be refused goes alone.
    fn together(events: VecDeque<Held>) -> Vec<Load> {
        let mut loads = Vec::new();
        let mut room = 0;
        for held in events {
            let is_alone = held.stored().is_none_or(Stored::is_conditional);
            let bytes = held.stored().map_or(0, |stored| stored.size);
            match loads.last_mut() {
                Some(Load::Events(events)) if bytes <= room && !is_alone => {
                    room -= bytes;
                    events.push(held);
                }
                _ => {
                    room = if is_alone { 0 } else { MOST_BYTES.saturating_sub(bytes) };
                    loads.push(Load::Events(vec![held]));
                }
            }
        }
        loads
    }

    fn hand_over(&self, store: &dyn Store, now: Timestamp, loads: Vec<Load>) -> Vec<Batch> {
        let hand_over = |mut load: Load| {
            let landing = store.append(self.partition, load.take_ops(now));
            Batch { load, landing }
        };
        loads.into_iter().map(hand_over).collect()
    }

    /// Whether somebody wants each of these. Neighbours often have the same name, so it is looked up once.
    fn wanted(&self, events: &[Held]) -> Vec<bool> {
        let runs = events.chunk_by(|a, b| a.event.name == b.event.name);
        runs.flat_map(|run| std::iter::repeat_n(self.interest.wants(&run[0].event.name), run.len())).collect()
    }

    /// A batch has landed, or not: room comes free, and the books know.
    fn settle(&self, intake: &Arc<Intake>, load: &Load, landed: &Result<Committed, CommitError>) {
        let events = load.events();
        let wanted = self.wanted(events);
        let mut state = intake.lock();
        for held in events {
            state.release(held.event.priority.class(), held.event.tenant.as_ref());
        }
        if let Err(error) = landed
            && error.is_loss()
        {
            state.log.fail(chain(error));
        }
        load.count(&mut state, landed, &wanted);
        let granted = intake.serve_waiting(&mut state);
        Intake::wake(state);
        granted.tell();
        intake.settled.notify_waiters();
    }
}

impl Load {
    fn events(&self) -> &[Held] {
        match self {
            Self::Events(events) | Self::Group(Group { events, .. }) => events,
            Self::Delayed(_, held) => std::slice::from_ref(held),
            Self::Mark(_) => &[],
        }
    }

    fn events_mut(&mut self) -> &mut [Held] {
        match self {
            Self::Events(events) | Self::Group(Group { events, .. }) => events,
            Self::Delayed(_, held) => std::slice::from_mut(held),
            Self::Mark(_) => &mut [],
        }
    }

    /// What the store is asked to do. The bytes of the events go with it.
    fn take_ops(&mut self, now: Timestamp) -> Vec<Op> {
        let mut ops = Vec::with_capacity(2);
        if let Self::Mark(name) = self {
            let keys = vec![RowKey { table: tables::START, key: Bytes::copy_from_slice(name.as_bytes()) }];
            let mark = Record { name: MARK.into(), time: now, bytes: Bytes::new(), keys };
            ops.push(Op::Append { class: Class(0), records: vec![mark] });
        }
        if let Self::Group(group) = self {
            ops.extend(group.once_op());
        }
        let due = if let Self::Delayed(due, _) = self { Some(*due) } else { None };
        for Held { event, origin, .. } in self.events_mut() {
            let Some(stored) = origin.as_mut().and_then(|origin| origin.stored.as_mut()) else { continue };
            ops.extend(stored.conditions(event));
            let bytes = std::mem::take(&mut stored.bytes);
            if let Some(due) = due {
                let key = delayed_key(due, event.id);
                ops.push(Op::PutNew { table: tables::DELAYED, key, value: bytes, life: None });
                continue;
            }
            let (class, record) = (class_of(event), record(event, bytes));
            match ops.last_mut() {
                Some(Op::Append { class: last, records }) if *last == class => records.push(record),
                _ => ops.push(Op::Append { class, records: vec![record] }),
            }
        }
        ops
    }

    /// Whoever waits is told what has become of it.
    fn tell(self, landed: &Result<Committed, CommitError>) {
        for held in self.events() {
            if let Some(stored) = held.stored() {
                stored.landing.tell(outcome(held.event.id, landed));
            }
        }
        if let Self::Group(group) = self {
            group.tell(landed);
        }
    }

    /// Under the lock: what has become of it goes into the books.
    fn count(&self, state: &mut State, landed: &Result<Committed, CommitError>, wanted: &[bool]) {
        let events = self.events();
        let count = events.len() as u64;
        match self {
            Self::Mark(name) => return state.log.marked(name, landed),
            Self::Events(_) | Self::Group(_) => state.log.afloat -= count,
            Self::Delayed(due, held) if landed.is_ok() => state.log.land_delayed(*due, held.event.id),
            Self::Delayed(due, held) => {
                state.tally.undelay(count);
                let is_known = landed.as_ref().is_err_and(|error| !error.is_loss());
                state.log.shore.unknown.extend((!is_known).then_some((*due, held.event.id)));
            }
        }
        state.log.on_way -= events.len();
        match landed {
            Ok(committed) if matches!(self, Self::Events(_) | Self::Group(_)) => {
                state.route(events.iter().map(|held| &held.event.name), wanted);
                let pairs = committed.appended.iter().zip(events);
                let bytes = |held: &Held| held.stored().map_or(0, |stored| stored.size);
                let told = pairs.map(|(&seq, held)| Told { seq, event: Arc::clone(&held.event), bytes: bytes(held) });
                state.log.land(committed, told.collect());
            }
            Ok(_) => {}
            Err(CommitError::Conflict { table, .. }) if *table == tables::ONCE => state.tally.duplicate += count,
            Err(_) => state.tally.unsaved += count,
        }
    }
}

fn outcome(id: EventId, landed: &Result<Committed, CommitError>) -> Outcome {
    let first = |value: &Bytes| value.first_chunk().copied().map(u128::from_be_bytes);
    match landed {
        Ok(_) => Ok(id),
        Err(CommitError::Conflict { table, value, .. }) if *table == tables::ONCE => {
            Ok(first(value).and_then(EventId::from_u128).unwrap_or(id))
        }
        Err(error @ (CommitError::Unknown { .. } | CommitError::Fenced)) => {
            Err(PersistError::Unknown { id, reason: chain(error) })
        }
        Err(error) => Err(PersistError::Refused { id, reason: chain(error) }),
    }
}

/// An error with its sources, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

impl Stored {
    /// Whether it may be refused for what is in the store already.
    pub(crate) fn is_conditional(&self) -> bool {
        self.once.is_some() || self.version.is_some()
    }

    /// The rows that must be new for the event to be taken.
    pub(crate) fn conditions(&self, event: &Envelope) -> impl Iterator<Item = Op> {
        let (id, emitted) = (event.id, event.emitted);
        let once = self.once.iter().map(move |(key, until)| Op::PutNew {
            table: tables::ONCE,
            key: key.clone(),
            value: Bytes::copy_from_slice(&id.as_u128().to_be_bytes()),
            life: Some((emitted, *until)),
        });
        let version = self.version.iter().map(|key| Op::PutNew {
            table: tables::AGGREGATE,
            key: key.clone(),
            value: self.bytes.clone(),
            life: None,
        });
        once.chain(version)
    }
}

impl Held {
    pub(crate) fn stored(&self) -> Option<&Stored> {
        self.origin.as_ref()?.stored.as_ref()
    }

    /// Tells whoever waits that it never went to the store.
    pub(super) fn tell_refused(&self, why: &str) {
        if let Some(stored) = self.stored() {
            stored.landing.tell(Err(PersistError::Refused { id: self.event.id, reason: why.to_owned() }));
        }
    }
}

impl Wake for Pump {
    fn wake(self: Arc<Self>) {
        self.go();
    }
}

impl fmt::Debug for Pump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pump").field("partition", &self.partition).finish_non_exhaustive()
    }
}
