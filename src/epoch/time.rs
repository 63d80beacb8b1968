//! A stage's time: the clock's, or that of its events.

use std::time::Duration;

use millstream_operators::Timestamp;

use super::header::Reached;

/// Where time comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// The clock.
    #[default]
    Clock,
    /// The events: the watermark is `lateness` behind the newest. Once the input has been at its end for `idle`, time goes
    /// on with the clock.
    Event { lateness: Duration, idle: Option<Duration> },
}

/// Where a stage is in time. It never goes back, over restarts as well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) mode: Mode,
    pub(super) reached: Reached,
}

/// When the chain takes an item, and up to when deadlines fire before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) at: Timestamp,
    pub(super) upto: Timestamp,
}

impl Time {
    /// The clock says so.
    pub(super) fn clock(&mut self, now: Timestamp) {
        self.reached.now = self.reached.now.max(now);
    }

    /// An event of that time arrives now.
    pub(super) fn arrival(&self, time: Timestamp) -> Arrival {
        let Reached { now, watermark, .. } = self.reached;
        match self.mode {
            Mode::Clock => Arrival { at: now, upto: now },
            Mode::Event { lateness, .. } => Arrival { at: time, upto: watermark.max(time - lateness) },
        }
    }

    pub(super) fn is_late(&self, at: Timestamp) -> bool {
        matches!(self.mode, Mode::Event { .. }) && at < self.reached.watermark
    }

    /// All that is due at `upto` or before has fired.
    pub(super) fn passed(&mut self, upto: Timestamp) {
        self.reached.watermark = self.reached.watermark.max(upto);
    }

    /// An item was taken.
    pub(super) fn took(&mut self, at: Timestamp) {
        self.reached.active = self.reached.now;
        if matches!(self.mode, Mode::Event { .. }) {
            self.reached.newest = self.reached.newest.max(Some(at));
        }
    }

    /// Up to when deadlines fire while no item comes.
    pub(super) fn upto(&self, is_at_end: bool) -> Timestamp {
        let Reached { now, watermark, newest, active } = self.reached;
        match (self.mode, newest) {
            (Mode::Clock, _) => now,
            (Mode::Event { lateness, idle: Some(idle) }, Some(newest)) if is_at_end && now.since(active) >= idle => {
                watermark.max(newest + now.since(active) - lateness)
            }
            (Mode::Event { .. }, _) => watermark,
        }
    }

    /// When the clock brings a deadline about, if no item comes before.
    pub(super) fn alarm(&self, due: Timestamp) -> Option<Timestamp> {
        let Reached { newest, active, .. } = self.reached;
        match (self.mode, newest) {
            (Mode::Clock, _) => Some(due),
            (Mode::Event { lateness, idle: Some(idle) }, Some(newest)) => {
                Some(active + idle.max((due + lateness).since(newest)))
            }
            (Mode::Event { .. }, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn time(mode: Mode) -> Time {
        Time { mode, reached: Reached::default() }
    }

    #[test]
    fn the_clock_never_goes_back() {
        let mut time = time(Mode::Clock);
        time.clock(seconds(9));
        time.clock(seconds(5));
        assert_eq!(time.arrival(seconds(1)), Arrival { at: seconds(9), upto: seconds(9) });
        assert_eq!((time.alarm(seconds(12)), time.is_late(seconds(1))), (Some(seconds(12)), false));
    }

    #[test]
    fn the_watermark_is_behind_the_newest_item_and_goes_on_while_the_input_is_idle() {
        let [lateness, idle] = [2, 10].map(Duration::from_secs);
        let mut time = time(Mode::Event { lateness, idle: Some(idle) });
        time.clock(seconds(100));
        assert_eq!(time.upto(true), Timestamp::EPOCH, "no item, no time");
        let Arrival { at, upto } = time.arrival(seconds(7));
        assert_eq!((at, upto), (seconds(7), seconds(5)));
        time.passed(upto);
        time.took(at);
        assert!(time.is_late(seconds(4)) && !time.is_late(seconds(5)));
        assert_eq!(time.alarm(seconds(6)), Some(seconds(110)), "not before it is idle");
        assert_eq!(time.alarm(seconds(20)), Some(seconds(115)), "7 + 15 - 2 is 20");
        time.clock(seconds(109));
        assert_eq!(time.upto(true), seconds(5));
        time.clock(seconds(115));
        assert_eq!((time.upto(false), time.upto(true)), (seconds(5), seconds(20)));
    }
}
