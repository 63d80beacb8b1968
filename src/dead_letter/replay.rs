//! Delivering dead letters again.

use std::{num::NonZeroU32, time::Duration};

use super::DeadLetterFilter;

/// Which dead letters to deliver again, how many, and how fast. Default: all, at once.
///
/// ```
/// use millstream::{DeadLetterFilter, Replay};
///
/// let gently = Replay::of(DeadLetterFilter::all().subscription("mailer")).limit(500).rate(50.try_into()?);
/// # let _ = gently;
/// # Ok::<(), std::num::TryFromIntError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Replay {
    pub(crate) filter: DeadLetterFilter,
    pub(crate) limit: usize,
    rate: Option<NonZeroU32>,
}

/// What a replay has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayReport {
    /// Deliveries and events that are on their way again.
    pub replayed: usize,
    /// Letters that stay, because their subscription is gone or there is no room for their event.
    pub kept: usize,
}

impl Replay {
    /// All dead letters.
    pub fn all() -> Self {
        Self::of(DeadLetterFilter::all())
    }

    /// Those that a filter selects.
    pub fn of(filter: DeadLetterFilter) -> Self {
        Self { filter, limit: usize::MAX, rate: None }
    }

    /// So many at most, the oldest first.
    pub fn limit(mut self, letters: usize) -> Self {
        self.limit = letters;
        self
    }

    /// So many a second: their due times are spread.
    pub fn rate(mut self, per_second: NonZeroU32) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// How far the due times of two of them are apart.
    pub(crate) fn step(&self) -> Duration {
        self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.get())
    }
}
