use std::future::poll_fn;
use std::time::Duration;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::{Instant, sleep, sleep_until};
use tower_service::Service;

use super::calendar::{parse, time_zone};
use super::service::Wall;
use crate::clock::now;
use crate::{SettingError, SettingsError};

/// Ticks at intervals, or by cron.
#[derive(Clone, Debug)]
pub struct Trigger {
    rhythm: Rhythm,
}

#[derive(Clone, Debug)]
enum Rhythm {
    Every { period: Duration, last: Instant },
    Cron { cron: Box<Cron>, zone: TimeZone, wall: Wall, last: Timestamp },
}

/// One tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// How many ticks passed unheard since the one before.
    pub skipped: u64,
}

impl Trigger {
    /// Ticks each `period`, the first time one period from now. Ticks do not drift.
    ///
    /// # Errors
    /// A period of zero.
    pub fn every(period: Duration) -> Result<Self, SettingsError> {
        let zero = period.is_zero().then(|| SettingError::new("period", "zero never rests"));
        SettingsError::collect(zero)?;
        Ok(Self { rhythm: Rhythm::Every { period, last: now() } })
    }

    /// Ticks at each minute that matches `pattern` (five fields) in `zone`, by the system's clock. In the gap of a clock
    /// that goes forward it ticks after the gap.
    ///
    /// # Errors
    /// A pattern that is none, a time zone that is not known.
    pub fn cron(pattern: &str, zone: &str) -> Result<Self, SettingsError> {
        Self::cron_on(pattern, zone, Wall::System)
    }

    /// The same by tokio's clock, which is now at `time` (`"2026-11-20T09:00:00Z"`).
    ///
    /// # Errors
    /// A pattern or a time that is none, a time zone that is not known.
    pub fn cron_starting_at(pattern: &str, zone: &str, time: &str) -> Result<Self, SettingsError> {
        let origin = time.parse().map_err(|error: jiff::Error| SettingError::new("time", error.to_string()))?;
        Self::cron_on(pattern, zone, Wall::Tokio { origin, at: now() })
    }

    fn cron_on(pattern: &str, zone: &str, wall: Wall) -> Result<Self, SettingsError> {
        let (cron, zone) = (parse(pattern), time_zone(zone));
        let last = wall.now();
        match (cron, zone) {
            (Ok(cron), Ok(zone)) => Ok(Self { rhythm: Rhythm::Cron { cron: Box::new(cron), zone, wall, last } }),
            (cron, zone) => Err(SettingsError::of_all([cron.err(), zone.err()])),
        }
    }

    /// Waits for the next tick. `None` if there is none, ever. Ticks that passed unheard are counted, not made up for.
    ///
    /// # Cancel safety
    /// A tick that passes after the wait for it was dropped is counted as skipped.
    pub async fn tick(&mut self) -> Option<Tick> {
        match &mut self.rhythm {
            Rhythm::Every { period, last } => Some(tick_every(*period, last).await),
            Rhythm::Cron { cron, zone, wall, last } => tick_cron(cron, zone, *wall, last).await,
        }
    }
}

async fn tick_every(period: Duration, last: &mut Instant) -> Tick {
    // The first that is not past: those before it came while nobody listened.
    let ticks = (now() - *last).as_nanos().div_ceil(period.as_nanos()).max(1);
    let skipped = u32::try_from(ticks - 1).unwrap_or(u32::MAX - 1);
    let due = *last + period.saturating_mul(skipped + 1);
    sleep_until(due).await;
    *last = due;
    Tick { skipped: skipped.into() }
}

async fn tick_cron(cron: &Cron, zone: &TimeZone, wall: Wall, last: &mut Timestamp) -> Option<Tick> {
    let after = |at: Timestamp| cron.find_next_occurrence(&at.to_zoned(zone.clone()), false).ok();
    let mut due = after(*last)?.timestamp();
    let mut skipped = 0;
    while due < wall.now() {
        due = after(due)?.timestamp();
        skipped += 1;
    }
    while let wait = due.duration_since(wall.now())
        && wait.is_positive()
    {
        // Once a minute the clock is looked at again: it may have been set.
        let wait = Duration::try_from(wait).unwrap_or(Duration::ZERO);
        sleep(wait.min(Duration::from_mins(1))).await;
    }
    *last = due;
    Some(Tick { skipped })
}

/// Calls `service` at each tick with what `request` makes of it, one call at a time, until there is no further tick or
/// the service fails to become ready. An error of a call does not end it: put the layers that handle it on the service.
///
/// # Errors
/// The error with which the service failed to become ready.
pub async fn drive<S, R>(
    mut trigger: Trigger,
    mut service: S,
    mut request: impl FnMut(Tick) -> R,
) -> Result<(), S::Error>
where
    S: Service<R>,
{
    while let Some(tick) = trigger.tick().await {
        poll_fn(|cx| service.poll_ready(cx)).await?;
        drop(service.call(request(tick)).await);
    }
    Ok(())
}
