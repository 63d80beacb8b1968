//! When a schedule is open. Pure: time is an argument.

use std::fmt;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Unit, Zoned, ZonedRound};

use crate::{SettingError, SettingsError};

pub use jiff::civil::Weekday;

/// Times at which calls may pass.
///
/// ```
/// use millstream_middleware::schedule::{Schedule, Weekday};
///
/// let office = Schedule::hours([Weekday::Monday, Weekday::Tuesday], "09:00", "17:00", "Europe/Berlin")?;
/// let night = Schedule::cron("* 22-23,0-5 * * *", "America/New_York")?;
/// let either = office.or(night);
/// # let _ = either;
/// # Ok::<(), millstream_middleware::SettingsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Schedule {
    rules: Vec<Rule>,
}

#[derive(Clone)]
enum Rule {
    Hours { days: Vec<Weekday>, from: Time, to: Time, zone: TimeZone },
    Cron { cron: Box<Cron>, zone: TimeZone },
}

impl Schedule {
    /// Open on `days` from `from` to `to` (`"09:00"`, the end not included) in `zone` (`"Europe/Berlin"`). Hours that end
    /// before they begin reach into the next day.
    ///
    /// # Errors
    /// No days, times that are none, a time zone that is not known.
    pub fn hours(
        days: impl IntoIterator<Item = Weekday>,
        from: &str,
        to: &str,
        zone: &str,
    ) -> Result<Self, SettingsError> {
        let days: Vec<_> = days.into_iter().collect();
        let none = days.is_empty().then(|| SettingError::new("days", "none is never open"));
        let (from, to, zone) = (time("from", from), time("to", to), time_zone(zone));
        match (from, to, zone, none) {
            (Ok(from), Ok(to), Ok(zone), None) => Ok(Self { rules: vec![Rule::Hours { days, from, to, zone }] }),
            (from, to, zone, none) => Err(SettingsError::of_all([none, from.err(), to.err(), zone.err()])),
        }
    }

    /// Open in each minute that matches `pattern` (five fields) in `zone`.
    ///
    /// # Errors
    /// A pattern that is none, a time zone that is not known.
    pub fn cron(pattern: &str, zone: &str) -> Result<Self, SettingsError> {
        match (parse(pattern), time_zone(zone)) {
            (Ok(cron), Ok(zone)) => Ok(Self { rules: vec![Rule::Cron { cron: Box::new(cron), zone }] }),
            (cron, zone) => Err(SettingsError::of_all([cron.err(), zone.err()])),
        }
    }

    /// Open when this or `other` is.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.rules.extend(other.rules);
        self
    }

    /// How long until it opens: zero if it is open at `now`, `None` if it never opens.
    pub(super) fn opens_in(&self, now: Timestamp) -> Option<Duration> {
        let waits = self.rules.iter().filter_map(|rule| rule.opens_in(now));
        waits.min()
    }
}

impl Rule {
    fn opens_in(&self, now: Timestamp) -> Option<Duration> {
        let opens = match self {
            Self::Hours { days, from, to, zone } => {
                let local = now.to_zoned(zone.clone());
                if is_within(&local, days, *from, *to) {
                    return Some(Duration::ZERO);
                }
                next_opening(&local, days, *from)?
            }
            Self::Cron { cron, zone } => {
                let minute = now.to_zoned(zone.clone()).round(ZonedRound::new().smallest(Unit::Minute).mode(TRUNCATE));
                cron.find_next_occurrence(&minute.ok()?, true).ok()?
            }
        };
        Some(Duration::try_from(opens.timestamp().duration_since(now)).unwrap_or(Duration::ZERO))
    }
}

const TRUNCATE: jiff::RoundMode = jiff::RoundMode::Trunc;

fn is_within(local: &Zoned, days: &[Weekday], from: Time, to: Time) -> bool {
    let (time, today) = (local.time(), local.weekday());
    if from < to {
        return days.contains(&today) && from <= time && time < to;
    }
    days.contains(&today) && from <= time || days.contains(&today.previous()) && time < to
}

/// The next `from` on one of `days`; in a gap of the clock, its end.
fn next_opening(local: &Zoned, days: &[Weekday], from: Time) -> Option<Zoned> {
    (0..=8)
        .filter_map(|ahead| local.date().checked_add(ahead.days()).ok())
        .filter(|date| days.contains(&date.weekday()))
        .filter_map(|date| date.to_datetime(from).to_zoned(local.time_zone().clone()).ok())
        .find(|opening| opening > local)
}

pub(super) fn parse(pattern: &str) -> Result<Cron, SettingError> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
    parser.parse(pattern).map_err(|error| SettingError::new("pattern", error.to_string()))
}

pub(super) fn time_zone(name: &str) -> Result<TimeZone, SettingError> {
    TimeZone::get(name).map_err(|error| SettingError::new("zone", error.to_string()))
}

fn time(setting: &'static str, text: &str) -> Result<Time, SettingError> {
    text.parse().map_err(|error: jiff::Error| SettingError::new(setting, error.to_string()))
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |zone: &TimeZone| zone.iana_name().unwrap_or("unnamed").to_owned();
        match self {
            Self::Hours { days, from, to, zone } => write!(f, "{days:?} {from} to {to} {}", name(zone)),
            Self::Cron { cron, zone } => write!(f, "{} {}", cron.pattern, name(zone)),
        }
    }
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
