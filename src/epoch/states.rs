//! The states of all keys: those in memory, those on disk, and the index of their deadlines.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use millstream_operators::{Timestamp, durable::Durable};

use super::{
    StateKey,
    delta::Deltas,
    entry::{Entry, Kept, Live, Row, Touch, Waiting},
    lane::Lane,
    moment::{Bound, Kind, Moment, Next},
    parts::{Load, MigrateError, SavedParts},
    rows::{Rows, STATES, TIMERS},
    run::panic_text,
    status::Parked,
    value::{Preface, Saved},
};
use crate::store::{Reader, StoreError};

/// How many rows of the timer index are read at a time.
const SCAN: usize = 1_024;

/// How many keys may be brought into memory for one step, because something is due there.
const DUE: usize = 4_096;

/// How many keys that are not in memory the index may hold.
const ABSENT: usize = 65_536;

/// Brings the parts of a state from an older version of the stage into their form of now.
pub(super) type Migrate = Arc<dyn Fn(u32, &mut SavedParts) -> Result<(), MigrateError> + Send + Sync>;

/// A state that was read, and what it waits for.
type Revived<In, S> = (Live<In, S>, Preface, Option<Next>);

/// Why the stage cannot go on with what is on disk.
#[derive(Debug)]
pub(super) enum LoadError {
    Store(StoreError),
    /// A state does not fit the chain: the stage parks.
    Unfit(String),
}

impl From<StoreError> for LoadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt { .. } => Self::Unfit(error.to_string()),
            other => Self::Store(other),
        }
    }
}

pub(super) struct States<In, O: Durable<In>> {
    pub(super) chain: O,
    pub(super) rows: Rows,
    pub(super) version: u32,
    pub(super) labels: Vec<String>,
    pub(super) migrate: Option<Migrate>,
    pub(super) lanes: Vec<Lane<In, O::State>>,
    /// How far the timer index on disk is in memory.
    pub(super) read_to: Bound,
    /// Keys whose timers are not fired any more.
    pub(super) parked: BTreeMap<StateKey, Parked>,
    /// Keys whose newest state is in a delta and in no row.
    pub(super) dirty: BTreeSet<StateKey>,
    pub(super) dirty_bytes: usize,
    /// The last epoch was too large with what it wrote back, though it had no more than one event: the next writes nothing back.
    pub(super) is_spared: bool,
    /// How far the rolling write-back has come.
    pub(super) swept: Option<StateKey>,
    pub(super) deltas: Deltas,
    /// The last epoch that is known to be on disk.
    pub(super) landed: u64,
    pub(super) memory: usize,
    /// Rises with each use of a key.
    uses: u64,
}

impl<In, O: Durable<In>> fmt::Debug for States<In, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").field("lanes", &self.lanes).field("deltas", &self.deltas).finish_non_exhaustive()
    }
}

impl<In, O: Durable<In>> States<In, O> {
    pub(super) fn new(chain: O, rows: Rows, labels: Vec<String>, lanes: usize, memory: usize) -> Self {
        let mut states = Self {
            chain,
            rows,
            version: 1,
            labels,
            migrate: None,
            lanes: Vec::new(),
            read_to: Bound::Nothing,
            parked: BTreeMap::new(),
            dirty: BTreeSet::new(),
            dirty_bytes: 0,
            is_spared: false,
            swept: None,
            deltas: Deltas::default(),
            landed: 0,
            memory,
            uses: 0,
        };
        states.lanes.resize_with(lanes, Lane::default);
        states
    }

    /// Forgets all that is in memory.
    pub(super) fn clear(&mut self) {
        self.lanes.iter_mut().for_each(|lane| *lane = Lane::default());
        self.read_to = Bound::Nothing;
        self.parked.clear();
        self.dirty.clear();
        self.dirty_bytes = 0;
        self.swept = None;
        self.deltas = Deltas::default();
        self.landed = 0;
    }

    #[expect(clippy::cast_possible_truncation, reason = "less than the number of lanes")]
    pub(super) fn lane_of(&self, key: &StateKey) -> usize {
        if self.lanes.len() == 1 { 0 } else { (key.stable_hash() % self.lanes.len() as u64) as usize }
    }

    pub(super) fn lane(&mut self, key: &StateKey) -> &mut Lane<In, O::State> {
        let lane = self.lane_of(key);
        &mut self.lanes[lane]
    }

