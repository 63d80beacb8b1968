use std::time::Duration;

use crate::{Classify, ErrorKind, RetryHint};

/// The schedule is closed. The call was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("closed by its schedule")]
pub struct Closed {
    opens_in: Option<Duration>,
}

impl Closed {
    pub(super) const fn new(opens_in: Option<Duration>) -> Self {
        Self { opens_in }
    }

    /// How long until it opens; `None` if it never does.
    #[must_use]
    pub const fn opens_in(&self) -> Option<Duration> {
        self.opens_in
    }
}

impl Classify for Closed {
    fn kind(&self) -> ErrorKind {
        match self.opens_in {
            Some(_) => ErrorKind::Overloaded,
            None => ErrorKind::Rejected,
        }
    }

    fn hint(&self) -> RetryHint {
        self.opens_in.map_or(RetryHint::Never, RetryHint::After)
    }
}
