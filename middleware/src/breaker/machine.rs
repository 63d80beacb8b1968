//! The breaker as a state machine: no clock, no lock, time is an argument (since some origin).

use std::time::Duration;

use super::trip::Trip;
use super::window::{Counts, Window};

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Lets them through, and counts.
    Closed,
    /// Refuses them.
    Open,
    /// Lets a few through, to see.
    HalfOpen,
}

/// The right to make one call; its outcome is reported with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The state it was given in: an outcome from an earlier one no longer counts.
    pub(super) era: u64,
    probe: u64,
}

#[derive(Debug)]
pub(super) struct Machine {
    trip: Trip,
    window: Window,
    phase: Phase,
    era: u64,
    /// Times that it opened without closing in between.
    trips: u32,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open { until: Duration },
    HalfOpen { leases: Vec<Lease>, given: u64, succeeded: u32 },
}

#[derive(Debug)]
struct Lease {
    probe: u64,
    ends: Duration,
}

impl Machine {
    pub(super) fn new(trip: Trip) -> Self {
        Self { window: Window::new(trip.window), trip, phase: Phase::Closed, era: 0, trips: 0 }
    }

    pub(super) const fn trip(&self) -> &Trip {
        &self.trip
    }

    pub(super) const fn era(&self) -> u64 {
        self.era
    }

    pub(super) fn state(&self, now: Duration) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { until } if now < until => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    pub(super) fn counts(&self, now: Duration) -> Counts {
        self.window.counts(now)
    }

    /// How long it stays open yet; `None` if it is not open.
    pub(super) fn opens_in(&self, now: Duration) -> Option<Duration> {
        match self.phase {
            Phase::Open { until } => Some(until.saturating_sub(now)),
            Phase::Closed | Phase::HalfOpen { .. } => None,
        }
    }

    pub(super) const fn closed_ticket(era: u64) -> Ticket {
        Ticket { era, probe: 0 }
    }

    /// Lets a call through, or says when to come again, if that is known.
    pub(super) fn admit(&mut self, now: Duration) -> Result<Ticket, Option<Duration>> {
        if let Phase::Open { until } = self.phase {
            if now < until {
                return Err(Some(until.saturating_sub(now)));
            }
            self.enter(Phase::HalfOpen { leases: Vec::new(), given: 0, succeeded: 0 });
        }
        let era = self.era;
        let Phase::HalfOpen { leases, given, succeeded } = &mut self.phase else {
            return Ok(Self::closed_ticket(era));
        };
        if leases.iter().any(|lease| lease.ends <= now) {
            return Err(Some(self.open(now)));
        }
        let out = u32::try_from(leases.len()).unwrap_or(u32::MAX);
        if out.saturating_add(*succeeded) >= self.trip.probes {
            return Err(None);
        }
        *given += 1;
        leases.push(Lease { probe: *given, ends: now.saturating_add(self.trip.lease) });
        Ok(Ticket { era, probe: *given })
    }

    /// The call of `ticket` has ended.
    pub(super) fn record(&mut self, ticket: Ticket, failed: bool, slow: bool, now: Duration) {
        if ticket.era != self.era {
            return;
        }
        match &mut self.phase {
            Phase::Closed => {
                self.window.add(now, failed, slow);
                if (failed || slow) && self.is_over(now) {
                    self.open(now);
                }
            }
            Phase::HalfOpen { .. } if failed || slow => {
                self.open(now);
            }
            Phase::HalfOpen { leases, succeeded, .. } => {
                leases.retain(|lease| lease.probe != ticket.probe);
                *succeeded += 1;
                if *succeeded >= self.trip.probes {
                    self.close();
                }
            }
            Phase::Open { .. } => {}
        }
    }

    /// The call of `ticket` was dropped: no verdict.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        if let Phase::HalfOpen { leases, .. } = &mut self.phase
            && ticket.era == self.era
        {
            leases.retain(|lease| lease.probe != ticket.probe);
        }
    }

    /// Opens, and says for how long.
    pub(super) fn open(&mut self, now: Duration) -> Duration {
        let (first, longest) = self.trip.open_for;
        let length = first.saturating_mul(1 << self.trips.min(31)).min(longest);
        self.trips = self.trips.saturating_add(1);
        self.enter(Phase::Open { until: now.saturating_add(length) });
        length
    }

    pub(super) fn close(&mut self) {
        self.trips = 0;
        self.enter(Phase::Closed);
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.era += 1;
        self.window.clear();
    }

    fn is_over(&self, now: Duration) -> bool {
        let Counts { calls, failed, slow } = self.window.counts(now);
        let share = |part: u32| f64::from(part) / f64::from(calls);
        let too_slow = self.trip.slow.is_some_and(|(_, rate)| share(slow) >= rate);
        calls >= self.trip.minimum && (share(failed) >= self.trip.failure_rate || too_slow)
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
