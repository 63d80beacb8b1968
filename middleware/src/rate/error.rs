use std::time::Duration;

use crate::{Classify, ErrorKind, RetryHint};

/// The rate is used up. The call was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("over the rate limit, come again in {retry_after:?}")]
pub struct Limited {
    retry_after: Duration,
}

impl Limited {
    pub(super) const fn new(retry_after: Duration) -> Self {
        Self { retry_after }
    }

    /// The soonest time at which a call may pass: exact for the first in line, else an estimate from the line's length.
    #[must_use]
    pub const fn retry_after(&self) -> Duration {
        self.retry_after
    }
}

impl Classify for Limited {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Overloaded
    }

    fn hint(&self) -> RetryHint {
        RetryHint::After(self.retry_after)
    }
}
