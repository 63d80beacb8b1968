use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::future::{Ending, Once};
use crate::{Classify, Describe, ErrorKind, KindSet, Part, tell};

/// Lets another service answer in place of an error. The request is cloned for it at each call.
#[derive(Clone, Copy, Debug)]
pub struct FallbackServiceLayer<B> {
    other: B,
    kinds: KindSet,
}

impl<B> FallbackServiceLayer<B> {
    /// `other` answers whatever the inner service fails at.
    pub fn new(other: B) -> Self {
        Self { other, kinds: ErrorKind::ALL.into() }
    }

    /// `other` is asked after errors of these kinds alone. Default: every kind.
    #[must_use]
    pub fn kinds(mut self, kinds: impl Into<KindSet>) -> Self {
        self.kinds = kinds.into();
        self
    }
}

impl<S, B: Clone> Layer<S> for FallbackServiceLayer<B> {
    type Service = FallbackService<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        FallbackService { inner, other: self.other.clone(), kinds: self.kinds }
    }
}

impl<B> Describe for FallbackServiceLayer<B> {
    fn describe(&self) -> Part {
        Part::new("fallback_service").with("kinds", self.kinds)
    }
}

/// The service of [`FallbackServiceLayer`].
#[derive(Clone, Copy, Debug)]
pub struct FallbackService<S, B> {
    inner: S,
    other: B,
    kinds: KindSet,
}

impl<S, B, R> Service<R> for FallbackService<S, B>
where
    S: Service<R, Error: Classify>,
    B: Service<R, Response = S::Response, Error = S::Error> + Clone,
    R: Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = FallbackServiceFuture<S::Future, B, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let other = Once::new(self.other.clone(), request.clone());
        FallbackServiceFuture {
            first: Ending::running(self.inner.call(request)),
            other,
            kinds: self.kinds,
            failed: false,
        }
    }
}

pin_project! {
    /// The future of [`FallbackService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct FallbackServiceFuture<F, B, R>
    where
        B: Service<R>,
    {
        #[pin]
        first: Ending<F>,
        #[pin]
        other: Once<B, R>,
        kinds: KindSet,
        failed: bool,
    }
}

impl<F, B, R> Future for FallbackServiceFuture<F, B, R>
where
    F: Future<Output = Result<B::Response, B::Error>>,
    B: Service<R, Error: Classify>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if !*this.failed {
            match ready!(this.first.as_mut().poll(cx)) {
                Err(error) if this.kinds.contains(error.kind()) => *this.failed = true,
                done => {
                    this.other.end();
                    return Poll::Ready(done);
                }
            }
        }
        this.other.poll(cx)
    }
}

impl<F, B, R> fmt::Debug for FallbackServiceFuture<F, B, R>
where
    B: Service<R>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackServiceFuture").field("failed", &self.failed).finish_non_exhaustive()
    }
}