    pub(super) fn get(&self, key: &StateKey) -> Option<&Entry<In, O::State>> {
        self.lanes[self.lane_of(key)].get(key)
    }

    pub(super) fn get_mut(&mut self, key: &StateKey) -> Option<&mut Entry<In, O::State>> {
        self.lane(key).get_mut(key)
    }

    /// Whether the chain can step this key now.
    pub(super) fn is_awake(&self, key: &StateKey) -> bool {
        self.get(key).is_some_and(Entry::is_awake)
    }

    pub(super) fn touch(&mut self, key: &StateKey, touch: Touch) {
        self.uses += 1;
        let (landed, uses) = (self.landed, self.uses);
        self.lane(key).touch(key, touch, landed, uses);
    }

    pub(super) fn set_next(&mut self, key: &StateKey, next: Option<Next>) {
        let is_listed = !self.parked.contains_key(key);
        self.lane(key).set_next(key, next, is_listed);
    }

    /// The earliest moment of those that are known.
    pub(super) fn first(&self) -> Option<&Moment> {
        self.lanes.iter().filter_map(Lane::first).min()
    }

    /// Of what is due at `upto` or before, the first that the chain cannot step yet.
    fn asleep(&self, upto: Timestamp) -> Vec<&Moment> {
        let mut asleep = Vec::new();
        for lane in &self.lanes {
            let due = lane.due().take_while(|moment| moment.next.at <= upto).take(DUE);
            asleep.extend(due.filter(|moment| !lane.get(&moment.key).is_some_and(Entry::is_awake)));
        }
        asleep.sort_unstable();
        asleep.truncate(DUE);
        asleep
    }

    /// Reads on in the timer index on disk.
    async fn scan(&mut self, reader: &dyn Reader) -> Result<(), LoadError> {
        let range = match &self.read_to {
            Bound::Nothing => self.rows.all(),
            Bound::Moment(last) => self.rows.all().after(&self.rows.timer(last)),
            Bound::Time(_) => return Ok(()),
        };
        let found = reader.scan(TIMERS, range, SCAN).await?;
        let is_last = found.len() < SCAN;
        for (row, _) in found {
            let moment = self.rows.moment_of(&row).ok_or_else(|| LoadError::Unfit("a timer row is damaged".into()))?;
            self.read_to = Bound::Moment(moment.clone());
            if !self.parked.contains_key(&moment.key) {
                self.lane(&moment.key).found(moment);
            }
        }
        if is_last {
            self.read_to = Bound::Time(Timestamp::MAX);
        }
        Ok(())
    }

    /// Brings into memory what is due at `upto` or before, as much as one step can fire, and these keys.
    ///
    /// # Cancel safety
    /// What was read is kept.
    pub(super) async fn prefetch(
        &mut self,
        upto: Timestamp,
        keys: Vec<StateKey>,
        reader: &dyn Reader,
    ) -> Result<(), LoadError> {
        while !self.read_to.covers_time(upto) && self.asleep(upto).len() < DUE {
            self.scan(reader).await?;
        }
        let due: Vec<_> = self.asleep(upto).into_iter().cloned().collect();
        let wanted: BTreeSet<_> = due.iter().map(|moment| moment.key.clone()).chain(keys).collect();
        let mut absent = Vec::new();
        for key in wanted {
            match self.get(&key) {
                None => absent.push(key),
                Some(entry) if !entry.is_awake() => self.wake(&key)?,
                Some(_) => {}
            }
        }
        if !absent.is_empty() {
            let rows: Vec<_> = absent.iter().map(|key| self.rows.state(key)).collect();
            let found = reader.get(STATES, &rows).await?;
            for (key, value) in absent.iter().zip(found) {
                self.load(key, value.as_ref())?;
            }
        }
        for moment in due {
            // A row of the index without a state: nothing fires.
            if self.get(&moment.key).is_some_and(|entry| entry.next != Some(moment.next)) {
                self.lane(&moment.key).drop_absent(&moment);
            }
        }
        Ok(())
    }

    /// Reads on until the earliest moment is known, if there is any.
    pub(super) async fn find_first(&mut self, reader: &dyn Reader) -> Result<Option<Timestamp>, LoadError> {
        loop {
            let first = self.first().map(|first| (first.next.at, self.read_to.covers(first)));
            match (first, &self.read_to) {
                (Some((at, true)), _) | (Some((at, _)), Bound::Time(_)) => return Ok(Some(at)),
                (None, Bound::Time(_)) => return Ok(None),
                _ => self.scan(reader).await?,
            }
        }
    }

