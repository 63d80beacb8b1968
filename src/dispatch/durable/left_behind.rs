//! Deliveries that were to leave the log while nobody could write it: they stay there, and leave it once there is room.
//!
//! Left there, they would keep their subscription from reading on: for as long as its key is halted, or as the backoff lasts.

use crate::dispatch::{
    Dispatcher,
    job::{Job, OrderKey},
    subscriber::KeyLine,
};

impl Dispatcher {
    /// Writes who waits, as far as there is room now. Whether there was anything to write.
    pub(super) fn write_left_behind(&mut self) -> bool {
        let Some(durable) = self.durable.as_mut().filter(|durable| !durable.is_stuffed()) else { return false };
        if !std::mem::take(&mut durable.has_left_behind) {
            return false;
        }
        // The heads first: who stays behind one that stays is in the right order still.
        let mut timers = std::mem::take(&mut self.timers);
        for (due, job) in timers.attempts_mut().filter(|(_, job)| job.is_in_log()) {
            self.log_waiting(job, due);
        }
        self.timers = timers;
        for (place, key) in self.lines_in_log() {
            self.log_line_of(place, &key);
        }
        true
    }

    /// The keys whose heads wait or have died, with somebody behind them who is in the log still.
    fn lines_in_log(&self) -> Vec<(usize, OrderKey)> {
        let may_leave = |line: &KeyLine| line.head_waits || line.is_halted;
        let is_in_log = |line: &KeyLine| line.waiting.back().is_some_and(Job::is_in_log);
        let lines = self.subscribers.iter().flat_map(|(place, subscriber)| {
            let lines = subscriber.keys.iter().filter(|(_, line)| may_leave(line) && is_in_log(line));
            lines.map(move |(key, _)| (place, key.clone()))
        });
        lines.collect()
    }
}
