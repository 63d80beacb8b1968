//! Randomness in a delay, so that those who failed together do not come back together.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a delay is spread. The formulas are those of Marc Brooker,
/// *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// The delay as it is.
    #[default]
    None,
    /// Uniform from zero to the delay.
    Full,
    /// Half of the delay, and uniform from zero to the other half.
    Equal,
    /// Uniform from the first delay to three times the previous one, whatever the backoff says; it grows by itself
    /// up to the largest delay. The first is from one to three times the first delay.
    Decorrelated,
}

impl Jitter {
    /// Spreads `delay`; `first` and `previous` matter to [`Jitter::Decorrelated`] alone.
    pub(super) fn spread(
        self,
        delay: Duration,
        first: Duration,
        previous: Duration,
        random: &mut fastrand::Rng,
    ) -> Duration {
        match self {
            Self::None => delay,
            Self::Full => between(Duration::ZERO, delay, random),
            Self::Equal => between(delay / 2, delay, random),
            Self::Decorrelated => between(first, previous.max(first).saturating_mul(3), random),
        }
    }
}

/// Uniform from `low` to `high`, both included; to the nanosecond up to 584 years.
fn between(low: Duration, high: Duration, random: &mut fastrand::Rng) -> Duration {
    let nanos = u64::try_from(high.saturating_sub(low).as_nanos()).unwrap_or(u64::MAX);
    low.saturating_add(Duration::from_nanos(random.u64(0..=nanos)))
}
