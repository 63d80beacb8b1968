use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tower_service::Service;

use super::error::Duplicate;
use super::future::{DedupeFuture, Mark, Remembered};
use super::layer::Seen;
use crate::future::Refusable;

/// The service of [`DedupeLayer`](super::DedupeLayer).
pub struct Dedupe<S, K, F> {
    inner: S,
    seen: Arc<Seen<K>>,
    key: F,
}

impl<S, K, F> Dedupe<S, K, F> {
    pub(super) const fn new(inner: S, seen: Arc<Seen<K>>, key: F) -> Self {
        Self { inner, seen, key }
    }
}

impl<S: Clone, K, F: Clone> Clone for Dedupe<S, K, F> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.seen), self.key.clone())
    }
}

impl<S: fmt::Debug, K, F> fmt::Debug for Dedupe<S, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedupe").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Numbers the calls, over all layers: a key is forgotten by the call that brought it and by no other.
static CALLS: AtomicU64 = AtomicU64::new(0);

impl<S, R, K, F> Service<R> for Dedupe<S, K, F>
where
    S: Service<R, Error: From<Duplicate>>,
    K: Hash + Eq + Clone,
    F: Fn(&R) -> K,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DedupeFuture<K, S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let key = (self.key)(&request);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        if !self.seen.first(&key, call) {
            return Refusable::refused(Duplicate);
        }
        let mark = Mark::new(&self.seen, key, call);
        Refusable::running(Remembered::new(self.inner.call(request), mark))
    }
}
