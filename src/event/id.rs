//! Event ids: ULIDs that rise within a runtime.

use std::{
    fmt,
    num::NonZeroU64,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use millstream_operators::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ulid::Ulid;

/// Identifies one event: a [ULID](https://github.com/ulid/spec), so ids sort by time of creation.
///
/// Within one runtime ids rise strictly, in the order in which events were created.
///
/// ```
/// use millstream::EventId;
///
/// let id: EventId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse()?;
/// assert_eq!(id.to_string(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
/// assert_eq!(id.timestamp().as_millis(), 1_469_922_850_259);
/// # Ok::<(), millstream::IdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Milliseconds and the counter. Two halves, so that an envelope needs no alignment that allocators find unusual.
    high: u64,
    low: NonZeroU64,
}

/// A text that is no event id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no event id: 26 characters of Crockford's base 32 are allowed, the last 13 of them not all zero")]
pub struct IdError {
    text: String,
}

impl EventId {
    /// When the id was made, to the millisecond.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_millis(self.high >> 16)
    }

    /// The 128 bits of the ULID.
    pub const fn as_u128(self) -> u128 {
        (self.high as u128) << 64 | self.low.get() as u128
    }

    pub(crate) fn from_u128(bits: u128) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let (high, low) = ((bits >> 64) as u64, bits as u64);
        NonZeroU64::new(low).map(|low| Self { high, low })
    }
}

impl FromStr for EventId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let ulid = Ulid::from_string(text).map_err(|_| IdError { text: text.to_owned() })?;
        Self::from_u128(ulid.0).ok_or_else(|| IdError { text: text.to_owned() })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ulid(self.as_u128()).fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Makes rising ids without a lock: 48 bits of milliseconds and a 16-bit counter in one atomic number, over 64 bits
/// that are random for each source. A counter that overflows runs into the next millisecond, so ids never repeat and
/// never fall, whatever the clock does.
#[derive(Debug)]
pub(crate) struct IdSource {
    last: AtomicU64,
    random: NonZeroU64,
}

impl IdSource {
    pub(crate) fn new(random: u64) -> Self {
        Self { last: AtomicU64::new(0), random: NonZeroU64::MIN | random }
    }

    pub(crate) fn next(&self, now: Timestamp) -> EventId {
        let floor = now.as_millis() << 16;
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = floor.max(last + 1);
            // Relaxed: the number alone is the message; nothing else is published through it.
            match self.last.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return EventId { high: next, low: self.random },
                Err(current) => last = current,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_although_the_clock_falls() {
        let source = IdSource::new(7);
        let ids: Vec<_> = [5, 5, 3, 9, 1].map(|ms| source.next(Timestamp::from_millis(ms))).into();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        assert_eq!(ids[3].timestamp(), Timestamp::from_millis(9));
    }

    #[test]
    fn a_full_millisecond_runs_into_the_next() {
        let source = IdSource::new(7);
        let first = source.next(Timestamp::from_millis(1));
        let last = (0..70_000).map(|_| source.next(Timestamp::from_millis(1))).last().unwrap();
        assert_eq!((first.timestamp(), last.timestamp()), (Timestamp::from_millis(1), Timestamp::from_millis(2)));
    }

    #[test]
    fn text_goes_there_and_back_and_bad_text_is_named() {
        let id = IdSource::new(42).next(Timestamp::from_millis(1_700_000_000_000));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::from_value::<EventId>(serde_json::to_value(id).unwrap()).unwrap(), id);
        let error = "nonsense".parse::<EventId>().unwrap_err();
        assert!(error.to_string().contains("`nonsense`") && error.to_string().contains("26 characters"));
        assert!("00000000000000000000000000".parse::<EventId>().is_err());
    }
}
