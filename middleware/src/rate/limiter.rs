//! governor, on tokio's clock, with a line for those who wait.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use tokio::time::Instant;

use super::layer::Rate;
use crate::clock::now;
use crate::concurrency::Lanes;

/// governor's own clock does not know that tokio's is paused.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokioClock {
    origin: Instant,
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        now() - self.origin
    }
}

type Store<K> = HashMapStateStore<K, RandomState>;
type Governor<K> = RateLimiter<K, Store<K>, TokioClock, NoOpMiddleware<Duration>>;

/// Below this many keys nobody looks for idle ones.
const FEW_KEYS: usize = 1_024;

pub(super) struct Limiter<K: Hash + Eq + Clone> {
    pub(super) rate: Rate,
    governor: Governor<K>,
    clock: TokioClock,
    /// One at a time waits for the allowance of a key; the others wait in line behind.
    pub(super) line: Arc<Lanes<K>>,
    /// How many wait, over all keys: while nobody does, a call need not look for a line.
    pub(super) waiting: AtomicUsize,
    checks: AtomicUsize,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    pub(super) fn new(rate: Rate) -> Arc<Self> {
        let clock = TokioClock { origin: now() };
        Arc::new(Self {
            rate,
            governor: RateLimiter::hashmap_with_clock_and_hasher(rate.quota(), clock, RandomState::default()),
            clock,
            line: Lanes::new(1),
            waiting: AtomicUsize::new(0),
            checks: AtomicUsize::new(0),
        })
    }

    /// Takes one call out of the allowance of `key`, or says how long until there is one.
    pub(super) fn check(&self, key: &K) -> Result<(), Duration> {
        if size_of::<K>() > 0 {
            self.forget_idle_keys(); // one key for all needs no sweep
        }
        self.governor.check_key(key).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    pub(super) fn keys(&self) -> usize {
        self.governor.len()
    }

    fn forget_idle_keys(&self) {
        let checks = self.checks.fetch_add(1, Ordering::Relaxed) + 1;
        // At most one sweep for as many calls as there are keys: its cost is spread over them.
        if checks.is_multiple_of(FEW_KEYS) && checks >= self.governor.len().saturating_add(FEW_KEYS) {
            self.governor.retain_recent();
            self.checks.store(0, Ordering::Relaxed);
        }
    }
}
