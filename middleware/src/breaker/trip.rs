use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::Check;
use crate::{KindSet, Part, SettingsError};

/// When a breaker opens, for how long, and how it closes again. Defaults are in the docs of the module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct Trip {
    pub(super) failure_rate: f64,
    pub(super) slow: Option<(Duration, f64)>,
    pub(super) window: Duration,
    pub(super) minimum: u32,
    pub(super) open_for: (Duration, Duration),
    pub(super) probes: u32,
    pub(super) lease: Duration,
    pub(super) kinds: KindSet,
}

impl Default for Trip {
    fn default() -> Self {
        Self {
            failure_rate: 0.5,
            slow: None,
            window: Duration::from_secs(30),
            minimum: 20,
            open_for: (Duration::from_secs(5), Duration::from_mins(1)),
            probes: 3,
            lease: Duration::from_secs(30),
            kinds: KindSet::TRANSIENT,
        }
    }
}

impl Trip {
    /// Opens when this share of the calls in the window failed: above 0, up to 1. Default 0.5.
    pub const fn failure_rate(mut self, rate: f64) -> Self {
        self.failure_rate = rate;
        self
    }

    /// A call that takes `after` or longer is slow; opens when `rate` of the calls were. Default: off.
    pub const fn slow(mut self, after: Duration, rate: f64) -> Self {
        self.slow = Some((after, rate));
        self
    }

    /// How far back calls count. It moves in ten steps. Default 30 s.
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// It never opens on fewer calls in the window than this. Default 20.
    pub const fn minimum(mut self, calls: u32) -> Self {
        self.minimum = calls;
        self
    }

    /// How long it stays open the first time, doubling with each failed probing up to the longest. Default 5 s to 60 s.
    pub const fn open_for(mut self, first: Duration, longest: Duration) -> Self {
        self.open_for = (first, longest);
        self
    }

    /// How many probes may be out at once, and must succeed, before it closes. Default 3.
    pub const fn probes(mut self, calls: u32) -> Self {
        self.probes = calls;
        self
    }

    /// A probe that has not ended by then counts as failed. Default 30 s.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Errors of these kinds count as failures; any other answer counts as a success. Default
    /// [`KindSet::TRANSIENT`]: a request that is invalid says nothing about the health of the service.
    pub fn kinds(mut self, kinds: impl Into<KindSet>) -> Self {
        self.kinds = kinds.into();
        self
    }

    /// Says what is impossible, all at once.
    ///
    /// # Errors
    /// A rate that is not above 0 and up to 1, no minimum or probes, times of zero, a longest time below the first, no
    /// kind that counts while slow calls do not count either.
    pub fn check(&self) -> Result<(), SettingsError> {
        let rate = |rate: f64| rate > 0.0 && rate <= 1.0;
        let mut check = Check::default();
        check.refuse_if(!rate(self.failure_rate), "failure_rate", "is above 0 and at most 1");
        check.refuse_if(self.slow.is_some_and(|(_, share)| !rate(share)), "slow", "the rate is above 0 and at most 1");
        check.refuse_if(self.slow.is_some_and(|(after, _)| after.is_zero()), "slow", "zero makes every call slow");
        check.refuse_if(self.window.as_nanos() < 10, "window", "is too short for ten steps");
        check.refuse_if(self.minimum == 0, "minimum", "is at least 1 call");
        check.refuse_if(self.open_for.0.is_zero(), "open_for", "zero never leaves the service alone");
        check.refuse_if(self.open_for.1 < self.open_for.0, "open_for", "the longest time is below the first");
        check.refuse_if(self.probes == 0, "probes", "zero never closes it again");
        check.refuse_if(self.lease.is_zero(), "lease", "zero leaves no time for a probe");
        check.refuse_if(self.kinds.is_empty() && self.slow.is_none(), "kinds", "nothing could open it");
        check.done()
    }

    pub(super) fn part(&self) -> Part {
        Part::new("breaker")
            .with("failure_rate", self.failure_rate)
            .with_some("slow", self.slow)
            .with("window", self.window)
            .with("minimum", self.minimum)
            .with("open_for", self.open_for)
            .with("probes", self.probes)
    }
}
