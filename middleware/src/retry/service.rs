use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::future::RetryFuture;
use super::layer::Rules;

/// The service of [`RetryLayer`](super::RetryLayer).
pub struct Retrying<S, E> {
    inner: S,
    rules: Arc<Rules<E>>,
}

impl<S, E> Retrying<S, E> {
    pub(super) const fn new(inner: S, rules: Arc<Rules<E>>) -> Self {
        Self { inner, rules }
    }
}

impl<S: Clone, E> Clone for Retrying<S, E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), rules: Arc::clone(&self.rules) }
    }
}

impl<S: fmt::Debug, E> fmt::Debug for Retrying<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, R> Service<R> for Retrying<S, S::Error>
where
    S: Service<R> + Clone,
    R: Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RetryFuture<S, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.rules.begin();
        if !self.rules.may_retry() {
            return RetryFuture::once(self.inner.call(request), Arc::clone(&self.rules));
        }
        // The service that was polled ready makes the first attempt, here; the clone is polled ready for the next.
        let first = self.inner.call(request.clone());
        RetryFuture::new(first, self.inner.clone(), request, Arc::clone(&self.rules))
    }
}
