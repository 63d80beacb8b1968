use std::borrow::Cow;

use crate::{Classify, ErrorKind, RetryHint};

/// The rule said no. The call was not made, and is not worth a retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not authorised: {reason}")]
pub struct Denied {
    reason: Cow<'static, str>,
}

impl Denied {
    /// Says no, and why.
    #[must_use]
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into() }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl Classify for Denied {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Rejected
    }

    fn hint(&self) -> RetryHint {
        RetryHint::Never
    }
}
