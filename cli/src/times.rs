//! Times as people write and read them.

use std::time::Duration;

use jiff::{civil::Date, tz::TimeZone};
use millstream::Timestamp;

/// A time of the command line: after RFC 3339, or a date, which begins at midnight UTC.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    let time = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let date: Date = text.parse().ok()?;
        date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    });
    let time = time.ok_or_else(|| "write a time as 2026-01-31T12:00:00Z, or a date as 2026-01-31".to_owned())?;
    let nanos = u64::try_from(time.as_nanosecond());
    nanos.map(Timestamp::from_nanos).map_err(|_| "times from 1970 to 2554 are known".to_owned())
}

/// A time for people: in UTC, to the millisecond.
pub(crate) fn show(time: Timestamp) -> String {
    let millis = jiff::Timestamp::UNIX_EPOCH + Duration::from_millis(time.as_millis());
    format!("{millis:.3}")
}

/// Bytes for people.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
