use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tower_layer::Layer;

use super::limiter::Limiter;
use super::service::RateLimited;
use crate::key::Everyone;
use crate::settings::Check;
use crate::{Describe, Part, SettingsError, tell};

/// How many calls begin in a time, and what becomes of the others.
///
/// ```
/// use std::time::Duration;
/// use millstream_middleware::rate::Rate;
///
/// assert!(Rate::per_second(100).burst(10).check().is_ok());
/// assert_eq!(Rate::per(0, Duration::ZERO).refuse().queue(5).check().unwrap_err().refused().len(), 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Rate {
    calls: u32,
    period: Duration,
    #[serde(default)]
    burst: Option<u32>,
    #[serde(default)]
    pub(super) refuse: bool,
    #[serde(default)]
    pub(super) queue: Option<usize>,
    #[serde(default)]
    pub(super) patience: Option<Duration>,
}

impl Rate {
    /// `calls` in each `period`.
    pub const fn per(calls: u32, period: Duration) -> Self {
        Self { calls, period, burst: None, refuse: false, queue: None, patience: None }
    }

    /// `calls` in each second.
    pub const fn per_second(calls: u32) -> Self {
        Self::per(calls, Duration::from_secs(1))
    }

    /// `calls` in each minute.
    pub const fn per_minute(calls: u32) -> Self {
        Self::per(calls, Duration::from_mins(1))
    }

    /// How many calls may begin at once after a rest. Default: the calls of one period. 1 spaces them evenly.
    pub const fn burst(mut self, calls: u32) -> Self {
        self.burst = Some(calls);
        self
    }

    /// A call over the rate is refused at once, with the time to come again. Default: it waits.
    pub const fn refuse(mut self) -> Self {
        self.refuse = true;
        self
    }

    /// At most this many calls of a key wait behind the first; one more is refused. Default: no limit.
    pub const fn queue(mut self, calls: usize) -> Self {
        self.queue = Some(calls);
        self
    }

    /// A call that has waited this long is refused. Default: no limit.
    pub const fn patience(mut self, wait: Duration) -> Self {
        self.patience = Some(wait);
        self
    }

    /// Says what is impossible, all at once.
    ///
    /// # Errors
    /// No call, no period, more calls than nanoseconds in a period, a burst or patience of zero, a queue where nobody
    /// waits.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut check = Check::default();
        check.refuse_if(self.calls == 0, "calls", "zero lets no call through");
        check.refuse_if(self.period.is_zero(), "period", "is longer than zero");
        let spacing = self.period.checked_div(self.calls).unwrap_or(Duration::MAX);
        check.refuse_if(
            spacing.is_zero() && !self.period.is_zero(),
            "calls",
            "are more than the nanoseconds of a period",
        );
        check.refuse_if(self.burst == Some(0), "burst", "zero lets no call through");
        check.refuse_if(self.patience == Some(Duration::ZERO), "patience", "zero lets nobody wait: say `refuse()`");
        let idle = self.refuse && (self.queue.is_some() || self.patience.is_some());
        check.refuse_if(idle, "refuse", "nobody waits, so `queue` and `patience` have no effect");
        check.done()
    }

    /// The time from one call to the next.
    pub(super) fn spacing(&self) -> Duration {
        self.period.checked_div(self.calls).unwrap_or(self.period).max(Duration::from_nanos(1))
    }

    pub(super) fn quota(&self) -> governor::Quota {
        let burst = self.burst.unwrap_or(self.calls).try_into().unwrap_or(std::num::NonZeroU32::MIN);
        governor::Quota::with_period(self.spacing())
            .map_or(governor::Quota::per_second(burst), |quota| quota.allow_burst(burst))
    }

    fn part(&self) -> Part {
        Part::new("rate")
            .with("calls", self.calls)
            .with("period", self.period)
            .with("burst", self.burst.unwrap_or(self.calls))
            .says("over", if self.refuse { "refuse" } else { "wait" })
            .with_some("queue", self.queue)
            .with_some("patience", self.patience)
    }
}

/// Limits how many calls begin in a time. Services made by one layer share the allowance.
pub struct RateLayer<K: Hash + Eq + Clone, F = Everyone> {
    limiter: Arc<Limiter<K>>,
    key: F,
}

impl RateLayer<()> {
    /// One allowance for all calls.
    ///
    /// # Errors
    /// All that [`Rate::check`] refuses.
    pub fn new(rate: Rate) -> Result<Self, SettingsError> {
        rate.check()?;
        Ok(Self { limiter: Limiter::in_all(rate), key: Everyone })
    }
}

impl<K: Hash + Eq + Clone, F> RateLayer<K, F> {
    /// An allowance for each key: a tenant, a customer, an endpoint.
    ///
    /// # Errors
    /// All that [`Rate::check`] refuses.
    pub fn by_key<R>(rate: Rate, key: F) -> Result<Self, SettingsError>
    where
        F: Fn(&R) -> K,
    {
        rate.check()?;
        Ok(Self { limiter: Limiter::by_key(rate), key })
    }

    /// How many keys are remembered: those whose allowance is not whole, and some that no sweep has met yet. A sweep comes
    /// once in as many calls as there are keys, and 1,000 more.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.limiter.keys()
    }
}

impl<K: Hash + Eq + Clone, F: Clone> Clone for RateLayer<K, F> {
    fn clone(&self) -> Self {
        Self { limiter: Arc::clone(&self.limiter), key: self.key.clone() }
    }
}

impl<K: Hash + Eq + Clone, F> fmt::Debug for RateLayer<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLayer").field("rate", &self.limiter.rate).finish_non_exhaustive()
    }
}

impl<S, K: Hash + Eq + Clone, F: Clone> Layer<S> for RateLayer<K, F> {
    type Service = RateLimited<S, K, F>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        RateLimited::new(inner, Arc::clone(&self.limiter), self.key.clone())
    }
}

impl<K: Hash + Eq + Clone, F> Describe for RateLayer<K, F> {
    fn describe(&self) -> Part {
        self.limiter.rate.part()
    }
}
