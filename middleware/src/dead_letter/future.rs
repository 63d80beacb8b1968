use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::layer::Shared;
use crate::{Classify, KindSet};

pin_project! {
    /// The future of [`DeadLettering`](super::DeadLettering).
    #[must_use = "futures do nothing unless polled"]
    pub struct DeadLetterFuture<F, R, E> {
        #[pin]
        inner: F,
        request: Option<R>,
        shared: Arc<Shared<R, E>>,
        kinds: KindSet,
    }
}

impl<F, R, E> DeadLetterFuture<F, R, E> {
    pub(super) const fn new(inner: F, request: R, shared: Arc<Shared<R, E>>, kinds: KindSet) -> Self {
        Self { inner, request: Some(request), shared, kinds }
    }
}

impl<F, R, T, E> Future for DeadLetterFuture<F, R, E>
where
    F: Future<Output = Result<T, E>>,
    E: Classify,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let output = ready!(this.inner.poll(cx));
        if let Err(error) = &output
            && this.kinds.contains(error.kind())
            && let Some(request) = this.request.take()
        {
            this.shared.bury(request, error);
        }
        Poll::Ready(output)
    }
}

impl<F: fmt::Debug, R, E> fmt::Debug for DeadLetterFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterFuture").field("inner", &self.inner).finish_non_exhaustive()
    }
}
