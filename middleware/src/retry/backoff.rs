//! How a delay grows from one failure to the next, before any jitter.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The growth of the delay. `initial` is always the delay after the first failure.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Backoff {
    /// `initial`, always.
    Fixed,
    /// `initial` times the number of failures.
    Linear,
    /// `initial` times a factor for each failure after the first.
    Exponential,
    /// What the function says.
    #[serde(skip)]
    Custom(fn(u32) -> Duration),
}

impl Backoff {
    /// The kind of growth, in a word.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Linear => "linear",
            Self::Exponential => "exponential",
            Self::Custom(_) => "custom",
        }
    }

    /// The delay after `failed` attempts (at least 1), without jitter or cap.
    pub(super) fn delay(self, failed: u32, initial: Duration, factor: f64) -> Duration {
        match self {
            Self::Fixed => initial,
            Self::Linear => initial.saturating_mul(failed.max(1)),
            Self::Exponential => grow(initial, factor, failed.saturating_sub(1)),
            Self::Custom(delay) => delay(failed.max(1)),
        }
    }
}

/// `initial * factor^times`; `Duration::MAX` where that does not fit. The first delay is `initial` to the nanosecond.
fn grow(initial: Duration, factor: f64, times: u32) -> Duration {
    if times == 0 || initial.is_zero() {
        return initial;
    }
    let seconds = initial.as_secs_f64() * factor.powf(f64::from(times));
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
