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
use governor::state::{InMemoryState, NotKeyed};
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
type ByKey<K> = RateLimiter<K, Store<K>, TokioClock, NoOpMiddleware<Duration>>;
type InAll = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

/// One allowance needs no map and no lock.
enum Governor<K: Hash + Eq + Clone> {
    InAll(InAll),
    ByKey(ByKey<K>),
}

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
    pub(super) fn in_all(rate: Rate) -> Arc<Self> {
        Self::new(rate, |clock| Governor::InAll(RateLimiter::direct_with_clock(rate.quota(), clock)))
    }

    pub(super) fn by_key(rate: Rate) -> Arc<Self> {
        let hasher = RandomState::default();
        Self::new(rate, |clock| {
            Governor::ByKey(RateLimiter::hashmap_with_clock_and_hasher(rate.quota(), clock, hasher))
        })
    }

    fn new(rate: Rate, governor: impl FnOnce(TokioClock) -> Governor<K>) -> Arc<Self> {
        let clock = TokioClock { origin: now() };
        Arc::new(Self {
            rate,
            governor: governor(clock),
            clock,
            line: Lanes::new(1),
            waiting: AtomicUsize::new(0),
            checks: AtomicUsize::new(0),
        })
    }

    /// Takes one call out of the allowance of `key`, or says how long until there is one.
    pub(super) fn check(&self, key: &K) -> Result<(), Duration> {
        let checked = match &self.governor {
            Governor::InAll(governor) => governor.check(),
            Governor::ByKey(governor) => {
                self.forget_idle_keys(governor);
                governor.check_key(key)
            }
        };
        checked.map_err(|until| until.wait_time_from(self.clock.now()))
    }

    pub(super) fn keys(&self) -> usize {
        match &self.governor {
            Governor::InAll(_) => 1,
            Governor::ByKey(governor) => governor.len(),
        }
    }

    fn forget_idle_keys(&self, governor: &ByKey<K>) {
        let checks = self.checks.fetch_add(1, Ordering::Relaxed) + 1;
        // At most one sweep for as many calls as there are keys: its cost is spread over them.
        if checks.is_multiple_of(FEW_KEYS) && checks >= governor.len().saturating_add(FEW_KEYS) {
            governor.retain_recent();
            self.checks.store(0, Ordering::Relaxed);
        }
    }
}
