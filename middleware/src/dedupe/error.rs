use crate::{Classify, ErrorKind, RetryHint};

/// A request with the same key has been here. The call was not made, and is not worth a retry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("a duplicate: a request with the same key has been here")]
pub struct Duplicate;

impl Classify for Duplicate {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Rejected
    }

    fn hint(&self) -> RetryHint {
        RetryHint::Never
    }
}
