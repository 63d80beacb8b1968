use std::task::{Context, Poll};
use std::time::Duration;

use tower_service::Service;

use super::error::Elapsed;
use super::future::{DeadlineFuture, TimeoutFuture};

/// The service of [`TimeoutLayer`](super::TimeoutLayer).
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    limit: Duration,
}

impl<S> Timeout<S> {
    pub(super) const fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

impl<S, R> Service<R> for Timeout<S>
where
    S: Service<R, Error: From<Elapsed>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        TimeoutFuture::new(self.inner.call(request), self.limit)
    }
}

/// The service of [`DeadlineLayer`](super::DeadlineLayer).
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    limit: Duration,
}

impl<S> Deadline<S> {
    pub(super) const fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

impl<S, R> Service<R> for Deadline<S>
where
    S: Service<R, Error: From<Elapsed>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DeadlineFuture<S, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        DeadlineFuture::new(self.inner.clone(), request, self.limit)
    }
}
