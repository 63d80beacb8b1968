use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::calendar::Schedule;
use super::error::Closed;
use super::future::{Opening, ScheduleFuture};
use crate::clock::now;
use crate::{Describe, Part, SettingError, SettingsError, tell};

/// Lets calls through while a schedule is open.
#[derive(Clone, Debug)]
pub struct ScheduleLayer {
    rules: Arc<Rules>,
}

impl ScheduleLayer {
    /// Refuses what comes while `schedule` is closed.
    #[must_use]
    pub fn refuse(schedule: Schedule) -> Self {
        Self::with(schedule, false)
    }

    /// Holds what comes while `schedule` is closed, until it opens.
    #[must_use]
    pub fn hold(schedule: Schedule) -> Self {
        Self::with(schedule, true)
    }

    fn with(schedule: Schedule, hold: bool) -> Self {
        Self { rules: Arc::new(Rules { schedule, hold, patience: None, wall: Wall::System }) }
    }

    /// A call that would be held for longer is refused at once. Default: no limit.
    #[must_use]
    pub fn patience(self, wait: Duration) -> Self {
        self.change(|rules| rules.patience = Some(wait))
    }

    /// Reads the time from tokio's clock, which is now at `time` (`"2026-11-20T09:00:00Z"`). Default: the system's clock,
    /// which a paused test does not own.
    ///
    /// # Errors
    /// A time that is none.
    pub fn starting_at(self, time: &str) -> Result<Self, SettingsError> {
        let origin = time.parse::<Timestamp>().map_err(|error| SettingError::new("starting_at", error.to_string()))?;
        let wall = Wall::Tokio { origin, at: now() };
        Ok(self.change(|rules| rules.wall = wall))
    }

    fn change(self, change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = (*self.rules).clone();
        change(&mut rules);
        Self { rules: Arc::new(rules) }
    }
}

impl<S> Layer<S> for ScheduleLayer {
    type Service = Scheduled<S>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Scheduled { inner, rules: Arc::clone(&self.rules) }
    }
}

impl Describe for ScheduleLayer {
    fn describe(&self) -> Part {
        let closed = if self.rules.hold { "hold" } else { "refuse" };
        Part::new("schedule")
            .with("open", &self.rules.schedule)
            .says("closed", closed)
            .with_some("patience", self.rules.patience)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Rules {
    schedule: Schedule,
    hold: bool,
    patience: Option<Duration>,
    wall: Wall,
}

/// Where the calendar's time comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wall {
    System,
    Tokio { origin: Timestamp, at: Instant },
}

impl Wall {
    pub(super) fn now(self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Tokio { origin, at } => origin.checked_add(now() - at).unwrap_or(Timestamp::MAX),
        }
    }
}

impl Rules {
    pub(super) fn opens_in(&self) -> Option<Duration> {
        self.schedule.opens_in(self.wall.now())
    }

    pub(super) fn holds(&self, wait: Duration) -> bool {
        self.hold && self.patience.is_none_or(|patience| wait <= patience)
    }
}

/// The service of [`ScheduleLayer`].
#[derive(Clone, Debug)]
pub struct Scheduled<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S, R> Service<R> for Scheduled<S>
where
    S: Service<R, Error: From<Closed>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ScheduleFuture<S, R>;

    /// Always ready: nothing of the inner service is held while a call waits for the opening.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        ScheduleFuture::new(Opening::ask(&self.rules), self.inner.clone(), request)
    }
}
