use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tower_layer::Layer;

use super::service::Hedge;
use crate::retry::{Budget, Purse};
use crate::settings::Check;
use crate::{Describe, Part, SettingsError, tell};

/// When, and how often, a call is made again before its answer is there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Hedging {
    pub(super) after: Duration,
    #[serde(default = "two")]
    pub(super) calls: u32,
    #[serde(default = "tenth")]
    budget: Budget,
}

const fn two() -> u32 {
    2
}

const fn tenth() -> Budget {
    Budget::new(0.1, 10)
}

impl Hedging {
    /// A second call after this long without an answer.
    pub const fn after(delay: Duration) -> Self {
        Self { after: delay, calls: two(), budget: tenth() }
    }

    /// How many calls in all; each further one comes after the same delay. Default 2.
    pub const fn calls(mut self, calls: u32) -> Self {
        self.calls = calls;
        self
    }

    /// How many hedges there may be, as a share of the calls. Default 10 %, and 10 to begin with.
    pub const fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Says what is impossible, all at once.
    ///
    /// # Errors
    /// A delay of zero, fewer than two calls, an impossible budget.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut check = Check::default();
        check.refuse_if(self.after.is_zero(), "after", "zero makes every call twice");
        check.refuse_if(self.calls < 2, "calls", "fewer than two is no hedge");
        check.include(self.budget.check());
        check.done()
    }
}

/// Makes a slow call a second time. Services made by one layer share the budget.
#[derive(Clone, Debug)]
pub struct HedgeLayer {
    hedging: Hedging,
    purse: Arc<Purse>,
}

impl HedgeLayer {
    /// Hedges as `hedging` says.
    ///
    /// # Errors
    /// All that [`Hedging::check`] refuses.
    pub fn new(hedging: Hedging) -> Result<Self, SettingsError> {
        hedging.check()?;
        Ok(Self { hedging, purse: Arc::new(Purse::new(hedging.budget)) })
    }
}

impl<S> Layer<S> for HedgeLayer {
    type Service = Hedge<S>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Hedge::new(inner, self.hedging, Arc::clone(&self.purse))
    }
}

impl Describe for HedgeLayer {
    fn describe(&self) -> Part {
        Part::new("hedge").with("after", self.hedging.after).with("calls", self.hedging.calls)
    }
}
