//! What is due when, for this dispatcher.

use std::collections::BTreeMap;

use millstream_operators::Timestamp;

use super::job::Job;

/// What happens at a time.
#[derive(Debug)]
pub(super) enum Due {
    /// The next attempt of a delivery, or its first after a replay.
    Attempt(Box<Job>),
    /// An attempt in flight has had its time.
    Timeout(usize),
}

/// Names a timer until it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerKey(Timestamp, u64);

/// Timers in the order of their times, and of their making where times are equal. Taking one out leaves nothing behind.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<TimerKey, Due>,
    made: u64,
}

impl Timers {
    pub(super) fn add(&mut self, at: Timestamp, due: Due) -> TimerKey {
        self.made += 1;
        let key = TimerKey(at, self.made);
        self.due.insert(key, due);
        key
    }

    pub(super) fn remove(&mut self, key: TimerKey) {
        self.due.remove(&key);
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first_key_value().map(|(key, _)| key.0)
    }

    /// How many were ever made.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// The next one that is due, of the first `made`: what is due at once again comes in the next round.
    pub(super) fn pop_due(&mut self, now: Timestamp, made: u64) -> Option<Due> {
        let mut due = self.due.range(..=TimerKey(now, u64::MAX)).map(|(&key, _)| key);
        let key = due.find(|key| key.1 <= made)?;
        self.due.remove(&key)
    }

    /// The deliveries that wait for their next attempt, and when it is due.
    pub(super) fn attempts_mut(&mut self) -> impl Iterator<Item = (Timestamp, &mut Job)> {
        self.due
            .iter_mut()
            .filter_map(|(key, due)| if let Due::Attempt(job) = due { Some((key.0, &mut **job)) } else { None })
    }

    /// Takes out the attempts that `unwanted` says.
    pub(super) fn sweep(&mut self, mut unwanted: impl FnMut(&Job) -> bool) -> Vec<Job> {
        let is_unwanted = |due: &Due| matches!(due, Due::Attempt(job) if unwanted(job));
        let mut is_unwanted = is_unwanted;
        let keys: Vec<_> = self.due.iter().filter(|(_, due)| is_unwanted(due)).map(|(&key, _)| key).collect();
        let swept = keys.into_iter().filter_map(|key| self.due.remove(&key));
        swept.filter_map(|due| if let Due::Attempt(job) = due { Some(*job) } else { None }).collect()
    }
}
