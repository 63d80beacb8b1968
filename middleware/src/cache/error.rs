use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use crate::{Classify, ErrorKind, RetryHint};

/// The call that this one shared has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the call that was shared failed: {message}")]
pub struct FlightFailed {
    kind: ErrorKind,
    hint: RetryHint,
    code: Option<Arc<str>>,
    message: Arc<str>,
}

impl FlightFailed {
    pub(super) fn new(error: &(impl Classify + Display)) -> Self {
        let message = error.to_string().into();
        Self { kind: error.kind(), hint: error.hint(), code: error.code().map(Into::into), message }
    }
}

impl Classify for FlightFailed {
    fn kind(&self) -> ErrorKind {
        self.kind
    }

    fn hint(&self) -> RetryHint {
        self.hint
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        self.code.as_deref().map(Cow::Borrowed)
    }
}
