//! The dispatcher: what it holds, and its round.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::Context,
    time::Duration,
};

use futures_util::future::{Abortable, Aborted};
use futures_util::stream::{FuturesUnordered, StreamExt};
use millstream_operators::Timestamp;
use serde::{Deserialize, Serialize};
use slab::Slab;
use tokio::{sync::oneshot, time::Sleep};

use super::{
    attempt::First,
    beat::{Beat, SlowPolls, Watchdog},
    durable::{Durable, Home, NewStage, Retention, Statuses},
    job::{Job, OpenEvent},
    meters::Metrics,
    registry::{Entry, Registry},
    running::{InFlight, Running},
    subscriber::Subscriber,
    timers::{Due, Timers},
};
use crate::{
    dead_letter::{DeadLetter, DeadLetters, Death},
    epoch::StateKey,
    event::{self, Envelope, EventName, Tenant},
    intake::{Held, Intake, Outlook, Pulled, Settlement, What},
    request::NoAnswer,
    stage::{Call, HandlerError, Order, contained},
    storage::{Shelf, Stale, StorageError, Writes},
    tenant::Quotas,
};

/// What becomes of an event that no subscription wants. It is counted in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UnroutedPolicy {
    /// Nothing more.
    Ignore,
    /// A line in the log, the first time for each name. The default.
    #[default]
    Warn,
    /// It is kept as a dead letter, to be emitted again when somebody wants it.
    DeadLetter,
}

/// What a dispatcher is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) intake: Arc<Intake>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) letters: Arc<Mutex<DeadLetters>>,
    pub(crate) commands: Arc<Mutex<Vec<Command>>>,
    /// What handlers keep by key.
    pub(crate) shelf: Arc<Shelf>,
    /// Where events survive, in a durable runtime.
    pub(crate) home: Option<Home>,
    pub(crate) retention: Retention,
    /// How the operator stages are.
    pub(crate) statuses: Arc<Statuses>,
    pub(crate) quotas: Quotas,
    pub(crate) batch_size: usize,
    pub(crate) timeout: Duration,
    pub(crate) unrouted: UnroutedPolicy,
    /// The most events of a class that one subscription may hold.
    pub(crate) share: usize,
    pub(crate) seed: u64,
    /// Where the watchdog says what it found; none without a watchdog.
    pub(crate) slow: Option<Arc<SlowPolls>>,
}

/// What others ask of the dispatcher.
#[derive(Debug)]
pub(crate) enum Command {
    /// Deliver dead letters again, each to its own subscription.
    Replay(Vec<Replay>),
    /// The heads of these letters will not be replayed: let their keys go on.
    LetGo {
        letters: Vec<DeadLetter>,
        /// As in [`Replay`].
        reading: u64,
    },
    /// A durable subscription that nobody claims any more is forgotten.
    Forget(String),
    /// The timers of a parked key of a stage fire again.
    Unpark { stage: String, key: StateKey },
    /// An operator stage joins.
    Stage(NewStage),
    /// Somebody writes to the storage from outside of handlers.
    Write(Write),
}

#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) letter: DeadLetter,
    pub(crate) entry: Arc<Entry>,
    pub(crate) due: Timestamp,
    /// The letter was taken out after so many readings of the store. Is it read again, it is dead again.
    pub(crate) reading: u64,
}

/// What somebody writes to the storage, and who waits for it.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) writes: Writes,
    pub(crate) reply: oneshot::Sender<Result<Result<(), Stale>, StorageError>>,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more to do, and others should have their turn first.
    Busy,
    /// Something is in flight or in backoff, and nothing can be done before it moves.
    Waiting,
    /// Nothing is queued, in flight or in backoff.
    Resting {
        /// When the next delayed event is due.
        next_due: Option<Timestamp>,
    },
}

/// What a tenant with quotas has in flight and in backoff, and who waits for that.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) in_flight: usize,
    pub(super) retries: usize,
    pub(super) waiting: VecDeque<Job>,
}