    /// A key that was not in memory, with its row.
    fn load(&mut self, key: &StateKey, value: Option<&Bytes>) -> Result<(), LoadError> {
        self.uses += 1;
        let uses = self.uses;
        let Some(value) = value else {
            let entry = Entry { used: uses, ..Entry::new(Kept::Gone, Row::Absent) };
            self.lane(key).insert(key, entry);
            return Ok(());
        };
        let (live, preface, next) = self.revive(key, value)?;
        let bytes = Entry::<In, O::State>::weight(key.as_bytes().len(), value.len());
        let row = Row::Present(preface.next);
        let entry = Entry { live: Some(live), used: uses, bytes, ..Entry::new(Kept::OnDisk, row) };
        self.lane(key).insert(key, entry);
        self.set_next(key, next);
        self.rewrite_if_moved(key, &preface, next);
        Ok(())
    }

    /// A key that is in memory as bytes.
    fn wake(&mut self, key: &StateKey) -> Result<(), LoadError> {
        let Some(Kept::Value(value)) = self.get(key).map(|entry| entry.kept.clone()) else { return Ok(()) };
        let (live, preface, next) = self.revive(key, &value)?;
        if let Some(entry) = self.get_mut(key) {
            entry.live = Some(live);
        }
        self.set_next(key, next);
        self.rewrite_if_moved(key, &preface, next);
        Ok(())
    }

    /// What is not as it would be written now is written again: so the index on disk is right in the end.
    fn rewrite_if_moved(&mut self, key: &StateKey, preface: &Preface, next: Option<Next>) {
        if preface.version != self.version || preface.next != next {
            self.touch(key, Touch::Load);
        }
    }

    /// A state as it was written, and what it waits for. Migrating and reading it is the user's.
    fn revive(&self, key: &StateKey, value: &[u8]) -> Result<Revived<In, O::State>, LoadError> {
        let unfit = |why: String| LoadError::Unfit(format!("the state of key `{}` does not fit: {why}", key.key()));
        let revived = catch_unwind(AssertUnwindSafe(|| {
            let (live, preface) = self.read_state(value).map_err(unfit)?;
            let next = live.next(&self.chain);
            Ok((live, preface, next))
        }));
        revived.unwrap_or_else(|panic| Err(unfit(format!("it panicked: {}", panic_text(&*panic)))))
    }

    fn read_state(&self, value: &[u8]) -> Result<(Live<In, O::State>, Preface), String> {
        let Saved { preface, parts, waiting } = Saved::read(value).map_err(|_| "it is damaged".to_owned())?;
        let mut migrated = None;
        if preface.version != self.version {
            let migrate = self
                .migrate
                .as_ref()
                .ok_or_else(|| format!("it is of version {}, the stage is {}", preface.version, self.version))?;
            let mut saved = SavedParts::of(&parts);
            migrate(preface.version, &mut saved).map_err(|error| error.to_string())?;
            migrated = Some(saved);
        }
        let parts = migrated.as_ref().map_or(parts, SavedParts::as_slices);
        let mut state = self.chain.init();
        let mut load = Load::new(&self.labels, parts);
        let Ok(()) = self.chain.parts(&mut state, None, &mut load);
        load.finish().map_err(|misfit| misfit.to_string())?;
        let waiting = waiting.into_iter().map(|(at, record)| Waiting { at, record, item: None }).collect();
        Ok((
            Live {
                state: state.into(),
                waiting,
                depth: preface.depth,
                origin: preface.origin,
                is_started: preface.is_started,
            },
            preface,
        ))
    }

    /// A key whose newest state is in a delta: it stays in memory until its row is written.
    pub(super) fn restore(&mut self, key: &StateKey, value: Option<Bytes>, epoch: u64) -> Result<(), LoadError> {
        let next = match &value {
            None => None,
            Some(value) => {
                Preface::read(&mut &value[..]).map_err(|_| LoadError::Unfit("a delta is damaged".to_owned()))?.next
            }
        };
        let weight = Entry::<In, O::State>::weight(key.as_bytes().len(), value.as_ref().map_or(0, Bytes::len));
        let kept = value.map_or(Kept::Gone, Kept::Value);
        let entry = Entry { delta: Some(epoch), bytes: weight, ..Entry::new(kept, Row::Unknown) };
        self.lane(key).insert(key, entry);
        self.set_next(key, next);
        self.dirty.insert(key.clone());
        self.dirty_bytes += weight;
        self.deltas.add(epoch);
        Ok(())
    }

