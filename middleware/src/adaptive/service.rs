use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::future::{AdaptiveFuture, MeasuredFuture};
use super::layer::{Adapt, Limiter};
use crate::concurrency::QueueError;
use crate::{Classify, KindSet};

/// The service of [`AdaptiveLayer`](super::AdaptiveLayer).
#[derive(Clone, Debug)]
pub struct Adaptive<S> {
    inner: Measured<S>,
    adapt: Adapt,
}

impl<S> Adaptive<S> {
    pub(super) const fn new(inner: Measured<S>, adapt: Adapt) -> Self {
        Self { inner, adapt }
    }
}

impl<S, R> Service<R> for Adaptive<S>
where
    S: Service<R, Error: From<QueueError> + Classify> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = AdaptiveFuture<S, R>;

    /// Always ready: the wait is inside the future.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        AdaptiveFuture::new(self.inner.limiter.ask(&self.adapt), self.inner.clone(), request)
    }
}

/// A service whose calls are timed for the limit.
#[derive(Clone, Debug)]
pub struct Measured<S> {
    inner: S,
    limiter: Arc<Limiter>,
    kinds: KindSet,
}

impl<S> Measured<S> {
    pub(super) const fn new(inner: S, limiter: Arc<Limiter>, kinds: KindSet) -> Self {
        Self { inner, limiter, kinds }
    }
}

impl<S, R> Service<R> for Measured<S>
where
    S: Service<R, Error: Classify>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = MeasuredFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        MeasuredFuture::new(self.inner.call(request), Arc::clone(&self.limiter), self.kinds)
    }
}
