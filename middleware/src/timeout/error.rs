use std::time::Duration;

use crate::{Classify, ErrorKind};

/// The time was up; the call has been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {limit:?}")]
pub struct Elapsed {
    limit: Duration,
}

impl Elapsed {
    pub(crate) const fn new(limit: Duration) -> Self {
        Self { limit }
    }

    /// The limit that was reached.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }
}

impl Classify for Elapsed {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Timeout
    }
}
