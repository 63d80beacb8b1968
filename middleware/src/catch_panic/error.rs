use std::any::Any;

use crate::{Classify, ErrorKind};

/// The code that was called panicked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {message}")]
pub struct Panicked {
    message: Box<str>,
}

impl Panicked {
    pub(super) fn new(payload: &(dyn Any + Send)) -> Self {
        let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(message), _) => message,
            (_, Some(message)) => message.as_str(),
            (None, None) => "a payload that is not text",
        };
        Self { message: message.into() }
    }

    /// What was said to `panic!`.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl Classify for Panicked {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Panicked
    }
}