pub(crate) struct Dispatcher {
    pub(super) parts: Parts,
    pub(super) subscribers: Slab<Subscriber>,
    routes: HashMap<EventName, Arc<[usize]>, foldhash::fast::RandomState>,
    /// The route of the last event: events of one name often follow each other.
    route: (EventName, Arc<[usize]>),
    version: u64,
    batch: VecDeque<Pulled>,
    /// Deliveries that have all they need and start next.
    pub(super) ready: VecDeque<Job>,
    pub(super) running: FuturesUnordered<Abortable<Running>>,
    pub(super) in_flight: Slab<InFlight>,
    /// Attempts that were aborted and whose futures are not dropped yet: nothing starts in their place before.
    pub(super) aborted: usize,
    pub(super) open: Slab<OpenEvent>,
    pub(super) loads: HashMap<Tenant, Load>,
    pub(super) timers: Timers,
    sleep: Option<Pin<Box<Sleep>>>,
    pub(super) done: Settlement,
    pub(super) metrics: Metrics,
    pub(super) beat: Arc<Beat>,
    pub(super) watchdog: Option<Watchdog>,
    pub(super) random: fastrand::Rng,
    pub(super) last_job: u64,
    next_due: Option<Timestamp>,
    /// The lowest sequence that was still queued after the last pull.
    oldest: Option<u64>,
    /// The time at the beginning of the round.
    pub(super) now: Timestamp,
    warned: HashSet<EventName>,
    /// Whether a subscription keeps the order of emission.
    pub(super) is_strict: bool,
    /// The store, in a durable runtime.
    pub(super) durable: Option<Box<Durable>>,
}

/// What is known of a delivery that did not end at once.
struct Delivered {
    held: Held,
    /// Where its event is kept track of.
    open: usize,
    place: usize,
    sequence: u64,
    wants: Result<bool, HandlerError>,
    first: Option<First>,
}

/// Rounds after which others have their turn.
const ROUNDS: usize = 8;
/// Events after which the task's budget is looked at.
const LOOK_UP: usize = 8;
/// Names whose routes are remembered.
const MOST_ROUTES: usize = 10_000;

impl Dispatcher {
    pub(crate) fn new(mut parts: Parts) -> Self {
        let beat = Arc::new(Beat::default());
        let now = parts.intake.clock.now();
        let durable = parts.home.take().map(|home| Box::new(Durable::new(home, now)));
        Self {
            now,
            random: fastrand::Rng::with_seed(parts.seed),
            watchdog: parts.slow.clone().map(|slow| Watchdog::watch(Arc::clone(&beat), slow)),
            parts,
            subscribers: Slab::new(),
            routes: HashMap::default(),
            route: Self::no_route(),
            version: 0,
            batch: VecDeque::new(),
            ready: VecDeque::new(),
            running: FuturesUnordered::new(),
            in_flight: Slab::new(),
            aborted: 0,
            open: Slab::new(),
            loads: HashMap::new(),
            timers: Timers::default(),
            sleep: None,
            done: Settlement::default(),
            metrics: Metrics::new(),
            beat,
            last_job: 0,
            next_due: None,
            oldest: None,
            warned: HashSet::new(),
            is_strict: false,
            durable,
        }
    }

    /// Does what can be done now. Unless it is [`Progress::Busy`], the task is woken when there is more.
    pub(crate) fn round(&mut self, cx: &mut Context<'_>) -> Progress {
        // Those of before are not this runtime's.
        event::dropped_badly();
        let progress = self.rounds(cx);
        self.count_bad_drops();
        progress
    }

    /// Events that panicked while they were dropped have no delivery any more to fail.
    fn count_bad_drops(&mut self) {
        self.done.book.deliveries.panics += event::dropped_badly();
    }

    fn rounds(&mut self, cx: &mut Context<'_>) -> Progress {
        for _ in 0..ROUNDS {
            self.now = self.parts.intake.clock.now();
            let mut moved = self.obey();
            moved |= self.fire_timers(cx);
            moved |= self.poll_running(cx);
            if self.aborted > 0 {
                return Self::busy(cx);
            }
            moved |= self.start_ready(cx);
            if self.batch.is_empty() {
                moved |= self.pull(cx);
            }
            if self.durable.is_some() {
                moved |= self.durable_round(cx);
            }
            moved |= !self.batch.is_empty();
            if !self.dispatch_batch(cx) {
                return Self::busy(cx);
            }
            if !moved && self.done.returned.is_empty() && self.ready.is_empty() {
                return self.wait(cx);
            }
        }
        Self::busy(cx)
    }

    fn busy(cx: &Context<'_>) -> Progress {
        cx.waker().wake_by_ref();
        Progress::Busy
    }

