//! What is said about a durable stage before it runs.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use millstream_middleware::{SettingError, SettingsError};
use millstream_operators::{Chain, Operator, durable::Durable};

use super::{
    DurableStage, MigrateError, SavedParts, StageItem,
    border::Border,
    driven::{Draftwork, Driven, KeyOf, Phase},
    header::{Reached, StageCounts},
    input::Input,
    parts::labels,
    rows::Rows,
    states::{Migrate, States},
    time::{Mode, Time},
};
use crate::{
    event::{IntoDraft, Key, Pattern},
    stage::Start,
    store::Seq,
};

/// What becomes of an event that comes when the watermark has passed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Late {
    /// It goes to the dead letters, to be looked at or replayed. The default.
    #[default]
    DeadLetter,
    /// It is dropped, and counted.
    Drop,
}

/// A durable operator stage: a chain whose state, timers and outputs survive, each exactly once.
///
/// The stage takes events from the log in the order in which they were appended, whatever their priority. After some events
/// it cuts an *epoch*: how far it has come, every state that changed, the timers and the events that came out are committed
/// together or not at all. After a crash it goes on from the last epoch, as if nothing had been taken since.
///
/// | setting | default |
/// | --- | --- |
/// | [`version`](Self::version) | 1 |
/// | [`pattern`](Self::pattern) | the name of the event type; all events for `Arc<Envelope>` |
/// | [`epoch`](Self::epoch) | 1,000 events |
/// | [`event_time`](Self::event_time) | off: time is the clock's |
/// | [`idle`](Self::idle) | off: with event time, no event, no time |
/// | [`late`](Self::late) | [`Late::DeadLetter`] |
/// | [`lanes`](Self::lanes) | 1 |
/// | [`state_memory`](Self::state_memory) | 64 MiB |
/// | [`starting_at`](Self::starting_at) | [`Start::Latest`] |
/// | [`migrate`](Self::migrate) | none: a stage of another version parks |
///
/// State is kept by (tenant, key), with [`new`](Self::new) by tenant. It may be larger than memory. A key whose state is as
/// good as fresh is forgotten.
///
/// # Panics of the chain
/// A panic gives up the event that led to it: the chain's state is as if it had never come, and it goes to the dead letters.
/// A timer that panics parks its key: its state stays, and its events go to the dead letters.
///
/// # Names
/// Saved state is found by the operators' names, so that a chain can be edited. Two operators of one kind that remember
/// something must be [`named`](millstream_operators::Flow::named).
///
/// A state is written with serde, as `MessagePack`. What a type of your own cannot tell apart there comes back as another: an
/// `Option` of an `Option`, of `()` or of a JSON value may be `Some(None)` and is read again as `None`. What operators remember of
/// items is exact, whatever the items are.
///
/// ```
/// use std::time::Duration;
/// use millstream::{Event, Stage};
/// use millstream_operators::chain;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Clone, Serialize, Deserialize)]
/// struct Reading {
///     sensor: u32,
///     celsius: f64,
/// }
///
/// let alarms = chain().filter(|reading: &Reading| reading.celsius > 90.0).debounce(Duration::from_secs(5));
/// let stage = Stage::keyed(|reading: &Reading| reading.sensor, alarms).event_time(Duration::from_secs(1)).version(2);
/// assert!(format!("{stage:?}").contains("version: 2"));
/// ```
#[must_use = "a stage does nothing until a runtime is given it"]
pub struct Stage<In, O> {
    chain: O,
    key: Option<KeyOf<In>>,
    version: u32,
    pattern: String,
    epoch: usize,
    event_time: Option<Duration>,
    idle: Option<Duration>,
    late: Late,
    lanes: usize,
    state_memory: usize,
    migrate: Option<Migrate>,
    start: Start,
    input: PhantomData<fn(In)>,
}

impl<In, O> fmt::Debug for Stage<In, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("keyed", &self.key.is_some())
            .field("version", &self.version)
            .field("pattern", &self.pattern)
            .field("epoch", &self.epoch)
            .field("event_time", &self.event_time)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl<In: StageItem, O: Operator<In>> Stage<In, Chain<In, O>> {
    /// One state for all events of a tenant.
    pub fn new(chain: Chain<In, O>) -> Self {
        Self::of(chain, None)
    }

    /// A state for each key of a tenant. The key must follow from the event alone.
    pub fn keyed<K: Into<Key>>(key: impl Fn(&In) -> K + Send + Sync + 'static, chain: Chain<In, O>) -> Self {
        Self::of(chain, Some(Arc::new(move |item| key(item).into())))
    }

    fn of(chain: Chain<In, O>, key: Option<KeyOf<In>>) -> Self {
        Self {
            chain,
            key,
            version: 1,
            pattern: In::PATTERN.to_owned(),
            epoch: 1_000,
            event_time: None,
            idle: None,
            late: Late::default(),
            lanes: 1,
            state_memory: 64 << 20,
            migrate: None,
            start: Start::default(),
            input: PhantomData,
        }
    }
}

impl<In, O> Stage<In, O> {
    /// The version of the saved state: raise it when what the chain remembers changes its meaning or its shape. A stage that
    /// finds a state of another version migrates it, or parks.
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Which events it takes. Those that are not what the chain takes go to the dead letters.
    pub fn pattern(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = pattern.into();
        self
    }

