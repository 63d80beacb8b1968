use std::time::Duration;

use crate::{Classify, ErrorKind, RetryHint};

/// The breaker is open, or half-open with all its probes out. The call was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is open")]
pub struct Open {
    retry_after: Option<Duration>,
}

impl Open {
    pub(super) const fn new(retry_after: Option<Duration>) -> Self {
        Self { retry_after }
    }

    /// When it lets the next probe through; `None` while probes are out.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl Classify for Open {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }

    fn hint(&self) -> RetryHint {
        self.retry_after.map_or(RetryHint::Default, RetryHint::After)
    }
}
