use tokio::sync::mpsc;

use crate::{Classify, ErrorKind};

/// Where requests go that failed for good. It must not wait: a full sink hands the request back.
///
/// Any `Fn(R, &E) -> Result<(), R>` is one.
pub trait DeadLetters<R, E>: Send + Sync {
    /// Keeps `request`, which failed with `error`.
    ///
    /// # Errors
    /// The request, if it cannot be kept.
    fn bury(&self, request: R, error: &E) -> Result<(), R>;
}

impl<R, E, F> DeadLetters<R, E> for F
where
    F: Fn(R, &E) -> Result<(), R> + Send + Sync,
{
    fn bury(&self, request: R, error: &E) -> Result<(), R> {
        self(request, error)
    }
}

/// A request and why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Letter<R> {
    /// The request as it came to the layer.
    pub request: R,
    /// The kind of the last error.
    pub kind: ErrorKind,
    /// The last error and its sources, outermost first.
    pub errors: Vec<String>,
}

impl<R: Send, E: Classify + std::error::Error> DeadLetters<R, E> for mpsc::Sender<Letter<R>> {
    fn bury(&self, request: R, error: &E) -> Result<(), R> {
        let sources = std::iter::successors(error.source(), |error| error.source());
        let errors = std::iter::once(error.to_string()).chain(sources.map(ToString::to_string)).collect();
        let letter = Letter { request, kind: error.kind(), errors };
        self.try_send(letter).map_err(|refused| refused.into_inner().request)
    }
}
