//! How the runtime is.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use millstream_operators::Timestamp;
use serde::Serialize;

use super::{Phase, Runtime};

/// How a runtime is, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// The worst of all that was found.
    pub status: HealthStatus,
    /// What was found, a sentence each; empty where all is well.
    pub findings: Vec<String>,
}

/// Whether a runtime can do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HealthStatus {
    /// It can.
    Up,
    /// It can, with something that somebody should look at.
    Degraded,
    /// It takes no events.
    Down,
}

/// For how long a loss is a finding; its count is in the books for good.
const RECENT: Duration = Duration::from_mins(5);

/// What has been lost of which kind when it was last looked, and when that was new.
#[derive(Debug, Default)]
pub(super) struct Recent(HashMap<(&'static str, Arc<str>), (u64, Timestamp)>);

impl Recent {
    /// Whether a count has risen not long ago.
    fn is_new(&mut self, what: &'static str, of: &Arc<str>, count: u64, now: Timestamp) -> bool {
        if count == 0 {
            return false;
        }
        let (seen, since) = self.0.entry((what, Arc::clone(of))).or_insert((0, now));
        if *seen < count {
            (*seen, *since) = (count, now);
        }
        now.since(*since) < RECENT
    }
}

impl Runtime {
    /// Looks at the queue, the subscriptions, the dead letters and the driver.
    ///
    /// What is so now is a finding as long as it is so. What has happened (a dead letter dropped for want of room, events trimmed
    /// unread, a delayed or another event that did not reach the store or may not have, a handler that held up its thread) is one for five minutes after it was first seen here; its count stays in
    /// [`stats`](Self::stats).
    pub fn health(&self) -> Health {
        let mut findings = self.findings();
        let status = match self.phase() {
            Phase::Open if findings.is_empty() => HealthStatus::Up,
            Phase::Open => HealthStatus::Degraded,
            phase => {
                let phase = if phase == Phase::Stopped { "stopped" } else { "draining" };
                findings.insert(0, format!("the runtime is {phase} and takes no events"));
                HealthStatus::Down
            }
        };
        Health { status, findings }
    }

    fn is_new(&self, what: &'static str, of: &Arc<str>, count: u64) -> bool {
        let mut recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.is_new(what, of, count, self.shared.intake.clock.now())
    }

    /// What is to be said of a durable runtime's store.
    fn store_findings(&self) -> Vec<String> {
        let state = self.shared.intake.lock();
        let failure = state.log.failure.iter().map(|why| format!("the store has failed: {why}"));
        let orphans = state.log.orphans.iter().map(|name| {
            format!(
                "nobody subscribes or runs as `{name}`, and the store keeps what it has not read: claim it, or `forget` it"
            )
        });
        let damage = state.log.damage.iter().map(|(what, why)| format!("{what}: {why}"));
        let mut findings: Vec<_> = failure.chain(orphans).chain(damage).collect();
        drop(state);
        for entry in self.shared.registry.entries() {
            let (trimmed, name) = (entry.meter.book().trimmed, entry.name());
            if self.is_new("trimmed", name, trimmed) {
                findings.push(format!(
                    "subscription `{name}` has lost up to {} that were trimmed unread",
                    counted(trimmed, "event", "events")
                ));
            }
        }
        for stage in self.stages() {
            let name = &stage.name;
            findings.extend(stage.parked.iter().map(|why| format!("stage `{name}` is parked: {why}")));
            if stage.parked_keys > 0 {
                findings.push(format!(
                    "stage `{name}` has {} whose timers panicked",
                    counted(stage.parked_keys as u64, "key", "keys")
                ));
            }
        }
        findings
    }

    fn findings(&self) -> Vec<String> {
        let stats = self.stats();
        let mut findings = Vec::new();
        if stats.held >= stats.capacity - stats.capacity / 10 {
            findings.push(format!(
                "the queue holds {} of {}",
                stats.held,
                counted(stats.capacity as u64, "event", "events")
            ));
        }
        for full in &self.shared.intake.lock().saturated {
            findings.push(format!(
                "subscription `{}` holds its whole share, {}",
                full.subscription,
                counted(full.held as u64, "event", "events")
            ));
        }
        if stats.deliveries.parked > 0 {
            findings.push(format!(
                "{} behind keys whose head is a dead letter",
                counted(stats.deliveries.parked, "delivery waits", "deliveries wait")
            ));
        }
        if self.is_new("dead letters", &Arc::from(""), stats.dead_letters_dropped) {
            findings.push(format!(
                "{} dropped for want of room",
                counted(stats.dead_letters_dropped, "dead letter was", "dead letters were")
            ));
        }
        let unsaved = stats.events.dropped.unsaved;
        if self.is_new("unsaved", &Arc::from(""), unsaved) {
            findings.push(format!(
                "{} not known to be in the store, for a write failed or was refused: receipts say which, and handlers return theirs again",
                counted(unsaved, "event is", "events are")
            ));
        }
        if let Some((polls, name)) = self.shared.slow.as_ref().map(|slow| slow.found())
            && self.is_new("slow polls", &name, polls)
        {
            findings.push(format!(
                "{} for over 100 ms, the last one in `{name}`",
                counted(polls, "poll held up its thread", "polls held up their thread")
            ));
        }
        findings.extend(self.store_findings());
        if !self.is_at_rest() && self.shared.dispatcher.try_lock().is_ok() {
            findings.push("there is work and nobody drives the runtime: `process` or `run` it".to_owned());
        }
        findings
    }
}

/// A number and what it counts, in the singular or in the plural.
fn counted(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_said_in_the_singular_and_none_in_the_plural() {
        let said = [0, 1, 2].map(|number| counted(number, "poll was", "polls were"));
        assert_eq!(said, ["0 polls were", "1 poll was", "2 polls were"]);
    }
}
