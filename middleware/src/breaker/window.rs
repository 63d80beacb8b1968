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

/// A ring of ten steps. Time is an argument.
#[derive(Clone, Debug)]
pub(super) struct Window {
    step: u128,
    ring: [(usize, Counts); STEPS],
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        Self { step: (length.as_nanos() / STEPS as u128).max(1), ring: [(0, Counts::default()); STEPS] }
    }

    pub(super) fn clear(&mut self) {
        self.ring = [(0, Counts::default()); STEPS];
    }

    pub(super) fn add(&mut self, now: Duration, failed: bool, slow: bool) {
        let index = self.index(now);
        let (at, counts) = &mut self.ring[index % STEPS];
        if *at != index {
            (*at, *counts) = (index, Counts::default());
        }
        counts.calls += 1;
        counts.failed += u32::from(failed);
        counts.slow += u32::from(slow);
    }

    pub(super) fn counts(&self, now: Duration) -> Counts {
        let index = self.index(now);
        let recent = self.ring.iter().filter(|(at, _)| *at + STEPS > index && *at <= index);
        recent.fold(Counts::default(), |sum, (_, counts)| Counts {
            calls: sum.calls + counts.calls,
            failed: sum.failed + counts.failed,
            slow: sum.slow + counts.slow,
        })
    }

    fn index(&self, now: Duration) -> usize {
        usize::try_from(now.as_nanos() / self.step).unwrap_or(usize::MAX - STEPS)
    }
}
