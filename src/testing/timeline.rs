//! Everything that happened, in order.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use millstream_operators::Timestamp;

use crate::{
    event::Envelope,
    intake::{Observer, Step, What},
};

/// Keeps every step.
#[derive(Debug, Default)]
pub(super) struct Recorder(Mutex<Vec<Step>>);

impl Observer for Recorder {
    fn observe(&self, step: Step) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }
}

impl Recorder {
    pub(super) fn timeline(&self, start: Timestamp) -> Timeline {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let moment = |step: &Step| Moment {
            after: step.at.since(start),
            event: Arc::clone(&step.event),
            subscription: step.subscription.as_deref().map(str::to_owned),
            what: step.what.clone(),
        };
        Timeline(steps.iter().map(moment).collect())
    }
}

/// Something that happened to an event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Moment {
    /// How long after the test began.
    pub after: Duration,
    /// The event.
    pub event: Arc<Envelope>,
    /// The subscription, where it happened in one.
    pub subscription: Option<String>,
    /// What happened.
    pub what: What,
}

/// Everything that happened, in order. It prints as a line a step, ready for a snapshot test.
#[derive(Clone, Debug)]
pub struct Timeline(Vec<Moment>);

impl Timeline {
    /// The steps.
    pub fn moments(&self) -> &[Moment] {
        &self.0
    }

    /// The steps of the events of one name.
    pub fn of(&self, name: &str) -> impl Iterator<Item = &Moment> {
        self.0.iter().filter(move |moment| moment.event.name().as_str() == name)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|moment| writeln!(f, "{moment}"))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after, event, subscription, what } = self;
        write!(f, "{:>9.3}s {}", after.as_secs_f64(), event.name())?;
        if let Some(key) = event.key() {
            write!(f, "[{key}]")?;
        }
        if let Some(subscription) = subscription {
            write!(f, " {subscription}")?;
        }
        match what {
            What::Emitted => write!(f, " emitted"),
            What::Delayed { .. } => write!(f, " delayed"),
            What::Dropped { reason } => write!(f, " dropped: {reason}"),
            What::Unrouted => write!(f, " unrouted"),
            What::Started { attempt } => write!(f, " attempt {attempt}"),
            What::Handled => write!(f, " handled"),
            What::Retrying { error, delay } => write!(f, " failed: {error}; again in {delay:?}"),
            What::Dead { reason } => write!(f, " dead: {reason}"),
        }
    }
}
