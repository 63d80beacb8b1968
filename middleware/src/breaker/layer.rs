use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tower_layer::Layer;

use super::error::Open;
use super::machine::{Machine, State, Ticket};
use super::service::Guarding;
use super::trip::Trip;
use crate::clock::{lock, now};
use crate::{Describe, Part, SettingsError, tell};

/// `era` while the breaker is not closed.
const NOT_CLOSED: u64 = u64::MAX;

/// A breaker that many services may share. Clones are the same breaker.
#[derive(Clone)]
pub struct Breaker {
    shared: Arc<Shared>,
}

struct Shared {
    origin: Instant,
    machine: Mutex<Machine>,
    /// The machine's era while it is closed: then a call is let through without the lock.
    closed: AtomicU64,
    state: watch::Sender<State>,
}

impl Breaker {
    /// A closed breaker.
    ///
    /// # Errors
    /// All that [`Trip::check`] refuses.
    pub fn new(trip: Trip) -> Result<Self, SettingsError> {
        trip.check().map(|()| Self::unchecked(trip))
    }

    pub(crate) fn unchecked(trip: Trip) -> Self {
        let machine = Machine::new(trip);
        let closed = AtomicU64::new(machine.era());
        let state = watch::Sender::new(State::Closed);
        Self { shared: Arc::new(Shared { origin: now(), machine: Mutex::new(machine), closed, state }) }
    }

    /// What it does with calls now.
    #[must_use]
    pub fn state(&self) -> State {
        if self.shared.closed.load(Ordering::Acquire) != NOT_CLOSED {
            return State::Closed;
        }
        lock(&self.shared.machine).state(self.elapsed())
    }

    /// Calls in the window, and how many of them failed. Both are zero after each change of state.
    #[must_use]
    pub fn counts(&self) -> (u32, u32) {
        let counts = lock(&self.shared.machine).counts(self.elapsed());
        (counts.calls, counts.failed)
    }

    /// Follows the state. Half-open is seen when the first probe goes out.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Opens it by hand, as if it had tripped.
    pub fn open(&self) {
        self.with(|machine, now| {
            machine.open(now);
        });
    }

    /// Closes it by hand.
    pub fn close(&self) {
        self.with(|machine, _| machine.close());
    }

    pub(super) fn trip(&self) -> Trip {
        *lock(&self.shared.machine).trip()
    }

    pub(super) fn admit(&self) -> Result<Ticket, Open> {
        let era = self.shared.closed.load(Ordering::Acquire);
        if era != NOT_CLOSED {
            return Ok(Machine::closed_ticket(era));
        }
        self.with(Machine::admit).map_err(Open::new)
    }

    /// What to tell a caller who came while it was open: when the next probe may go out.
    pub(super) fn refusal(&self) -> Open {
        let now = self.elapsed();
        Open::new(lock(&self.shared.machine).opens_in(now))
    }

    pub(super) fn record(&self, ticket: Ticket, failed: bool, slow: bool) {
        self.with(|machine, now| machine.record(ticket, failed, slow, now));
    }

    pub(super) fn cancel(&self, ticket: Ticket) {
        if self.shared.closed.load(Ordering::Acquire) == NOT_CLOSED {
            self.with(|machine, _| machine.cancel(ticket));
        }
    }

    fn elapsed(&self) -> Duration {
        now() - self.shared.origin
    }

    /// Changes the machine; makes a change of state known before the lock is released.
    fn with<T>(&self, change: impl FnOnce(&mut Machine, Duration) -> T) -> T {
        let now = self.elapsed();
        let mut machine = lock(&self.shared.machine);
        let before = machine.era();
        let result = change(&mut machine, now);
        if machine.era() != before {
            let state = machine.state(now);
            let closed = if state == State::Closed { machine.era() } else { NOT_CLOSED };
            self.shared.closed.store(closed, Ordering::Release);
            self.shared.state.send_replace(state);
        }
        result
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// Puts a [`Breaker`] before a service. Services made by one layer, or by its clones, share it.
#[derive(Clone, Debug)]
pub struct BreakerLayer {
    breaker: Breaker,
}

impl BreakerLayer {
    /// A layer with a breaker of its own.
    ///
    /// # Errors
    /// All that [`Trip::check`] refuses.
    pub fn new(trip: Trip) -> Result<Self, SettingsError> {
        Breaker::new(trip).map(|breaker| Self { breaker })
    }

    /// A layer with a breaker that others use too.
    #[must_use]
    pub const fn shared(breaker: Breaker) -> Self {
        Self { breaker }
    }

    /// The breaker, to be read and watched.
    #[must_use]
    pub const fn breaker(&self) -> &Breaker {
        &self.breaker
    }
}

impl<S> Layer<S> for BreakerLayer {
    type Service = Guarding<S>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Guarding::new(inner, self.breaker.clone())
    }
}

impl Describe for BreakerLayer {
    fn describe(&self) -> Part {
        self.breaker.trip().part()
    }
}
