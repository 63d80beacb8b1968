//! The dispatcher: what it holds, and its round.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{Abortable, Aborted};
use futures_util::stream::{FuturesUnordered, StreamExt};
use millstream_operators::Timestamp;
use slab::Slab;
use tokio::time::Sleep;

use super::{
    beat::{Beat, SlowPolls, Watchdog},
    commands::Command,
    distribute::UnroutedPolicy,
    durable::{Durable, Home, Retention, Statuses},
    job::{Job, OpenEvent},
    meters::Metrics,
    registry::Registry,
    route::Routes,
    running::{InFlight, Running},
    subscriber::Subscriber,
    timers::{Due, Timers},
};
use crate::{
    dead_letter::DeadLetters,
    event::{self, EventName, Tenant},
    intake::{Intake, Outlook, Pulled, Settlement},
    storage::Shelf,
    store::Occupancy,
    tenant::Quotas,
};

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
    /// The right to run on it.
    pub(crate) occupancy: Option<Occupancy>,
    pub(crate) retention: Retention,
    /// The most bytes of the log's end that are kept in memory.
    pub(crate) recent_bytes: usize,
    /// How the operator stages are.
    pub(crate) statuses: Arc<Statuses>,
    pub(crate) quotas: Quotas,
    pub(crate) batch_size: usize,
    pub(crate) timeout: Duration,
    /// How many attempts of a delivery a process may end with.
    pub(crate) max_crashes: u32,
    pub(crate) unrouted: UnroutedPolicy,
    /// The most events of a class that one subscription may hold.
    pub(crate) share: usize,
    pub(crate) seed: u64,
    /// Where the watchdog says what it found; none without a watchdog.
    pub(crate) slow: Option<Arc<SlowPolls>>,
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
    pub(super) routes: Routes,
    /// The registry's, when the dispatcher last looked.
    pub(super) version: u64,
    pub(super) batch: VecDeque<Pulled>,
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
    pub(super) last_turn: u64,
    next_due: Option<Timestamp>,
    /// The lowest sequence that was still queued after the last pull.
    pub(super) oldest: Option<u64>,
    /// The time at the beginning of the round.
    pub(super) now: Timestamp,
    pub(super) warned: HashSet<EventName>,
    /// Whether a subscription keeps the order of emission.
    pub(super) is_strict: bool,
    /// The store, in a durable runtime.
    pub(super) durable: Option<Box<Durable>>,
}

/// Rounds after which others have their turn.
const ROUNDS: usize = 8;

impl Dispatcher {
    pub(crate) fn new(mut parts: Parts) -> Self {
        let beat = Arc::new(Beat::default());
        let now = parts.intake.clock.now();
        let place = parts.home.take().zip(parts.occupancy.take());
        let durable = place.map(|place| Box::new(Durable::new(place, parts.recent_bytes, now)));
        Self {
            now,
            random: fastrand::Rng::with_seed(parts.seed),
            watchdog: parts
                .slow
                .clone()
                .map(|slow| Watchdog::watch(Arc::clone(&beat), slow, Arc::downgrade(&parts.registry))),
            parts,
            subscribers: Slab::new(),
            routes: Routes::default(),
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
            last_turn: 0,
            next_due: None,
            oldest: None,
            warned: HashSet::new(),
            is_strict: false,
            durable,
        }
    }

    /// Another drives from now on, perhaps on another tokio runtime: the timer of the one before may never fire again.
    pub(crate) fn change_hands(&mut self) {
        self.sleep = None;
    }

    /// Does what can be done now. Unless it is [`Progress::Busy`], the task is woken when there is more.
    pub(crate) fn round(&mut self, cx: &mut Context<'_>) -> Progress {
        // Those of before are not this runtime's: another one's handler may drive it.
        let others = event::dropped_badly();
        let progress = self.rounds(cx);
        self.count_bad_drops();
        event::add_dropped_badly(others);
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
                // Those go once the store can take what comes of them: where it has to say so first, that wakes.
                let is_waiting = self.is_stuffed() && !self.poll_commits(cx);
                return if is_waiting { Progress::Waiting } else { Self::busy(cx) };
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
            if !moved && self.done.returned.is_empty() && (self.ready.is_empty() || self.is_stuffed()) {
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
        // What is due is done once the store can take what comes of it, which wakes.
        let attempts = self.timers.next().filter(|_| !self.is_stuffed());
        let next = [attempts, self.next_due, in_store].into_iter().flatten().min();
        if next.is_some_and(|next| self.sleeps_until(next, cx).is_ready()) {
            return Self::busy(cx);
        }
        if self.in_flight.is_empty() && self.timers.next().is_none() && self.is_settled() {
            return Progress::Resting { next_due: self.next_due };
        }
        // It came just now, when there was nobody to wake.
        if self.durable.is_some() && self.has_new_subscribers() {
            return Self::busy(cx);
        }
        Progress::Waiting
    }

    /// Wakes the task at a time. Ready where that is now.
    pub(super) fn sleeps_until(&mut self, time: Timestamp, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.parts.intake.clock.instant_of(time);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx)
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
            self.make_room_for(&event);
            self.loop_died(&event, &refusal);
        }
        if cancelled {
            self.sweep_cancelled();
        }
        if self.has_new_subscribers() {
            self.catch_up();
            moved = true;
        }
        moved
    }

    pub(super) fn start_ready(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while self.aborted == 0
            && !self.is_stuffed()
            && let Some(job) = self.ready.pop_front()
        {
            moved = true;
            if job.is_cancelled() {
                self.cancel_ready(job);
            } else {
                self.begin(job, cx);
            }
        }
        moved
    }

    fn fire_timers(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        let made = self.timers.made();
        while !self.is_stuffed()
            && let Some(due) = self.timers.pop_due(self.now, made)
        {
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
        while !self.is_stuffed()
            && let Poll::Ready(Some(ended)) = self.running.poll_next_unpin(cx)
        {
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

    pub(super) fn take_batch(&mut self) -> VecDeque<Pulled> {
        std::mem::take(&mut self.batch)
    }

    /// Publishes the books without pulling anything.
    pub(super) fn settle_books(&mut self) {
        self.count_bad_drops();
        let outlook = self.parts.intake.exchange(&mut self.done, &mut VecDeque::new(), 0, None);
        for (event, refusal) in outlook.looped {
            self.make_room_for(&event);
            self.loop_died(&event, &refusal);
        }
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
