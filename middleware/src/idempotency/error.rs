use std::time::Duration;

use crate::{BoxError, Classify, ErrorKind, RetryHint};

/// The call was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdempotencyError {
    /// A call with the same key is running.
    #[error("a call with the same key is running")]
    InProgress,
    /// The store of answers failed.
    #[error("the store of answers failed")]
    Store(#[source] BoxError),
}

impl Classify for IdempotencyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::InProgress => ErrorKind::Overloaded,
            Self::Store(_) => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> RetryHint {
        match self {
            Self::InProgress => RetryHint::After(Duration::from_secs(1)),
            Self::Store(_) => RetryHint::Default,
        }
    }
}
