//! How a runtime is built.

use std::{
    panic::Location,
    sync::{Arc, Mutex},
    time::Duration,
};

use millstream_middleware::{SettingError, SettingsError};
use tokio_util::sync::CancellationToken;
use tower_layer::Layer;
use tower_service::Service;

use super::{Runtime, handle::Shared};
use crate::{
    dead_letter::DeadLetters,
    dispatch::{Dispatcher, Home, Parts, Registry, Retention, SlowPolls, Statuses, UnroutedPolicy},
    event::{Clock, Event, Priority, Tenant},
    intake::{DispatchBook, EventType, Intake, Limits, LogSide, Observer, Phase, Pump, Roots, State, Tally, Waiting},
    queue::{Bounded, CLASSES, Overflow, Room},
    stage::{BoxError, BoxedHandler, Delivery, Extensions, IntoOutputs, Outside, cause_at},
    storage::Shelf,
    store::{MAX_BATCH_BYTES, Occupancy, PartitionId, Store},
    tenant::{Ledger, Quota, Quotas},
};

/// The settings of a runtime.
///
/// | setting | default |
/// | --- | --- |
/// | [`queue_size`](Self::queue_size) | 1,000 events |
/// | [`reserve`](Self::reserve) | 0 events for each class |
/// | [`overflow`](Self::overflow) | [`Overflow::Refuse`] |
/// | [`batch_size`](Self::batch_size) | 100 events |
/// | [`operation_timeout`](Self::operation_timeout) | 30 s for an attempt |
/// | [`max_crashes`](Self::max_crashes) | 3 attempts |
/// | [`max_event_depth`](Self::max_event_depth) | 100 events from the root |
/// | [`max_events_per_root`](Self::max_events_per_root) | 10,000 events |
/// | [`max_event_size`](Self::max_event_size) | 1 MiB of JSON |
/// | [`measure_typed_events`](Self::measure_typed_events) | no |
/// | [`delayed_size`](Self::delayed_size) | 10,000 events |
/// | [`dead_letter_size`](Self::dead_letter_size) | 10,000 dead letters |
/// | [`unrouted`](Self::unrouted) | [`UnroutedPolicy::Warn`] |
/// | [`tenant_quota`](Self::tenant_quota), [`quota_of`](Self::quota_of) | no limits |
/// | [`store`](Self::store) | none: events are in memory |
/// | [`retention`](Self::retention) | [`Retention::Handled`] |
/// | [`idempotency_window`](Self::idempotency_window) | 24 hours |
/// | [`recent_bytes`](Self::recent_bytes) | 32 MiB |
/// | [`max_value_size`](Self::max_value_size) | 1 MiB |
/// | [`watchdog`](Self::watchdog) | on |
/// | [`clock`](Self::clock) | the system's |
/// | [`seed`](Self::seed) | random |
/// | [`layer`](Self::layer) | none |
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use millstream::Runtime;
///
/// let error = Runtime::builder().queue_size(0).batch_size(0).build().unwrap_err();
/// assert_eq!(error.refused().len(), 2);
/// assert!(error.to_string().contains("queue_size") && error.to_string().contains("batch_size"));
/// # });
/// ```
#[derive(Debug)]
#[must_use = "a builder builds nothing until `build` is called"]
pub struct Builder {
    queue_size: usize,
    reserved: [usize; CLASSES],
    overflow: Overflow,
    batch_size: usize,
    operation_timeout: Duration,
    max_crashes: u32,
    limits: Limits,
    dead_letter_size: usize,
    unrouted: UnroutedPolicy,
    quotas: Quotas,
    watchdog: bool,
    clock: Option<Clock>,
    seed: Option<u64>,
    #[cfg(feature = "testing")]
    id_seed: Option<u64>,
    extensions: Extensions,
    outside: Outside,
    types: Vec<EventType>,
    observer: Option<Arc<dyn Observer>>,
    home: Option<Home>,
    retention: Retention,
    recent_bytes: usize,
    max_value_size: usize,
}

/// Settings that are impossible, all at once.
pub type BuildError = SettingsError;

