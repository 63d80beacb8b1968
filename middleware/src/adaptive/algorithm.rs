//! How a limit moves. Pure: a sample in, a limit out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which rule moves the limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rule {
    Aimd { slow: Option<Duration> },
    Gradient,
}

/// One call that ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) took: Duration,
    pub(super) overload: bool,
    /// How many calls ran when it ended, itself included.
    pub(super) running: usize,
}

const BACK_OFF: f64 = 0.9;
/// Gradient: calls may become this much slower before the limit falls.
const TOLERANCE: f64 = 1.5;
/// Gradient: how much of the new limit is taken at each step.
const SMOOTHING: f64 = 0.2;
/// Gradient: room for calls that wait on top of those that are worked on.
const HEADROOM: f64 = 4.0;
/// Gradient: how many calls pass from one probe to the next.
const PROBE_EVERY: u32 = 1_000;
/// Gradient: how many calls a probe looks at, beyond those that ran when it began.
const PROBE_CALLS: u32 = 10;

#[derive(Clone, Debug)]
pub(super) struct Algorithm {
    rule: Rule,
    least: f64,
    most: f64,
    limit: f64,
    /// The time of a call without load, as the last probe saw it; in seconds.
    baseline: f64,
    probe: Probe,
}

/// Now and then the limit is low for a few calls, to see how long one takes without load.
#[derive(Clone, Copy, Debug)]
enum Probe {
    In { calls: u32 },
    Under { calls: u32, restore: f64, quickest: f64 },
}

impl Algorithm {
    pub(super) fn new(rule: Rule, (least, most): (u32, u32), start: u32) -> Self {
        Self {
            rule,
            least: least.into(),
            most: most.into(),
            limit: start.into(),
            baseline: f64::MAX,
            probe: Probe::In { calls: PROBE_EVERY },
        }
    }

    /// The limit as a count of calls.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 1 and `u32::MAX`")]
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Learns from `sample`.
    pub(super) fn learn(&mut self, sample: Sample) {
        let next = match self.rule {
            Rule::Aimd { slow } => self.aimd(sample, slow),
            Rule::Gradient => self.gradient(sample),
        };
        self.limit = next.clamp(self.least, self.most);
    }

    fn is_used(&self, sample: Sample) -> bool {
        sample.running * 2 >= self.limit()
    }

    fn aimd(&self, sample: Sample, slow: Option<Duration>) -> f64 {
        if sample.overload || slow.is_some_and(|slow| sample.took >= slow) {
            self.limit * BACK_OFF
        } else if self.is_used(sample) {
            self.limit + 1.0 / self.limit
        } else {
            self.limit
        }
    }

    fn gradient(&mut self, sample: Sample) -> f64 {
        if sample.overload {
            return self.limit * BACK_OFF;
        }
        let took = sample.took.as_secs_f64().max(1e-9);
        self.baseline = self.baseline.min(took);
        if let Some(limit) = self.probe(took, sample.running) {
            return limit;
        }
        if !self.is_used(sample) {
            return self.limit;
        }
        let gradient = (TOLERANCE * self.baseline / took).clamp(0.5, 1.0);
        self.limit + SMOOTHING * (self.limit * gradient + HEADROOM - self.limit)
    }

    /// The limit that a probe wants, while one is under way, begins or ends.
    fn probe(&mut self, took: f64, running: usize) -> Option<f64> {
        let (probe, limit) = match self.probe {
            Probe::In { calls: 1.. } => (self.probe.tick(took), None),
            Probe::In { calls: 0 } => {
                let calls = PROBE_CALLS + u32::try_from(running).unwrap_or(u32::MAX - PROBE_CALLS);
                let probe = Probe::Under { calls, restore: self.limit, quickest: took };
                (probe, Some(self.limit.min(HEADROOM)))
            }
            Probe::Under { calls: 1.., .. } => (self.probe.tick(took), Some(self.limit)),
            Probe::Under { calls: 0, restore, quickest } => {
                self.baseline = quickest;
                (Probe::In { calls: PROBE_EVERY }, Some(restore))
            }
        };
        self.probe = probe;
        limit
    }
}

impl Probe {
    fn tick(self, took: f64) -> Self {
        match self {
            Self::In { calls } => Self::In { calls: calls - 1 },
            Self::Under { calls, restore, quickest } => {
                Self::Under { calls: calls - 1, restore, quickest: quickest.min(took) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn sample(took: Duration, overload: bool, running: usize) -> Sample {
        Sample { took, overload, running }
    }

    #[test]
    fn aimd_adds_one_a_round_and_backs_off_by_a_tenth() {
        let mut aimd = Algorithm::new(Rule::Aimd { slow: Some(MS * 100) }, (1, 100), 10);
        for _ in 0..11 {
            aimd.learn(sample(MS, false, 10));
        }
        assert_eq!(aimd.limit(), 11);
        aimd.learn(sample(MS, true, 10));
        assert_eq!(aimd.limit(), 9);
        aimd.learn(sample(MS * 100, false, 10));
        assert_eq!(aimd.limit(), 8);
        aimd.learn(sample(MS, false, 2));
        assert_eq!(aimd.limit(), 8, "a limit that is not used does not rise");
        for _ in 0..1_000 {
            aimd.learn(sample(MS, true, 1));
        }
        assert_eq!(aimd.limit(), 1);
        for _ in 0..100_000 {
            aimd.learn(sample(MS, false, 100));
        }
        assert_eq!(aimd.limit(), 100);
    }

    #[test]
    fn gradient_settles_where_calls_become_slower() {
        // A service that does 20 calls at once in 10 ms each; more of them share its time.
        let mut gradient = Algorithm::new(Rule::Gradient, (1, 1_000), 5);
        for _ in 0..20_000 {
            let running = gradient.limit();
            let took = MS * 10 * u32::try_from(running.max(20)).unwrap() / 20;
            gradient.learn(sample(took, false, running));
        }
        assert!((20..50).contains(&gradient.limit()), "{}", gradient.limit());
        let before = gradient.limit();
        for _ in 0..20 {
            gradient.learn(sample(MS * 1_000, false, gradient.limit()));
        }
        assert!(gradient.limit() < before / 2);
    }
}
