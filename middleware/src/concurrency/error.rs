use std::time::Duration;

use crate::{Classify, ErrorKind};

/// A call was not made, because its place in the queue was refused or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// As many calls as may wait were waiting already.
    #[error("{queue} calls are waiting already")]
    Full {
        /// How many calls may wait.
        queue: usize,
    },
    /// No permit came free in time.
    #[error("no permit came free within {patience:?}")]
    Timeout {
        /// How long a call may wait.
        patience: Duration,
    },
}

impl Classify for QueueError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Overloaded
    }
}