    /// Nothing moves now: sleeps until the next time at which something does.
    fn wait(&mut self, cx: &mut Context<'_>) -> Progress {
        let in_store = self.durable.as_ref().and_then(|durable| durable.next());
        let next = [self.timers.next(), self.next_due, in_store].into_iter().flatten().min();
        if let Some(next) = next {
            let at = self.parts.intake.clock.instant_of(next);
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if sleep.deadline() != at {
                sleep.as_mut().reset(at);
            }
            if sleep.as_mut().poll(cx).is_ready() {
                return Self::busy(cx);
            }
        }
        if self.in_flight.is_empty() && self.timers.next().is_none() && self.is_settled() {
            return Progress::Resting { next_due: self.next_due };
        }
        Progress::Waiting
    }

    /// Takes the lock once: settles what was done and pulls what comes next. Whether there is something new to settle.
    fn pull(&mut self, cx: &Context<'_>) -> bool {
        self.count_bad_drops();
        // A durable runtime's queue is the way to the log.
        let most = if self.durable.is_some() { 0 } else { self.parts.batch_size };
        let outlook = self.parts.intake.exchange(&mut self.done, &mut self.batch, most, Some(cx.waker()));
        let deliveries = &self.done.book.deliveries;
        self.metrics.tell(outlook.events, deliveries.retried, deliveries.dead, outlook.depth);
        let Outlook { next_due, oldest, cancelled, looped, .. } = outlook;
        self.next_due = next_due;
        self.oldest = oldest;
        // Asked for between `obey` and the exchange, when there was nobody to wake.
        let mut moved = cancelled || !looped.is_empty() || self.has_commands();
        for (event, refusal) in looped {
            self.loop_died(&event, &refusal);
        }
        if cancelled {
            self.sweep_cancelled();
        }
        if self.version != self.parts.registry.version() {
            self.catch_up();
            moved = true;
        }
        moved
    }

    /// Dispatches the batch; `false` where others should have their turn first.
    fn dispatch_batch(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(pulled) = self.batch.pop_front() {
            // A handler may have taken one back that the rest of the batch would go to.
            if self.version != self.parts.registry.version() {
                self.catch_up();
            }
            self.dispatch(pulled, cx);
            if !self.ready.is_empty() {
                self.start_ready(cx);
            }
            if self.batch.len().is_multiple_of(LOOK_UP) && !tokio::task::coop::has_budget_remaining() {
                return false;
            }
        }
        self.release_early(self.oldest);
        true
    }

    fn start_ready(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while self.aborted == 0
            && let Some(job) = self.ready.pop_front()
        {
            moved = true;
            if job.is_cancelled() {
                self.cancel_ready(job);
            } else {
                self.start(job, cx);
            }
        }
        moved
    }

    fn fire_timers(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        let made = self.timers.made();
        while let Some(due) = self.timers.pop_due(self.now, made) {
            moved = true;
            match due {
                Due::Attempt(job) => self.wake_up(*job),
                Due::Timeout(place) => self.time_out(place),
            }
            self.start_ready(cx);
        }
        moved
    }

    fn poll_running(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let std::task::Poll::Ready(Some(ended)) = self.running.poll_next_unpin(cx) {
            // An aborted attempt was settled when it was aborted.
            match ended {
                Ok((place, outcome)) => self.complete(place, outcome),
                Err(Aborted) => self.aborted -= 1,
            }
            self.start_ready(cx);
            moved = true;
        }
        moved
    }

    /// One event to all who want it.
    fn dispatch(&mut self, pulled: Pulled, cx: &mut Context<'_>) {
        let Pulled { sequence, held: Held { mut event, origin } } = pulled;
        let class = event.priority.class();
        if event.cancellation().is_some_and(tokio_util::sync::CancellationToken::is_cancelled) {
            return self.drop_cancelled(class, &event);
        }
        self.metrics.wait.record(self.now.since(event.emitted));
        self.find_route(&event.name);
        // An event is only kept track of where a delivery does not end at once.
        let mut open = None;
        let mut wanted = false;
        for turn in 0..self.route.1.len() {
            let place = self.route.1[turn];
            let wants = self.wants(place, &event);
            if matches!(wants, Ok(false)) {
                continue;
            }
            wanted = true;
            let mut first = None;
            if wants.is_ok() && self.is_free(place, &event) {
                (event, first) = self.deliver_at_once(event, origin.as_deref(), place, cx);
                if first.is_none() {
                    continue;
                }
            }
            let open = *open.get_or_insert_with(|| self.keep_open(class));
            let held = Held { event: Arc::clone(&event), origin: origin.clone() };
            self.take_on(Delivered { held, open, place, sequence, wants, first }, cx);
        }
        let held = Held { event, origin };
        if wanted {
            self.done.book.routed += 1;
        } else {
            self.unrouted(&held);
        }
        match open {
            Some(open) => self.close(open, &held, true),
            None => self.end_at_once(class, &held),
        }
    }