impl Default for Builder {
    fn default() -> Self {
        Self {
            queue_size: 1_000,
            reserved: [0; CLASSES],
            overflow: Overflow::default(),
            batch_size: 100,
            operation_timeout: Duration::from_secs(30),
            max_crashes: 3,
            limits: Limits {
                event_size: 1 << 20,
                measure_typed: false,
                depth: 100,
                per_root: 10_000,
                delayed: 10_000,
                once: Duration::from_hours(24),
            },
            dead_letter_size: 10_000,
            unrouted: UnroutedPolicy::default(),
            quotas: Quotas::default(),
            watchdog: true,
            clock: None,
            seed: None,
            #[cfg(feature = "testing")]
            id_seed: None,
            extensions: Extensions::default(),
            outside: Outside::default(),
            types: Vec::new(),
            observer: None,
            home: None,
            retention: Retention::default(),
            recent_bytes: 32 << 20,
            max_value_size: 1 << 20,
        }
    }
}

impl Builder {
    /// How many events may wait or be handled at a time. An event holds its place until its last delivery ends; in a durable
    /// runtime until it is in the [`store`](Self::store), from where it is handled: what waits there is bounded by the disk alone.
    pub fn queue_size(mut self, events: usize) -> Self {
        self.queue_size = events;
        self
    }

    /// Of the `queue_size`, so many places for events of this class alone.
    pub fn reserve(mut self, class: Priority, events: usize) -> Self {
        self.reserved[class.class()] = events;
        self
    }

