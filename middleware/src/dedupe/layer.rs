use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tower_layer::Layer;

use super::service::Dedupe;
use crate::clock::{lock, now};
use crate::expiring::Expiring;
use crate::settings::Check;
use crate::{Describe, Part, SettingsError, tell};

/// How long, and how many, keys are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct Window {
    life: Duration,
    capacity: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { life: Duration::from_mins(5), capacity: 100_000 }
    }
}

impl Window {
    /// How long a key is remembered, from its call. Default 5 min.
    pub const fn life(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// How many keys are remembered; beyond it the oldest is forgotten. Default 100,000.
    pub const fn capacity(mut self, keys: usize) -> Self {
        self.capacity = keys;
        self
    }

    /// Says what is impossible, all at once.
    ///
    /// # Errors
    /// A life or a capacity of zero.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut check = Check::default();
        check.refuse_if(self.life.is_zero(), "life", "zero remembers nothing");
        check.refuse_if(self.capacity == 0, "capacity", "zero remembers nothing");
        check.done()
    }
}

/// Lets each key through once in a while.
pub struct DedupeLayer<K, F> {
    window: Window,
    seen: Arc<Seen<K>>,
    key: F,
}

impl<K: Hash + Eq + Clone, F> DedupeLayer<K, F> {
    /// Remembers the keys that `key` reads out of requests.
    ///
    /// # Errors
    /// All that [`Window::check`] refuses.
    pub fn new<R>(window: Window, key: F) -> Result<Self, SettingsError>
    where
        F: Fn(&R) -> K,
    {
        window.check()?;
        let seen = Seen { life: window.life, keys: Mutex::new(Expiring::new(window.capacity)) };
        Ok(Self { window, seen: Arc::new(seen), key })
    }

    /// How many keys are remembered now.
    #[must_use]
    pub fn keys(&self) -> usize {
        lock(&self.seen.keys).len(now())
    }
}

impl<K, F: Clone> Clone for DedupeLayer<K, F> {
    fn clone(&self) -> Self {
        Self { window: self.window, seen: Arc::clone(&self.seen), key: self.key.clone() }
    }
}

impl<K, F> fmt::Debug for DedupeLayer<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DedupeLayer").field("window", &self.window).finish_non_exhaustive()
    }
}

impl<S, K, F: Clone> Layer<S> for DedupeLayer<K, F> {
    type Service = Dedupe<S, K, F>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Dedupe::new(inner, Arc::clone(&self.seen), self.key.clone())
    }
}

impl<K, F> Describe for DedupeLayer<K, F> {
    fn describe(&self) -> Part {
        Part::new("dedupe").with("life", self.window.life).with("capacity", self.window.capacity)
    }
}

/// The keys that have been here, each with the call that brought it.
pub(super) struct Seen<K> {
    life: Duration,
    keys: Mutex<Expiring<K, u64>>,
}

impl<K: Hash + Eq + Clone> Seen<K> {
    /// True for the first; `call` is then what remembers it.
    pub(super) fn first(&self, key: &K, call: u64) -> bool {
        let now = now();
        let mut seen = lock(&self.keys);
        let first = seen.get(key, now).is_none();
        if first {
            seen.insert(key.clone(), call, self.life, now);
        }
        first
    }

    /// Forgets `key`, if it is still the one that `call` brought.
    pub(super) fn forget(&self, key: &K, call: u64) {
        let mut seen = lock(&self.keys);
        if seen.get(key, now()).is_some_and(|by| *by == call) {
            seen.remove(key);
        }
    }
}
