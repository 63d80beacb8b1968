//! What a stage's chain takes: typed events, or whole envelopes.

use std::sync::Arc;

use crate::event::{DecodeError, Envelope, Event};

mod sealed {
    pub trait Sealed {}
    impl<T: super::Event> Sealed for T {}
    impl Sealed for std::sync::Arc<super::Envelope> {}
}

/// What the chain of a [`Stage`](crate::Stage) takes: a type that derives [`Event`], or `Arc<Envelope>` for events of any
/// kind with all that is known about them.
pub trait StageItem: sealed::Sealed + Sized + Send + 'static {
    /// The events that a stage takes unless it says otherwise.
    #[doc(hidden)]
    const PATTERN: &'static str;
    #[doc(hidden)]
    fn from_envelope(envelope: &Arc<Envelope>) -> Result<Self, DecodeError>;
}

impl<T: Event> StageItem for T {
    const PATTERN: &'static str = T::NAME;

    fn from_envelope(envelope: &Arc<Envelope>) -> Result<Self, DecodeError> {
        envelope.decode()
    }
}

impl StageItem for Arc<Envelope> {
    const PATTERN: &'static str = "*";

    fn from_envelope(envelope: &Self) -> Result<Self, DecodeError> {
        Ok(Self::clone(envelope))
    }
}