    /// What becomes of an event for which there is no room. In a durable runtime a disk that is slower than the emits fills the
    /// queue, too: a policy that drops, drops what is not in the store yet.
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = policy;
        self
    }

    /// How many events are taken out of the queue at a time. An urgent event waits for the rest of a batch at most.
    pub fn batch_size(mut self, events: usize) -> Self {
        self.batch_size = events;
        self
    }

    /// How long one attempt of a handler may take, unless its subscription says otherwise.
    pub fn operation_timeout(mut self, limit: Duration) -> Self {
        self.operation_timeout = limit;
        self
    }

    /// In a durable runtime: with how many attempts of one delivery the process may end before it is a dead letter
    /// ([`Death::Crashed`](crate::Death::Crashed)) instead of ending the next one.
    ///
    /// A process that comes after one that was not [shut down](crate::Runtime::shutdown) counts: what was in the log
    /// then is written down before it is begun, the first 4,096 attempts of each subscription. What was begun like that when
    /// a process ended, the next one begins alone, so that what is to blame shows. The end of the first process is not
    /// counted, for it wrote nothing down.
    pub fn max_crashes(mut self, attempts: u32) -> Self {
        self.max_crashes = attempts;
        self
    }

    /// How many causes may lie between an event and its root.
    pub fn max_event_depth(mut self, depth: u32) -> Self {
        self.limits.depth = depth;
        self
    }

    /// How many events one root may cause, through all generations.
    pub fn max_events_per_root(mut self, events: u32) -> Self {
        self.limits.per_root = events;
        self
    }

    /// The largest data of an event that enters as JSON, in bytes of JSON without spaces. With a [`store`](Self::store) no event may take
    /// more than 16 MiB as it is written, whatever is set here.
    pub fn max_event_size(mut self, bytes: usize) -> Self {
        self.limits.event_size = bytes;
        self
    }

    /// Measures typed events against `max_event_size` as well: each is serialised once for that.
    pub fn measure_typed_events(mut self, measure: bool) -> Self {
        self.limits.measure_typed = measure;
        self
    }

    /// How many events may wait for their due time in memory. They hold no place in the queue. What handlers return beyond it is a
    /// dead letter.
    ///
    /// In a durable runtime they wait in the store, where this is no limit: the disk is. A handler that returns several events for
    /// each one it gets, each delayed by a second or more, begins new roots with them, which no count ends: there it is for the
    /// handler to end that.
    pub fn delayed_size(mut self, events: usize) -> Self {
        self.limits.delayed = events;
        self
    }

    /// How many dead letters are kept; beyond it the oldest is dropped and counted.
    pub fn dead_letter_size(mut self, letters: usize) -> Self {
        self.dead_letter_size = letters;
        self
    }

    /// Keeps all events in a store until they are handled, so that they survive the process: the runtime is durable.
    ///
    /// `Ok` of an emit then means queued, and awaiting its [`Receipt`](crate::Receipt) that the event is in the store.
    /// Subscriptions have names, under which the store keeps how far each has come; each event is handled at least once, and
    /// what a handler returns is emitted exactly once. The partition is claimed by whoever drives the runtime first; one runtime
    /// has it at a time: [`build`](Self::build) refuses a second one over a clone of the same store while the first lives.
    ///
    /// An event holds room in the queue only until it is in the store, so [`queue_size`](Self::queue_size) and
    /// [`overflow`](Self::overflow) bound the way to the disk, not the backlog on it. Requests are refused.
    pub fn store(mut self, store: impl Store) -> Self {
        self.home = Some(Home { store: Arc::new(store), partition: PartitionId::default() });
        self
    }

    /// How long events stay in the log that all have handled, and whether those stay that somebody has not.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// How many bytes of what was written last are kept in memory, for subscriptions that keep up with the log and for those that
    /// catch up with it; so much each for what they were told, for what has landed out of order, and for what nobody who drives has
    /// seen yet. A record's bytes count. What is beyond is read from the store: that is slower, and nothing is lost. Default: 32 MiB.
    pub fn recent_bytes(mut self, bytes: usize) -> Self {
        self.recent_bytes = bytes;
        self
    }

    /// For how long an idempotency key keeps others of the same key out.
    pub fn idempotency_window(mut self, window: Duration) -> Self {
        self.limits.once = window;
        self
    }

    /// The largest value of a [`Storage`](crate::Storage), in bytes.
    pub fn max_value_size(mut self, bytes: usize) -> Self {
        self.max_value_size = bytes;
        self
    }

    /// What becomes of an event that no subscription wants.
    pub fn unrouted(mut self, policy: UnroutedPolicy) -> Self {
        self.unrouted = policy;
        self
    }

    /// What each tenant may use that has no quota of its own.
    pub fn tenant_quota(mut self, quota: Quota) -> Self {
        self.quotas.each = quota;
        self
    }

    /// What one tenant may use.
    pub fn quota_of(mut self, tenant: impl Into<Tenant>, quota: Quota) -> Self {
        self.quotas.by_tenant.insert(tenant.into(), quota);
        self
    }

    /// Whether a thread watches for handlers that hold up theirs for over 100 ms, and names them in the log and in
    /// [`Runtime::health`]. It looks every 25 ms, so one of 150 ms is always named.
    pub fn watchdog(mut self, on: bool) -> Self {
        self.watchdog = on;
        self
    }

    /// The clock that all times come from.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Makes ids and jitter repeat from run to run, for tests. The ids of a durable runtime do not repeat: its store has those
    /// of earlier runs.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Makes the ids of a durable runtime repeat as well, for simulations: with the same seeds, clock, store and calls all is
    /// the same to the last byte. Feature `testing`.
    ///
    /// Each time that one store is opened it must be **another** seed: else a runtime whose clock was set back may give a new
    /// event the id of one that is in the store. Without a store, [`seed`](Self::seed) is enough.
    #[cfg(feature = "testing")]
    pub fn id_seed(mut self, seed: u64) -> Self {
        self.id_seed = Some(seed);
        self
    }

    /// Something that handlers take as [`State`](crate::State): a pool, a configuration. One for each type; the last
    /// one given counts.
    pub fn state<S: Clone + Send + Sync + 'static>(mut self, state: S) -> Self {
        self.extensions.insert(state);
        self
    }

    /// Wraps every handler that is subscribed in a tower layer, outside of the layers that the handler wears. Layers are
    /// **outermost first, as written**. Streams are no handlers and wear none.
    ///
    /// `Layer::layer` is called once by [`build`](Self::build), to hear what the layer is, and once for each subscription. So what the layer
    /// *value* holds is shared by all subscriptions of the runtime, and what it makes anew in `layer` is each subscription's own: see
    /// [What is shared](crate::middleware#what-is-shared). One limit or one breaker for a whole runtime is rarely what is
    /// wanted; `tower::layer::layer_fn` gives each subscription its own. Keys of a cache, an idempotency or a dedupe layer must
    /// name the subscription, or the second subscription of an event gets what the first one answered.
    ///
    /// Retry has one owner. A [`RetryLayer`](crate::middleware::retry::RetryLayer) as the outermost layer becomes the policy of
    /// all subscriptions that have none of their own, set by [`retry`](crate::Handler::retry) or lifted out of an outermost
    /// layer; further in, also inside of a stack, `build` refuses it.
    ///
    /// Each layer costs a boxed future for a delivery; several in one `ServiceBuilder` stack cost one.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use millstream::{Draft, Json, Retry, Runtime};
    /// use millstream::middleware::{breaker::{BreakerLayer, Trip}, retry::RetryLayer, timeout::TimeoutLayer};
    /// use tower::{Layer, layer::layer_fn};
    ///
    /// let runtime = Runtime::builder()
    ///     .layer(RetryLayer::new(Retry::exponential())?)
    ///     .layer(layer_fn(|handler| BreakerLayer::new(Trip::default()).expect("it is possible").layer(handler)))
    ///     .layer(TimeoutLayer::new(Duration::from_secs(5))?)
    ///     .build()?;
    /// runtime.on("greet", |_: Json| async {})?;
    /// runtime.emit(Draft::json("greet", "world".into()))?;
    /// assert_eq!(runtime.process().await?.handled, 1);
    ///
    /// let greeter = &runtime.describe().subscriptions[0];
    /// assert_eq!(greeter.retry.max_attempts(), 3);
    /// assert_eq!(greeter.layers[1].to_string(), "timeout(limit 5s)");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BoxedHandler> + Send + Sync + 'static,
        L::Service: Service<Delivery, Response: IntoOutputs, Error: Into<BoxError>> + Clone + Send + 'static,
        <L::Service as Service<Delivery>>::Future: Send + 'static,
    {
        self.outside.add(layer);
        self
    }

    /// Makes a type known, so that JSON events of its name get its priority and its key. Types that handlers take are
    /// known without it.
    pub fn event<T: Event>(mut self) -> Self {
        self.types.push(EventType::of::<T>());
        self
    }

    /// A seed for tests that do not care which.
    #[cfg(feature = "testing")]
    pub(crate) fn seed_unless_set(mut self, seed: u64) -> Self {
        self.seed.get_or_insert(seed);
        self.watchdog = false;
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Builds the runtime. It does nothing until it is driven by [`process`](Runtime::process) or [`run`](Runtime::run).
    ///
    /// # Errors
    /// All settings that are impossible, and what is allowed. A [`store`](Self::store) is, while another runtime of this process that was
    /// built on a clone of it is neither shut down nor dropped.
    #[track_caller]
    pub fn build(self) -> Result<Runtime, BuildError> {
        SettingsError::collect(self.refused())?;
        let occupancy = self.occupy(Location::caller())?;
        let clock = self.clock.unwrap_or_else(Clock::system);
        let clock = clock.not_before(self.home.as_ref().and_then(Home::last_now).unwrap_or_default());
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let id_seed = self.seed_of_ids(seed);
        let registry = Arc::new(Registry::default());
        let pump = self
            .home
            .as_ref()
            .map(|home| Pump::new(Arc::clone(&home.store), home.partition, Box::new(Arc::downgrade(&registry))));
        let (limits, observer) = (self.limits, self.observer.clone());
        let intake = Intake::new(self.state_of(clock), clock, id_seed, limits, observer, cause_at, pump);
        self.types.iter().for_each(|&event_type| intake.types.add(event_type));
        let letters = Arc::new(Mutex::new(DeadLetters::new(self.dead_letter_size, self.quotas.clone())));
        let commands = Arc::new(Mutex::new(Vec::new()));
        let statuses = Arc::new(Statuses::default());
        let slow = self.watchdog.then(|| Arc::new(SlowPolls::default()));
        let shelf = Arc::new(self.shelf());
        let dispatcher = Dispatcher::new(Parts {
            intake: Arc::clone(&intake),
            registry: Arc::clone(&registry),
            letters: Arc::clone(&letters),
            commands: Arc::clone(&commands),
            shelf: Arc::clone(&shelf),
            home: self.home.clone(),
            occupancy,
            retention: self.retention,
            recent_bytes: self.recent_bytes,
            statuses: Arc::clone(&statuses),
            quotas: self.quotas,
            batch_size: self.batch_size,
            timeout: self.operation_timeout,
            max_crashes: self.max_crashes,
            unrouted: self.unrouted,
            share: (self.queue_size / 2).max(1),
            seed,
            slow: slow.clone(),
        });
        Ok(Runtime::of(Shared {
            intake,
            registry,
            letters,
            commands,
            slow,
            extensions: Arc::new(self.extensions),
            shelf,
            home: Mutex::new(self.home),
            outside: self.outside,
            statuses,
            dispatcher: tokio::sync::Mutex::new(dispatcher),
            stop: CancellationToken::new(),
            closed: CancellationToken::new(),
            life: Mutex::default(),
            ending: tokio::sync::Mutex::default(),
            recent: Mutex::default(),
            streams: Mutex::default(),
        }))
    }

    /// Where handlers keep what they keep.
    fn shelf(&self) -> Shelf {
        match &self.home {
            Some(home) => Shelf::of(&*home.store, home.partition, self.max_value_size),
            None => Shelf::in_memory(self.max_value_size),
        }
    }

    /// Sees to it that no other runtime of this process runs on the store.
    fn occupy(&self, holder: &Location<'_>) -> Result<Option<Occupancy>, BuildError> {
        let Some(home) = &self.home else { return Ok(None) };
        let refused = |other: Arc<str>| {
            let why = format!(
                "is held by a runtime of this process that was built at {other} and still lives: use a clone of that runtime, shut it down or drop it before, or give this one a store of its own"
            );
            SettingsError::collect([SettingError::new("store", why)])
        };
        match home.store.occupy(home.partition, &holder.to_string()) {
            Ok(occupancy) => Ok(Some(occupancy)),
            Err(other) => refused(other).map(|()| None),
        }
    }

    /// A store has the ids of earlier processes, which may have had the same seed and, where the clock's last reading was not
    /// written, the same times.
    fn seed_of_ids(&self, seed: u64) -> u64 {
        #[cfg(feature = "testing")]
        if let Some(id_seed) = self.id_seed {
            return id_seed;
        }
        if self.home.is_some() { fastrand::u64(..) } else { seed }
    }

    fn state_of(&self, clock: Clock) -> State {
        State {
            phase: Phase::Open,
            queue: Bounded::new(Room::new(self.queue_size, self.reserved), self.overflow),
            delayed: std::collections::BTreeMap::new(),
            last_delayed: 0,
            waiting: Waiting::default(),
            tenants: Ledger::new(self.quotas.clone(), clock),
            roots: Roots::new(clock.now()),
            saturated: Vec::new(),
            tally: Tally::default(),
            dispatch: DispatchBook::default(),
            gone: Vec::new(),
            consumer: None,
            dispatch_is_strict: false,
            cancelled: false,
            log: LogSide::new(self.home.is_some(), self.recent_bytes),
        }
    }

    fn refused(&self) -> Vec<SettingError> {
        let reserved = self.reserved.iter().fold(0_usize, |sum, &events| sum.saturating_add(events));
        let one = "is 0; allowed is 1 or more";
        let table = [
            (self.queue_size == 0, "queue_size", one),
            (reserved > self.queue_size, "reserve", "the classes reserve more places than `queue_size` has"),
            (
                reserved > 0 && reserved == self.queue_size && self.reserved.contains(&0),
                "reserve",
                "all of `queue_size` is reserved and leaves no place for a class without a reserve",
            ),
            (self.batch_size == 0, "batch_size", one),
            (self.operation_timeout.is_zero(), "operation_timeout", "is zero, which leaves no time for any attempt"),
            (self.max_crashes == 0, "max_crashes", one),
            (self.limits.per_root == 0, "max_events_per_root", one),
            (self.limits.event_size == 0, "max_event_size", one),
            (self.dead_letter_size == 0, "dead_letter_size", one),
            (self.max_value_size == 0, "max_value_size", one),
            (self.recent_bytes == 0, "recent_bytes", one),
            (
                self.max_value_size > MAX_BATCH_BYTES / 2,
                "max_value_size",
                "is more than the 32 MiB that a commit has room for",
            ),
            (
                self.home.is_some() && self.unrouted == UnroutedPolicy::DeadLetter,
                "unrouted",
                "`dead_letter` has no use with a `store`: events that nobody wants stay in the log, and a subscription that starts at `Earliest` gets them",
            ),
            (self.retention.refused().is_some(), "retention", self.retention.refused().unwrap_or_default()),
        ];
        let own = table.into_iter().filter(|(refused, ..)| *refused).map(|(_, name, why)| SettingError::new(name, why));
        let quotas = self.quotas.zeros().map(|zero| SettingError::new("quota", zero));
        own.chain(quotas).chain(self.outside.refused()).collect()
    }
}
