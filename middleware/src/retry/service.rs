use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tower_service::Service;

use super::future::RetryFuture;
use super::layer::Rules;
use crate::clock::lock;

/// The service of [`RetryLayer`](super::RetryLayer).
pub struct Retrying<S, E> {
    inner: S,
    again: Arc<Again<S, E>>,
}

/// What a call needs to be made again. One pointer to it is all that a call which succeeds pays for.
pub(super) struct Again<S, E> {
    /// A service that nobody has polled: what is cloned from it reserves nothing and is polled ready for its attempt.
    fresh: Mutex<S>,
    rules: Arc<Rules<E>>,
}

impl<S: Clone, E> Again<S, E> {
    pub(super) fn service(&self) -> S {
        lock(&self.fresh).clone()
    }

    pub(super) fn rules(&self) -> &Rules<E> {
        &self.rules
    }
}

impl<S: Clone, E> Retrying<S, E> {
    pub(super) fn new(inner: S, rules: Arc<Rules<E>>) -> Self {
        let fresh = Mutex::new(inner.clone());
        Self { inner, again: Arc::new(Again { fresh, rules }) }
    }
}

impl<S: Clone, E> Clone for Retrying<S, E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), again: Arc::clone(&self.again) }
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
        let rules = self.again.rules();
        rules.begin();
        if !rules.may_retry() {
            return RetryFuture::new(self.inner.call(request), None);
        }
        let first = self.inner.call(request.clone());
        RetryFuture::new(first, Some((request, Arc::clone(&self.again))))
    }
}
