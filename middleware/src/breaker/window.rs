//! Counts of the calls that ended in the last while, in ten steps.

use std::time::Duration;

const STEPS: usize = 10;

/// Calls by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
}

/// A ring of ten steps. Time is an argument; a time before the current step counts as in it.
#[derive(Clone, Debug)]
pub(super) struct Window {
    step: Duration,
    /// When the current step ends. Most calls end before it, and so cost one comparison.
    ends: Duration,
    current: usize,
    ring: [Counts; STEPS],
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let step = (length / 10).max(Duration::from_nanos(1));
        Self { step, ends: step, current: 0, ring: [Counts::default(); STEPS] }
    }

    pub(super) fn clear(&mut self) {
        self.ring = [Counts::default(); STEPS];
    }

    pub(super) fn add(&mut self, now: Duration, failed: bool, slow: bool) {
        self.turn(now);
        let counts = &mut self.ring[self.current];
        counts.calls += 1;
        counts.failed += u32::from(failed);
        counts.slow += u32::from(slow);
    }

    pub(super) fn counts(&self, now: Duration) -> Counts {
        let mut turned = self.clone();
        turned.turn(now);
        turned.ring.iter().fold(Counts::default(), |sum, counts| Counts {
            calls: sum.calls + counts.calls,
            failed: sum.failed + counts.failed,
            slow: sum.slow + counts.slow,
        })
    }

    fn turn(&mut self, now: Duration) {
        if now < self.ends {
            return;
        }
        let passed = now.saturating_sub(self.ends).as_nanos() / self.step.as_nanos() + 1;
        for _ in 0..passed.min(STEPS as u128) {
            self.current = (self.current + 1) % STEPS;
            self.ring[self.current] = Counts::default();
        }
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.ends = self.ends.saturating_add(self.step.saturating_mul(passed)).max(now);
    }
}