    /// Drops what the epoch under way has changed: every key is as it was when the last one was cut.
    pub(super) fn discard(&mut self) {
        for lane in 0..self.lanes.len() {
            for key in self.lanes[lane].take_touched() {
                let Some(entry) = self.lanes[lane].get_mut(&key) else { continue };
                entry.live = None;
                entry.touched = None;
                let kept = match &entry.kept {
                    Kept::Value(value) => Preface::read(&mut &value[..]).map_or(None, |preface| Some(preface.next)),
                    Kept::Gone if !entry.is_settled(self.landed) => Some(None),
                    Kept::OnDisk | Kept::Gone => None,
                };
                let is_listed = !self.parked.contains_key(&key);
                match kept {
                    Some(next) => self.lanes[lane].set_next(&key, next, is_listed),
                    None => self.lanes[lane].remove(&key, &self.read_to, is_listed),
                }
            }
        }
    }

    /// Takes out of memory what need not be there.
    pub(super) fn evict(&mut self) {
        let Self { lanes, parked, read_to, landed, memory, .. } = self;
        let limit = *memory / lanes.len();
        for lane in lanes.iter_mut() {
            lane.evict(limit, *landed, read_to, |key| !parked.contains_key(key));
        }
        if lanes.iter().map(Lane::absent).sum::<usize>() > ABSENT {
            self.shorten_index();
        }
    }

    /// Keeps no more of the index on disk in memory than is soon due.
    fn shorten_index(&mut self) {
        let mut absent: Vec<_> =
            self.lanes.iter().flat_map(|lane| lane.due().filter(|moment| lane.get(&moment.key).is_none())).collect();
        absent.sort_unstable();
        let Some(last) = absent.get(ABSENT / 2).copied().cloned() else { return };
        self.lanes.iter_mut().for_each(|lane| lane.forget_beyond(&last));
        self.read_to = Bound::Moment(last);
    }

    /// Stops firing a key's timers.
    pub(super) fn park(&mut self, key: StateKey, parked: Parked) {
        let next = self.get(&key).and_then(|entry| entry.next);
        let at = next.unwrap_or(Next { at: parked.at, kind: Kind::Timer });
        let lane = self.lane(&key);
        if lane.get(&key).is_some() {
            lane.unlist(&key);
        } else {
            lane.drop_absent(&Moment { next: at, key: key.clone() });
        }
        self.parked.insert(key, parked);
    }

    /// Fires a parked key's timers again. Says whether there was one.
    pub(super) fn unpark(&mut self, key: &StateKey) -> bool {
        let was_there = self.parked.remove(key).is_some();
        if was_there {
            self.lane(key).list(key);
            // Where it is on disk alone, the index is read again.
            self.read_to = Bound::Nothing;
        }
        was_there
    }

    /// The state of a key that is awake; a fresh one where there is none.
    pub(super) fn live(&mut self, key: &StateKey) -> &mut Live<In, O::State> {
        self.chain_and_live(key).1
    }

    pub(super) fn chain_and_live(&mut self, key: &StateKey) -> (&O, &mut Live<In, O::State>) {
        let lane = self.lane_of(key);
        let Self { lanes, chain, .. } = self;
        #[expect(clippy::expect_used, reason = "whoever asks has seen that it is awake")]
        let entry = lanes[lane].get_mut(key).expect("a key in memory");
        let live = entry.live.get_or_insert_with(|| Live {
            state: chain.init().into(),
            waiting: VecDeque::new(),
            depth: 0,
            origin: None,
            is_started: false,
        });
        (chain, live)
    }

    /// Puts a key that was stepped in its place in the index.
    pub(super) fn update_next(&mut self, key: &StateKey) {
        let lane = self.lane_of(key);
        let Self { lanes, chain, .. } = self;
        let Some(entry) = lanes[lane].get(key) else { return };
        let next = entry.live.as_ref().and_then(|live| live.next(chain));
        if next != entry.next {
            self.set_next(key, next);
        }
    }

    pub(super) fn touched_bytes(&self) -> usize {
        self.lanes.iter().map(Lane::touched_bytes).sum()
    }

    pub(super) fn is_touched(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.touched().is_empty())
    }

    /// How much is in memory, in bytes by estimate.
    pub(super) fn bytes(&self) -> usize {
        self.lanes.iter().map(Lane::bytes).sum()
    }
}
