//! A limit on retries in proportion to calls, so that retries cannot multiply an outage.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::SettingsError;
use crate::clock::lock;
use crate::settings::Check;

/// How many retries a service may make, as a share of its calls.
///
/// Each call earns `ratio`; each retry costs one. What is earned is kept up to `reserve`, which is also what there is
/// to begin with. So over any number of calls there are at most `reserve + ratio × calls` retries, and with nothing
/// left an error is returned as if the attempts were used up. Defaults: `ratio` 0.2, `reserve` 10.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct Budget {
    ratio: f64,
    reserve: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(0.2, 10)
    }
}

impl Budget {
    pub(crate) const fn new(ratio: f64, reserve: u32) -> Self {
        Self { ratio, reserve }
    }

    /// Retries earned by each call. Default 0.2.
    pub const fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = ratio;
        self
    }

    /// Retries that may be saved up, and that there are to begin with. Default 10.
    pub const fn reserve(mut self, retries: u32) -> Self {
        self.reserve = retries;
        self
    }

    /// Says what is impossible, all at once.
    ///
    /// # Errors
    /// A ratio that is not a number of at least zero; a reserve of zero, from which no retry could ever be paid.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut check = Check::default();
        check.refuse_if(!self.ratio.is_finite() || self.ratio < 0.0, "ratio", "is a number of at least zero");
        check.refuse_if(self.reserve == 0, "reserve", "zero never pays for a retry");
        check.done()
    }
}

/// What is left of a [`Budget`].
#[derive(Debug)]
pub(crate) struct Purse {
    budget: Budget,
    left: Mutex<f64>,
}

impl Purse {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, left: Mutex::new(f64::from(budget.reserve)) }
    }

    pub(crate) const fn budget(&self) -> Budget {
        self.budget
    }

    pub(crate) fn earn(&self) {
        let mut left = lock(&self.left);
        *left = (*left + self.budget.ratio).min(f64::from(self.budget.reserve));
    }

    pub(crate) fn pay(&self) -> bool {
        let mut left = lock(&self.left);
        let enough = *left >= 1.0;
        if enough {
            *left -= 1.0;
        }
        enough
    }
}
