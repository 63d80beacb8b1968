use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tower_layer::Layer;

use super::service::DeadLettering;
use super::sink::DeadLetters;
use crate::{Describe, ErrorKind, KindSet, Part, tell};

/// Buries what failed for good.
pub struct DeadLetterLayer<R, E> {
    pub(super) shared: Arc<Shared<R, E>>,
    kinds: KindSet,
}

pub(super) struct Shared<R, E> {
    sink: Box<dyn DeadLetters<R, E>>,
    buried: AtomicU64,
    lost: AtomicU64,
}

impl<R, E> Shared<R, E> {
    pub(super) fn bury(&self, request: R, error: &E) {
        let count = if self.sink.bury(request, error).is_ok() { &self.buried } else { &self.lost };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl<R, E> DeadLetterLayer<R, E> {
    /// Buries in `sink`.
    pub fn new(sink: impl DeadLetters<R, E> + 'static) -> Self {
        let shared = Shared { sink: Box::new(sink), buried: AtomicU64::new(0), lost: AtomicU64::new(0) };
        Self { shared: Arc::new(shared), kinds: ErrorKind::ALL.into() }
    }

    /// Buries after errors of these kinds alone. Default: every kind.
    #[must_use]
    pub fn kinds(mut self, kinds: impl Into<KindSet>) -> Self {
        self.kinds = kinds.into();
        self
    }

    /// How many requests were buried.
    #[must_use]
    pub fn buried(&self) -> u64 {
        self.shared.buried.load(Ordering::Relaxed)
    }

    /// How many requests the sink did not take. Their errors went back to their callers all the same.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl<R, E> Clone for DeadLetterLayer<R, E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), kinds: self.kinds }
    }
}

impl<R, E> fmt::Debug for DeadLetterLayer<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterLayer").field("buried", &self.buried()).field("lost", &self.lost()).finish()
    }
}

impl<S, R, E> Layer<S> for DeadLetterLayer<R, E> {
    type Service = DeadLettering<S, R, E>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        DeadLettering::new(inner, Arc::clone(&self.shared), self.kinds)
    }
}

impl<R, E> Describe for DeadLetterLayer<R, E> {
    fn describe(&self) -> Part {
        Part::new("dead_letter").with("kinds", self.kinds)
    }
}
