use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Describe, Part, tell};

/// Lets a function answer in place of an error.
///
/// ```
/// use millstream_middleware::fallback::FallbackLayer;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let cached = FallbackLayer::new(|error: &str| if error == "down" { Ok(42) } else { Err(error) });
/// let service = cached.layer(service_fn(|(): ()| async { Err::<u32, _>("down") }));
/// assert_eq!(service.oneshot(()).await, Ok(42));
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct FallbackLayer<F> {
    answer: F,
}

impl<F> FallbackLayer<F> {
    /// `answer` makes of each error an answer, or an error.
    pub const fn new<T, E>(answer: F) -> Self
    where
        F: Fn(E) -> Result<T, E>,
    {
        Self { answer }
    }
}

impl<F> fmt::Debug for FallbackLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer").finish_non_exhaustive()
    }
}

impl<S, F: Clone> Layer<S> for FallbackLayer<F> {
    type Service = Fallback<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Fallback { inner, layer: self.clone() }
    }
}

impl<F> Describe for FallbackLayer<F> {
    fn describe(&self) -> Part {
        Part::new("fallback")
    }
}

/// The service of [`FallbackLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Fallback<S, F> {
    inner: S,
    layer: FallbackLayer<F>,
}

impl<S, R, F> Service<R> for Fallback<S, F>
where
    S: Service<R>,
    F: Fn(S::Error) -> Result<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = FallbackFuture<S::Future, F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        FallbackFuture { inner: self.inner.call(request), answer: self.layer.answer.clone() }
    }
}

pin_project! {
    /// The future of [`Fallback`].
    #[must_use = "futures do nothing unless polled"]
    pub struct FallbackFuture<F, A> {
        #[pin]
        inner: F,
        answer: A,
    }
}

impl<F, A, T, E> Future for FallbackFuture<F, A>
where
    F: Future<Output = Result<T, E>>,
    A: Fn(E) -> Result<T, E>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.inner.poll(cx).map(|output| output.or_else(&*this.answer))
    }
}

impl<F: fmt::Debug, A> fmt::Debug for FallbackFuture<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackFuture").field("inner", &self.inner).finish_non_exhaustive()
    }
}