    /// A delivery that did not end at once: it waits, or something has to come of its first attempt.
    #[inline(never)]
    fn take_on(&mut self, delivered: Delivered, cx: &mut Context<'_>) {
        let Delivered { held, open, place, sequence, wants, first } = delivered;
        match (wants, first) {
            (Err(panic), _) => self.refuse(held, open, place, sequence, &panic),
            (Ok(_), None) => self.deliver(held, open, place, sequence, cx),
            (Ok(_), Some(first)) => {
                let job = self.make_job(held, open, place, sequence);
                self.go_on(Job { id: first.id, ..job }, first);
            }
        }
    }

    #[cold]
    fn drop_cancelled(&mut self, class: usize, event: &Arc<Envelope>) {
        self.done.book.cancelled += 1;
        self.parts.intake.observe(event, What::Dropped { reason: "cancelled" });
        self.leave(class, event.tenant.as_ref());
    }

    /// The dispatch itself keeps the event open, so that it cannot end between two of its deliveries.
    fn keep_open(&mut self, class: usize) -> usize {
        self.open.insert(OpenEvent { class, open: 1, with_room: 1, failure: None })
    }

    fn end_at_once(&mut self, class: usize, held: &Held) {
        self.leave(class, held.event.tenant.as_ref());
        if let Some(request) = held.request() {
            request.fail(NoAnswer::NoReply);
        }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it is asked for each event, and mostly says yes at once")]
    pub(super) fn wants(&self, place: usize, event: &Envelope) -> Result<bool, HandlerError> {
        let entry = &self.subscribers[place].entry;
        if !entry.serves(event) {
            return Ok(false);
        }
        match &entry.options.filter {
            None => Ok(true),
            // Another attempt would call the handler, whether the filter wants that or not.
            Some(filter) => contained(|| filter(event)).map_err(HandlerError::never_retry),
        }
    }

    /// Makes the route of this name the current one: the subscriptions that take events of it.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it is asked for each event, and mostly nothing has changed")]
    pub(super) fn find_route(&mut self, name: &EventName) {
        if !self.route.0.is_same(name) {
            self.route = (name.clone(), self.route_of(name));
        }
    }

    /// Of no event: its name is none.
    fn no_route() -> (EventName, Arc<[usize]>) {
        (EventName::unchecked_static(""), Arc::default())
    }

    fn route_of(&mut self, name: &EventName) -> Arc<[usize]> {
        if let Some(route) = self.routes.get(name) {
            return Arc::clone(route);
        }
        let matching =
            self.subscribers.iter().filter(|(_, s)| s.is_subscribed && s.entry.pattern.matches(name.as_str()));
        let mut route: Vec<_> =
            matching.map(|(place, s)| (-i64::from(s.entry.options.priority), s.entry.id, place)).collect();
        route.sort_unstable();
        let route: Arc<[usize]> = route.into_iter().map(|(.., place)| place).collect();
        if self.routes.len() >= MOST_ROUTES {
            self.routes.clear();
        }
        self.routes.insert(name.clone(), Arc::clone(&route));
        route
    }

    fn unrouted(&mut self, held: &Held) {
        self.done.book.unrouted += 1;
        self.parts.intake.observe(&held.event, What::Unrouted);
        if let Some(request) = held.request() {
            request.fail(NoAnswer::NoHandler);
        }
        match self.parts.unrouted {
            UnroutedPolicy::Ignore => {}
            UnroutedPolicy::Warn => self.warn_unrouted(&held.event.name),
            UnroutedPolicy::DeadLetter => self.bury_event(&held.event, Death::Unrouted, None),
        }
    }

    fn warn_unrouted(&mut self, name: &EventName) {
        if self.warned.len() < MOST_ROUTES && self.warned.insert(name.clone()) {
            tracing::warn!(event = %name, "no subscription wants this event");
        }
    }

    /// Sees who has subscribed and who has left since the last time.
    pub(super) fn catch_up(&mut self) {
        self.version = self.parts.registry.version();
        let (entries, added) = self.parts.registry.catch_up();
        for (entry, call) in added {
            self.add_subscriber(entry, call);
        }
        let left: HashSet<_> = entries.iter().map(|entry| entry.id).collect();
        for (_, subscriber) in &mut self.subscribers {
            subscriber.is_subscribed = left.contains(&subscriber.entry.id);
        }
        self.detach_unsubscribed();
        self.tell_orphans();
        let gone = self.subscribers.iter().filter(|(_, subscriber)| !subscriber.is_subscribed && subscriber.open == 0);
        for place in gone.map(|(place, _)| place).collect::<Vec<_>>() {
            self.drop_subscriber(place);
        }
        self.routes.clear();
        self.route = Self::no_route();
        self.is_strict = self.subscribers.iter().any(|(_, s)| s.entry.options.order == Order::Strict);
        let mut state = self.parts.intake.lock();
        if self.is_strict && !state.dispatch_is_strict {
            // The batch was pulled when nobody asked what it leaves behind.
            self.oldest = state.queue.oldest();
        }
        state.dispatch_is_strict = self.is_strict;
        drop(state);
        self.publish_saturated();
    }

    fn add_subscriber(&mut self, entry: Arc<Entry>, call: Box<dyn Call>) {
        self.subscribers.insert(Subscriber::new(entry, call));
    }

    pub(super) fn has_new_subscribers(&self) -> bool {
        self.version != self.parts.registry.version()
    }

    pub(super) fn route_len(&self) -> usize {
        self.route.1.len()
    }

    pub(super) fn route_at(&self, turn: usize) -> usize {
        self.route.1[turn]
    }

    pub(super) fn take_batch(&mut self) -> VecDeque<Pulled> {
        std::mem::take(&mut self.batch)
    }

    /// Publishes the books without pulling anything.
    pub(super) fn settle_books(&mut self) {
        self.count_bad_drops();
        let outlook = self.parts.intake.exchange(&mut self.done, &mut VecDeque::new(), 0, None);
        for (event, refusal) in outlook.looped {
            self.loop_died(&event, &refusal);
        }
    }

    /// Handlers may hold the runtime that holds them: a stopped runtime lets go of them.
    pub(super) fn drop_handlers(&mut self) {
        for place in self.subscribers.iter().map(|(place, _)| place).collect::<Vec<_>>() {
            self.drop_subscriber(place);
        }
        self.routes.clear();
    }

    /// A handler goes. What it holds is the user's, and may panic.
    pub(super) fn drop_subscriber(&mut self, place: usize) {
        self.close_reader(place);
        let subscriber = self.subscribers.remove(place);
        let name = Arc::clone(subscriber.entry.name());
        if let Err(panic) = contained(|| drop(subscriber)) {
            tracing::error!(subscription = &*name, error = %panic, "a handler panicked while it was dropped");
            self.done.book.deliveries.panics += 1;
        }
    }

    /// Lets go of handlers that were taken back, where nobody drives.
    pub(crate) fn tidy(&mut self) {
        while self.version != self.parts.registry.version() {
            self.catch_up();
        }
    }

    fn has_commands(&self) -> bool {
        !self.parts.commands.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn obey(&mut self) -> bool {
        let commands = std::mem::take(&mut *self.parts.commands.lock().unwrap_or_else(PoisonError::into_inner));
        let moved = !commands.is_empty();
        if moved && self.version != self.parts.registry.version() {
            self.catch_up();
        }
        for command in commands {
            match command {
                Command::Replay(replays) => replays.into_iter().for_each(|replay| self.replay(replay)),
                Command::LetGo { letters, reading } if self.is_theirs(reading) => {
                    for letter in &letters {
                        self.let_go(letter);
                    }
                }
                Command::LetGo { .. } => {}
                Command::Forget(name) => self.forget(&name),
                Command::Unpark { stage, key } => self.unpark(&stage, key),
                Command::Stage(stage) => self.add_stage(stage),
                Command::Write(write) => self.write(write),
            }
        }
        moved
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher")
            .field("subscribers", &self.subscribers.len())
            .field("in_flight", &self.in_flight.len())
            .field("open", &self.open.len())
            .finish_non_exhaustive()
    }
}
