use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

pin_project! {
    /// The future of [`Tap`](super::Tap).
    #[must_use = "futures do nothing unless polled"]
    pub struct TapFuture<F, H> {
        #[pin]
        inner: F,
        on_result: H,
    }
}

impl<F, H> TapFuture<F, H> {
    pub(super) const fn new(inner: F, on_result: H) -> Self {
        Self { inner, on_result }
    }
}

impl<F, H, T, E> Future for TapFuture<F, H>
where
    F: Future<Output = Result<T, E>>,
    H: Fn(&Result<T, E>),
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let output = ready!(this.inner.poll(cx));
        (this.on_result)(&output);
        Poll::Ready(output)
    }
}

impl<F: fmt::Debug, H> fmt::Debug for TapFuture<F, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapFuture").field("inner", &self.inner).finish_non_exhaustive()
    }
}
