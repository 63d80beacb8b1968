//! How the runtime is.

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

impl Runtime {
    /// Looks at the queue, the subscriptions, the dead letters and the driver.
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
            let trimmed = entry.meter.book().trimmed;
            if trimmed > 0 {
                let name = entry.name();
                findings
                    .push(format!("subscription `{name}` has lost up to {trimmed} events that were trimmed unread"));
            }
        }
        for stage in self.stages() {
            let name = &stage.name;
            findings.extend(stage.parked.iter().map(|why| format!("stage `{name}` is parked: {why}")));
            if stage.parked_keys > 0 {
                findings.push(format!("stage `{name}` has {} keys whose timers panicked", stage.parked_keys));
            }
        }
        findings
    }

    fn findings(&self) -> Vec<String> {
        let stats = self.stats();
        let mut findings = Vec::new();
        if stats.held >= stats.capacity - stats.capacity / 10 {
            findings.push(format!("the queue holds {} of {} events", stats.held, stats.capacity));
        }
        for full in &self.shared.intake.lock().saturated {
            findings.push(format!("subscription `{}` holds its whole share, {} events", full.subscription, full.held));
        }
        if stats.deliveries.parked > 0 {
            findings
                .push(format!("{} deliveries wait behind keys whose head is a dead letter", stats.deliveries.parked));
        }
        if stats.dead_letters_dropped > 0 {
            findings.push(format!("{} dead letters were dropped for want of room", stats.dead_letters_dropped));
        }
        if let Some((polls @ 1.., Some(last))) = self.shared.slow.as_ref().map(|slow| slow.found()) {
            let entries = self.shared.registry.entries();
            let name = entries.iter().find(|entry| entry.id == last).map_or("(gone)", |entry| entry.name());
            findings.push(format!("{polls} polls held up their thread for over 100 ms, the last one in `{name}`"));
        }
        findings.extend(self.store_findings());
        if !self.is_at_rest() && self.shared.dispatcher.try_lock().is_ok() {
            findings.push("there is work and nobody drives the runtime: `process` or `run` it".to_owned());
        }
        findings
    }
}
