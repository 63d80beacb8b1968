//! Times as text, after RFC 3339.

use millstream_operators::Timestamp;

/// The text of a time, in UTC, with as many digits as it needs.
pub(super) fn to_text(time: Timestamp) -> String {
    // Every timestamp lies before the year 2555, which jiff reaches.
    jiff::Timestamp::from_nanosecond(time.as_nanos().into()).map(|time| time.to_string()).unwrap_or_default()
}

/// The time of a text; none where it is no time, or one that no timestamp reaches.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    time.as_nanosecond().try_into().ok().map(Timestamp::from_nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_has_an_offset_and_lies_in_our_era() {
        assert_eq!(parse("1970-01-01T01:00:00.5+01:00"), Some(Timestamp::from_millis(500)));
        assert_eq!([parse("1969-12-31T23:59:59Z"), parse("2600-01-01T00:00:00Z"), parse("yesterday")], [None; 3]);
    }

    proptest! {
        #[test]
        fn a_time_goes_there_and_back(nanos: u64) {
            let time = Timestamp::from_nanos(nanos);
            prop_assert_eq!(parse(&to_text(time)), Some(time));
        }
    }
}
