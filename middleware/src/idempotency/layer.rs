use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tower_layer::Layer;

use super::service::Idempotency;
use crate::settings::Check;
use crate::{Describe, Part, SettingsError, tell};

/// How long answers and claims are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct Keep {
    pub(super) life: Duration,
    pub(super) lease: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self { life: Duration::from_hours(24), lease: Duration::from_mins(5) }
    }
}

impl Keep {
    /// How long an answer is kept. Default 24 h.
    pub const fn life(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// How long a call may hold its key. Default 5 min: more than any call should take.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Says what is impossible, all at once.
    ///
    /// # Errors
    /// A life or a lease of zero.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut check = Check::default();
        check.refuse_if(self.life.is_zero(), "life", "zero keeps no answer");
        check.refuse_if(self.lease.is_zero(), "lease", "zero holds no key");
        check.done()
    }
}

/// Runs the requests of each key once, and answers the others with its answer.
pub struct IdempotencyLayer<K, A, F> {
    keep: Keep,
    store: Arc<A>,
    key: F,
    keys: PhantomData<fn() -> K>,
}

impl<K, A, F> IdempotencyLayer<K, A, F> {
    /// Keeps answers in `store` under the key that `key` reads out of a request; without one a request just passes.
    ///
    /// # Errors
    /// All that [`Keep::check`] refuses.
    pub fn new<R>(keep: Keep, store: A, key: F) -> Result<Self, SettingsError>
    where
        F: Fn(&R) -> Option<K>,
    {
        keep.check()?;
        Ok(Self { keep, store: Arc::new(store), key, keys: PhantomData })
    }

    /// The store of answers.
    #[must_use]
    pub fn store(&self) -> &A {
        &self.store
    }
}

impl<K, A, F: Clone> Clone for IdempotencyLayer<K, A, F> {
    fn clone(&self) -> Self {
        Self { keep: self.keep, store: Arc::clone(&self.store), key: self.key.clone(), keys: PhantomData }
    }
}

impl<K, A, F> fmt::Debug for IdempotencyLayer<K, A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer").field("keep", &self.keep).finish_non_exhaustive()
    }
}

impl<S, K, A, F: Clone> Layer<S> for IdempotencyLayer<K, A, F> {
    type Service = Idempotency<S, A, F>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Idempotency::new(inner, self.keep, Arc::clone(&self.store), self.key.clone())
    }
}

impl<K, A, F> Describe for IdempotencyLayer<K, A, F> {
    fn describe(&self) -> Part {
        Part::new("idempotency").with("life", self.keep.life).with("lease", self.keep.lease)
    }
}