    /// How many events an epoch has at most. It is cut earlier where the log ends, and where its states, its events or its
    /// outputs are large. Fewer means less to do again after a crash, and more to write for each event.
    pub fn epoch(mut self, events: usize) -> Self {
        self.epoch = events;
        self
    }

    /// Takes time from the events: the watermark is `lateness` behind the newest, and deadlines fire when it reaches them.
    /// Each key's events come to the chain in the order of their time: one waits, in the state, until the watermark has
    /// reached it. What is older than the watermark is [late](Self::late).
    ///
    /// What comes out then follows from what comes in alone: not from the clock, restarts, epochs or lanes.
    pub fn event_time(mut self, lateness: Duration) -> Self {
        self.event_time = Some(lateness);
        self
    }

    /// With event time: once the log has been at its end for so long, time goes on with the clock, until the next event. So
    /// the last windows close. An event that comes later than it should is then late.
    pub fn idle(mut self, after: Duration) -> Self {
        self.idle = Some(after);
        self
    }

    /// What becomes of late events. They are counted in any case.
    pub fn late(mut self, policy: Late) -> Self {
        self.late = policy;
        self
    }

    /// Into how many parts the keys are divided, by a hash that is the same everywhere. What comes out is the same however
    /// many there are, and they may change from run to run.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes;
        self
    }

    /// How much memory states may take, in bytes by estimate. Beyond it those are dropped that are on disk and were not used
    /// for long, and are read again when they are needed. At least 64 KiB.
    pub fn state_memory(mut self, bytes: usize) -> Self {
        self.state_memory = bytes;
        self
    }

    /// Brings saved state of another version, which it is told, into the form that the chain has now. Called for each key when
    /// its state is loaded; an error parks the stage.
    pub fn migrate(
        mut self,
        migrate: impl Fn(u32, &mut SavedParts) -> Result<(), MigrateError> + Send + Sync + 'static,
    ) -> Self {
        self.migrate = Some(Arc::new(migrate));
        self
    }

    /// Where it begins when the store sees its name for the first time.
    pub fn starting_at(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    pub(crate) fn start(&self) -> Start {
        self.start
    }

    fn refused(&self, name: &str) -> Vec<SettingError> {
        let one = "is 0; allowed is 1 or more";
        let table = [
            (name.is_empty() || name.contains('\0'), "name", "has at least one character, and no zero"),
            (name.len() > 255, "name", "is longer than 255 bytes"),
            (self.epoch == 0, "epoch", one),
            (self.lanes == 0, "lanes", one),
            (self.lanes > 1_024, "lanes", "is over 1,024"),
            (self.state_memory < 64 << 10, "state_memory", "is less than 64 KiB"),
            (self.idle.is_some() && self.event_time.is_none(), "idle", "has no effect without `event_time`"),
            (self.idle == Some(Duration::ZERO), "idle", "is zero, which would make every event late"),
        ];
        let refused = table.into_iter().filter(|(refused, ..)| *refused);
        let pattern = self.pattern.parse::<Pattern>().err();
        refused
            .map(|(_, setting, why)| SettingError::new(setting, why))
            .chain(pattern.map(|error| SettingError::new("pattern", error.to_string())))
            .collect()
    }
}

impl<In, O> Stage<In, O>
where
    In: StageItem,
    O: Durable<In, Out: IntoDraft, State: Send> + Send + 'static,
{
    /// Puts the chain behind a pointer. It has to be [restored](DurableStage::restore) before it can be stepped.
    ///
    /// # Errors
    /// All settings that are impossible, and operators that must be named.
    pub(crate) fn build(self, name: &str, border: Arc<dyn Border>) -> Result<Box<dyn DurableStage>, SettingsError> {
        let mut refused = self.refused(name);
        let labels = labels(&self.chain).unwrap_or_else(|wrong| {
            refused.extend(wrong.into_iter().map(|why| SettingError::new("chain", why)));
            Vec::new()
        });
        SettingsError::collect(refused)?;
        #[expect(clippy::expect_used, reason = "refused otherwise")]
        let pattern: Pattern = self.pattern.parse().expect("a pattern");
        let mut states = States::new(self.chain, Rows::of(name), labels, self.lanes, self.state_memory);
        (states.version, states.migrate) = (self.version, self.migrate);
        let mode = match self.event_time {
            None => Mode::Clock,
            Some(lateness) => Mode::Event { lateness, idle: self.idle },
        };
        Ok(Box::new(Driven {
            name: name.to_owned(),
            input: Input::new(pattern.clone(), Seq(0), None),
            start: self.start,
            pattern,
            key: self.key,
            drops_late: self.late == Late::Drop,
            epoch_limit: self.epoch,
            search_limit: usize::MAX,
            border,
            phase: Phase::Blank,
            tenure: None,
            states,
            replays: std::collections::VecDeque::new(),
            returned: Vec::new(),
            decoded: std::collections::VecDeque::new(),
            time: Time { mode, reached: Reached::default() },
            counts: StageCounts::default(),
            cut: (Reached::default(), StageCounts::default()),
            work: Draftwork::default(),
            poisoned: std::collections::BTreeMap::new(),
            unparked: Vec::new(),
            epoch: 0,
            cursor: Seq(0),
            in_flight: std::collections::VecDeque::new(),
            repeats: (None, 0),
        }))
    }
}
