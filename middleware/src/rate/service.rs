use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::error::Limited;
use super::future::{RateFuture, Slot};
use super::limiter::Limiter;
use crate::key::KeyOf;

/// The service of [`RateLayer`](super::RateLayer).
pub struct RateLimited<S, K: Hash + Eq + Clone, F> {
    inner: S,
    limiter: Arc<Limiter<K>>,
    key: F,
}

impl<S, K: Hash + Eq + Clone, F> RateLimited<S, K, F> {
    pub(super) const fn new(inner: S, limiter: Arc<Limiter<K>>, key: F) -> Self {
        Self { inner, limiter, key }
    }
}

impl<S: Clone, K: Hash + Eq + Clone, F: Clone> Clone for RateLimited<S, K, F> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.limiter), self.key.clone())
    }
}

impl<S: fmt::Debug, K: Hash + Eq + Clone, F> fmt::Debug for RateLimited<S, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimited").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, R, K, F> Service<R> for RateLimited<S, K, F>
where
    S: Service<R, Error: From<Limited>> + Clone,
    K: Hash + Eq + Clone + Unpin,
    F: KeyOf<R, Key = K>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RateFuture<K, S, R>;

    /// Always ready: whose allowance counts is known with the request.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let inner = self.inner.clone();
        match Slot::ask(&self.limiter, self.key.key_of(&request)) {
            None => RateFuture::passed((), inner, request),
            Some(slot) => RateFuture::new(slot, inner, request),
        }
    }
}
