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
#[derive(Debug)]
pub struct Deadline<S> {
    inner: S,
    limit: Duration,
    ready: bool,
}

impl<S: Clone> Clone for Deadline<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.limit)
    }
}

impl<S> Deadline<S> {
    pub(super) const fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit, ready: false }
    }
}

impl<S, R> Service<R> for Deadline<S>
where
    S: Service<R, Error: From<Elapsed>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DeadlineFuture<S, R>;

    /// Ready, unless the inner service has failed for good: where it is not ready, the future waits for it.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if !self.ready {
            match self.inner.poll_ready(cx) {
                Poll::Ready(ready) => self.ready = ready.map(|()| true)?,
                // The one that was polled stands in a queue; a fresh clone will, in the future.
                Poll::Pending => self.inner = self.inner.clone(),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        if std::mem::take(&mut self.ready) {
            DeadlineFuture::begun(self.inner.call(request), self.limit)
        } else {
            DeadlineFuture::waiting(self.inner.clone(), request, self.limit)
        }
    }
}
