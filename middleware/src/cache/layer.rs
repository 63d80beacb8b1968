use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tower_layer::Layer;

use super::error::FlightFailed;
use super::service::Cache;
use crate::clock::{lock, now};
use crate::expiring::Expiring;
use crate::settings::Check;
use crate::{Describe, Part, SettingsError, tell};

/// How long, and how many, answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct Keep {
    life: Duration,
    capacity: usize,
}

impl Default for Keep {
    fn default() -> Self {
        Self { life: Duration::from_mins(1), capacity: 10_000 }
    }
}

impl Keep {
    /// How long an answer is kept. Default 60 s. Zero keeps none: calls at the same time still share one.
    pub const fn life(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// How many answers are kept; beyond it the oldest is forgotten. Default 10,000.
    pub const fn capacity(mut self, answers: usize) -> Self {
        self.capacity = answers;
        self
    }

    /// Says what is impossible.
    ///
    /// # Errors
    /// A capacity of zero.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut check = Check::default();
        check.refuse_if(self.capacity == 0, "capacity", "zero keeps nothing: say `life(Duration::ZERO)`");
        check.done()
    }
}

/// Keeps answers by key, and lets calls at the same time share one.
pub struct CacheLayer<K, T, F> {
    keep: Keep,
    answers: Arc<Answers<K, T>>,
    key: F,
}

impl<K: Hash + Eq + Clone, T, F> CacheLayer<K, T, F> {
    /// Keeps answers under the key that `key` reads out of a request.
    ///
    /// # Errors
    /// All that [`Keep::check`] refuses.
    pub fn new<R>(keep: Keep, key: F) -> Result<Self, SettingsError>
    where
        F: Fn(&R) -> K,
    {
        keep.check()?;
        let inner = Inner { kept: Expiring::new(keep.capacity), flights: HashMap::default(), serial: 0 };
        Ok(Self { keep, answers: Arc::new(Answers { life: keep.life, inner: Mutex::new(inner) }), key })
    }

    /// How many answers are kept now.
    #[must_use]
    pub fn kept(&self) -> usize {
        lock(&self.answers.inner).kept.len(now())
    }

    /// Forgets the answer of `key`.
    pub fn forget(&self, key: &K) {
        lock(&self.answers.inner).kept.remove(key);
    }
}

impl<K, T, F: Clone> Clone for CacheLayer<K, T, F> {
    fn clone(&self) -> Self {
        Self { keep: self.keep, answers: Arc::clone(&self.answers), key: self.key.clone() }
    }
}

impl<K, T, F> fmt::Debug for CacheLayer<K, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer").field("keep", &self.keep).finish_non_exhaustive()
    }
}

impl<S, K, T, F: Clone> Layer<S> for CacheLayer<K, T, F> {
    type Service = Cache<S, K, T, F>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Cache::new(inner, Arc::clone(&self.answers), self.key.clone())
    }
}

impl<K, T, F> Describe for CacheLayer<K, T, F> {
    fn describe(&self) -> Part {
        Part::new("cache").with("life", self.keep.life).with("capacity", self.keep.capacity)
    }
}

/// What a flight brings back; `None` while it is under way.
type Landing<T> = Option<Result<T, FlightFailed>>;

pub(super) struct Answers<K, T> {
    life: Duration,
    inner: Mutex<Inner<K, T>>,
}

struct Inner<K, T> {
    kept: Expiring<K, T>,
    flights: HashMap<K, (u64, watch::Receiver<Landing<T>>), RandomState>,
    serial: u64,
}

/// What one who asks for a key has to do.
pub(super) enum Role<K: Hash + Eq + Clone, T> {
    /// Nothing: here it is.
    Answered(T),
    /// Wait for the one who makes the call.
    Follow(watch::Receiver<Landing<T>>),
    /// Make the call.
    Lead(Flight<K, T>),
}

impl<K: Hash + Eq + Clone, T: Clone> Answers<K, T> {
    pub(super) fn ask(self: &Arc<Self>, key: &K) -> Role<K, T> {
        let mut inner = lock(&self.inner);
        if let Some(answer) = inner.kept.get(key, now()) {
            return Role::Answered(answer.clone());
        }
        if let Some((_, flight)) = inner.flights.get(key) {
            return Role::Follow(flight.clone());
        }
        let (landing, flight) = watch::channel(None);
        inner.serial += 1;
        let serial = inner.serial;
        inner.flights.insert(key.clone(), (serial, flight));
        Role::Lead(Flight { answers: Arc::clone(self), key: key.clone(), serial, landing })
    }
}

/// The call of a key; when dropped before it lands, another may make it.
pub(super) struct Flight<K: Hash + Eq + Clone, T> {
    answers: Arc<Answers<K, T>>,
    key: K,
    serial: u64,
    landing: watch::Sender<Landing<T>>,
}

impl<K: Hash + Eq + Clone, T: Clone> Flight<K, T> {
    pub(super) fn land(self, outcome: Result<T, FlightFailed>) {
        if let Ok(answer) = &outcome {
            let mut inner = lock(&self.answers.inner);
            inner.kept.insert(self.key.clone(), answer.clone(), self.answers.life, now());
        }
        self.landing.send_replace(Some(outcome));
    }
}

impl<K: Hash + Eq + Clone, T> Drop for Flight<K, T> {
    fn drop(&mut self) {
        let mut inner = lock(&self.answers.inner);
        if inner.flights.get(&self.key).is_some_and(|(serial, _)| *serial == self.serial) {
            inner.flights.remove(&self.key);
        }
    }
}
