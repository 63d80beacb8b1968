//! Numbers and times as people write and read them.

use std::time::Duration;

use jiff::{civil::Date, tz::TimeZone};
use millstream::Timestamp;

/// A time of the command line: after RFC 3339, or a date, which begins at midnight UTC.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let time = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let date: Date = text.parse().ok()?;
        date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    });
    let time = time.ok_or_else(|| "write a time as 2026-01-31T12:00:00Z, or a date as 2026-01-31".to_owned())?;
    let nanos = u64::try_from(time.as_nanosecond());
    nanos.map(Timestamp::from_nanos).map_err(|_| "times from 1970 to 2554 are known".to_owned())
}

/// A time for people: in UTC, to the millisecond.
pub(crate) fn time(time: Timestamp) -> String {
    let millis = jiff::Timestamp::UNIX_EPOCH + Duration::from_millis(time.as_millis());
    format!("{millis:.3}")
}

/// Bytes for people.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// A number for people, in groups of three digits. Not for places, letters and versions: these are typed as they are read.
pub(crate) fn number(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// How many there are, and what they are: in the singular for one, else in the plural.
pub(crate) fn count(number: u64, one: &str, more: &str) -> String {
    format!("{} {}", self::number(number), if number == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_in_the_singular_and_thousands_are_in_groups() {
        let said = [0, 1, 2, 1_234_567].map(|number| count(number, "delivery", "deliveries"));
        assert_eq!(said, ["0 deliveries", "1 delivery", "2 deliveries", "1,234,567 deliveries"]);
    }
}
