use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_layer::Layer;

use super::budget::{Budget, Purse};
use super::policy::RetryIf;
use super::service::Retrying;
use crate::clock::lock;
use crate::{Describe, Part, RetryHint, SettingsError, tell};

/// One failed attempt that is about to be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retried {
    /// How many attempts have failed: 1 before the first retry.
    pub failed: u32,
    /// How long the backoff is.
    pub delay: Duration,
}

/// Tries a failed call again, as its [`Retry`](super::Retry) says. Defaults are in the docs of the module.
///
/// Services made by one layer, and their clones, share its budget.
pub struct RetryLayer<E> {
    rules: Arc<Rules<E>>,
}

impl<E> RetryLayer<E> {
    /// Applies `policy`: a [`Retry`](super::Retry) where the error classifies itself, else what [`Retry::when`](super::Retry::when) makes of it.
    ///
    /// # Errors
    /// All that [`Retry::check`](super::Retry::check) refuses.
    pub fn new(policy: impl Into<RetryIf<E>>) -> Result<Self, SettingsError> {
        let policy = policy.into();
        policy.policy().check()?;
        Ok(Self::unchecked(policy))
    }

    pub(crate) fn unchecked(policy: RetryIf<E>) -> Self {
        let rules = Rules { policy, purse: None, random: Arc::new(Mutex::new(fastrand::Rng::new())), observer: None };
        Self { rules: Arc::new(rules) }
    }

    /// Lets retries be at most a share of the calls. Default: no limit.
    ///
    /// # Errors
    /// All that [`Budget::check`] refuses.
    pub fn budget(self, budget: Budget) -> Result<Self, SettingsError> {
        budget.check()?;
        Ok(self.change(|rules| rules.purse = Some(Arc::new(Purse::new(budget)))))
    }

    /// Whether it is its policy and nothing more: no budget and no observer. Such a layer can be lifted into whatever
    /// owns retry around it.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.rules.purse.is_none() && self.rules.observer.is_none()
    }

    /// Makes jitter repeatable. Default: a random seed.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.change(|rules| rules.random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// Tells `observer` of each retry, before its backoff. Default: nobody is told.
    #[must_use]
    pub fn observe(self, observer: impl Fn(&E, Retried) + Send + Sync + 'static) -> Self {
        self.change(|rules| rules.observer = Some(Arc::new(observer)))
    }

    /// The policy as it was given, for a dispatcher that takes the retries over.
    pub fn policy(&self) -> &RetryIf<E> {
        &self.rules.policy
    }

    fn change(self, change: impl FnOnce(&mut Rules<E>)) -> Self {
        let mut rules = (*self.rules).clone();
        change(&mut rules);
        Self { rules: Arc::new(rules) }
    }
}

impl<E> Clone for RetryLayer<E> {
    fn clone(&self) -> Self {
        Self { rules: Arc::clone(&self.rules) }
    }
}

impl<E> fmt::Debug for RetryLayer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer").field("policy", self.rules.policy.policy()).finish_non_exhaustive()
    }
}

impl<S: Clone, E> Layer<S> for RetryLayer<E> {
    type Service = Retrying<S, E>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Retrying::new(inner, Arc::clone(&self.rules))
    }
}

impl<E> Describe for RetryLayer<E> {
    fn describe(&self) -> Part {
        let budget = self.rules.purse.as_deref().map(Purse::budget);
        let part = self.rules.policy.policy().describe().with_some("budget", budget);
        if self.rules.may_retry() { part.repeating() } else { part }
    }
}

type Observer<E> = Arc<dyn Fn(&E, Retried) + Send + Sync>;

/// What all services of one layer share.
pub(super) struct Rules<E> {
    policy: RetryIf<E>,
    purse: Option<Arc<Purse>>,
    random: Arc<Mutex<fastrand::Rng>>,
    observer: Option<Observer<E>>,
}

impl<E> Clone for Rules<E> {
    fn clone(&self) -> Self {
        Self {
            policy: self.policy.clone(),
            purse: self.purse.clone(),
            random: Arc::clone(&self.random),
            observer: self.observer.clone(),
        }
    }
}

impl<E> Rules<E> {
    /// False where no error would ever be tried again: then nothing need be cloned.
    pub(super) fn may_retry(&self) -> bool {
        !self.is_last(1)
    }

    /// True if no attempt may follow this one.
    pub(super) fn is_last(&self, attempt: u32) -> bool {
        attempt >= self.policy.policy().max_attempts()
    }

    /// A first call begins.
    pub(super) fn begin(&self) {
        if let Some(purse) = &self.purse {
            purse.earn();
        }
    }

    /// How long to wait after `error`; `None` is to give up.
    pub(super) fn delay(&self, error: &E, failed: u32, elapsed: Duration, previous: Duration) -> Option<Duration> {
        let hint = self.policy.hint(error);
        if hint == RetryHint::Never {
            return None;
        }
        let delay = {
            let mut random = lock(&self.random);
            self.policy.policy().next_delay(failed, elapsed, previous, hint, &mut random)?
        };
        if self.purse.as_ref().is_some_and(|purse| !purse.pay()) {
            return None;
        }
        if let Some(observer) = &self.observer {
            observer(error, Retried { failed, delay });
        }
        Some(delay)
    }
}
