use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tower_layer::Layer;

use super::algorithm::{Algorithm, Rule, Sample};
use super::service::{Adaptive, Measured};
use crate::clock::lock;
use crate::concurrency::{Lanes, Turn};
use crate::settings::Check;
use crate::{Describe, ErrorKind, KindSet, Part, SettingsError, tell};

/// How a concurrency limit finds itself. Defaults are in the docs of the module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Adapt {
    rule: Rule,
    limits: (u32, u32),
    start: u32,
    kinds: KindSet,
    #[serde(default)]
    queue: Option<usize>,
    #[serde(default)]
    patience: Option<Duration>,
}

impl Adapt {
    /// One more for each round that went well; nine tenths at a sign of overload. A call that takes `slow` or longer is
    /// one, where it is given.
    pub fn aimd(slow: Option<Duration>) -> Self {
        Self::by(Rule::Aimd { slow })
    }

    /// In proportion as calls become slower than without load.
    pub fn gradient() -> Self {
        Self::by(Rule::Gradient)
    }

    fn by(rule: Rule) -> Self {
        let kinds = [ErrorKind::Timeout, ErrorKind::Overloaded, ErrorKind::Unavailable].into();
        Self { rule, limits: (1, 1_000), start: 20, kinds, queue: None, patience: None }
    }

    /// The limit stays between these. Default 1 and 1,000.
    pub const fn limits(mut self, least: u32, most: u32) -> Self {
        self.limits = (least, most);
        self
    }

    /// The limit to begin with. Default 20.
    pub const fn start(mut self, limit: u32) -> Self {
        self.start = limit;
        self
    }

    /// Errors of these kinds mean overload. Default: timeout, overloaded, unavailable.
    pub fn kinds(mut self, kinds: impl Into<KindSet>) -> Self {
        self.kinds = kinds.into();
        self
    }

    /// At most this many calls wait; one more is refused. Default: no limit.
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
    /// A least limit of zero or above the most, a start outside of them, a slowness or patience of zero.
    pub fn check(&self) -> Result<(), SettingsError> {
        let (least, most) = self.limits;
        let zero = Some(Duration::ZERO);
        let mut check = Check::default();
        check.refuse_if(self.rule == Rule::Aimd { slow: zero }, "slow", "zero makes every call slow");
        check.refuse_if(least == 0, "limits", "zero lets no call through");
        check.refuse_if(least > most, "limits", "the least is above the most");
        check.refuse_if(self.start < least || self.start > most, "start", "is outside of the limits");
        check.refuse_if(self.patience == zero, "patience", "zero lets nobody wait: say `queue(0)`");
        check.done()
    }
}

/// Limits the calls at once, by a limit that finds itself. Services made by one layer share it.
#[derive(Clone, Debug)]
pub struct AdaptiveLayer {
    adapt: Adapt,
    limiter: Arc<Limiter>,
}

impl AdaptiveLayer {
    /// A limit of its own.
    ///
    /// # Errors
    /// All that [`Adapt::check`] refuses.
    pub fn new(adapt: Adapt) -> Result<Self, SettingsError> {
        adapt.check()?;
        let algorithm = Algorithm::new(adapt.rule, adapt.limits, adapt.start);
        let lanes = Lanes::new(algorithm.limit());
        Ok(Self { adapt, limiter: Arc::new(Limiter { algorithm: Mutex::new(algorithm), lanes }) })
    }

    /// The limit as it is now.
    #[must_use]
    pub fn limit(&self) -> usize {
        lock(&self.limiter.algorithm).limit()
    }

    /// How many calls run, and how many wait.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        self.limiter.lanes.load()
    }
}

impl<S> Layer<S> for AdaptiveLayer {
    type Service = Adaptive<S>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Adaptive::new(Measured::new(inner, Arc::clone(&self.limiter), self.adapt.kinds), self.adapt)
    }
}

impl Describe for AdaptiveLayer {
    fn describe(&self) -> Part {
        Part::new("adaptive")
            .with("rule", self.adapt.rule)
            .with("limits", self.adapt.limits)
            .with("start", self.adapt.start)
            .with_some("queue", self.adapt.queue)
            .with_some("patience", self.adapt.patience)
    }
}

/// What the services of one layer share.
#[derive(Debug)]
pub(super) struct Limiter {
    algorithm: Mutex<Algorithm>,
    lanes: Arc<Lanes<()>>,
}

impl Limiter {
    pub(super) fn ask(&self, adapt: &Adapt) -> Turn<()> {
        let queue = adapt.queue.unwrap_or(usize::MAX);
        Turn::new(self.lanes.ask((), queue), queue, adapt.patience)
    }

    pub(super) fn learn(&self, took: Duration, overload: bool) {
        let (running, _) = self.lanes.load();
        let (before, after) = {
            let mut algorithm = lock(&self.algorithm);
            let before = algorithm.limit();
            algorithm.learn(Sample { took, overload, running });
            (before, algorithm.limit())
        };
        if before != after {
            self.lanes.set_max(after);
        }
    }
}
