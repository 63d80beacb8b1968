//! What can be wrong with an operator's settings.

use std::{num::NonZeroUsize, time::Duration};

use crate::Timestamp;

/// A setting was refused when the operator was built.
///
/// Each operator's `new` returns it. The fluent methods (`.debounce(..)`) panic with the same message instead, as
/// [`slice::chunks`] does: a zero in the source is a mistake in the source. Settings that come from outside go through
/// `new` and [`apply`](crate::Flow::apply).
///
/// ```
/// use std::time::Duration;
/// use millstream_operators::{BuildError, chain, time::Debounce};
///
/// let refused = Debounce::new(Duration::ZERO).unwrap_err();
/// assert_eq!(refused.to_string(), "debounce: the period is zero; allowed: 1 nanosecond or more");
///
/// let chain = chain::<u32>().apply(Debounce::new(Duration::from_millis(20))?);
/// assert_eq!(chain.run_now([1, 2]), [2]);
/// # Ok::<(), BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A length of time must be longer than nothing.
    #[error("{operator}: the {setting} is zero; allowed: 1 nanosecond or more")]
    ZeroPeriod {
        /// The operator's name.
        operator: &'static str,
        /// The setting's name.
        setting: &'static str,
    },
    /// A count must be one or more.
    #[error("{operator}: the {setting} is zero; allowed: 1 or more")]
    ZeroCount {
        /// The operator's name.
        operator: &'static str,
        /// The setting's name.
        setting: &'static str,
    },
    /// A limit must not be under what it limits.
    #[error("{operator}: the {setting} is shorter than the period; allowed: the period or more")]
    ShorterThanPeriod {
        /// The operator's name.
        operator: &'static str,
        /// The setting's name.
        setting: &'static str,
    },
}

/// A length of time as whole nanoseconds, so that adding it costs one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period(u64);

impl Period {
    /// Any length, zero too.
    pub(crate) fn any(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn new(operator: &'static str, setting: &'static str, duration: Duration) -> Result<Self, BuildError> {
        if duration.is_zero() {
            return Err(BuildError::ZeroPeriod { operator, setting });
        }
        Ok(Self::any(duration))
    }

    pub(crate) const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The first tick after `at`, of ticks every period from `start` on.
    #[inline]
    pub(crate) const fn next_tick(self, start: Timestamp, at: Timestamp) -> Timestamp {
        let passed = at.as_nanos().saturating_sub(start.as_nanos()) / self.0;
        let ahead = self.0.saturating_mul(passed.saturating_add(1));
        Timestamp::from_nanos(start.as_nanos().saturating_add(ahead))
    }

    /// The last whole multiple of the period since the epoch, up to and with `at`.
    #[inline]
    pub(crate) const fn start_of(self, at: Timestamp) -> Timestamp {
        Timestamp::from_nanos(at.as_nanos() - at.as_nanos() % self.0)
    }

    #[inline]
    pub(crate) const fn after(self, at: Timestamp) -> Timestamp {
        Timestamp::from_nanos(at.as_nanos().saturating_add(self.0))
    }
}

pub(crate) fn count(operator: &'static str, setting: &'static str, n: usize) -> Result<NonZeroUsize, BuildError> {
    NonZeroUsize::new(n).ok_or(BuildError::ZeroCount { operator, setting })
}

/// What the fluent methods make of a refused setting.
#[track_caller]
pub(crate) fn built<T>(result: Result<T, BuildError>) -> T {
    match result {
        Ok(value) => value,
        #[expect(clippy::panic, reason = "each fluent method that comes here documents it")]
        Err(error) => panic!("{error}"),
    }
}
