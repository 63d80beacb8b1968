use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::layer::Limiter;
use super::service::Measured;
use crate::clock::now;
use crate::concurrency::Turn;
use crate::future::{Ending, Gated};
use crate::{Classify, KindSet};

/// The future of [`Adaptive`](super::Adaptive): the turn, then readiness, then the call.
pub type AdaptiveFuture<S, R> = Gated<Turn<()>, Measured<S>, R>;

pin_project! {
    /// A call that is timed.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct MeasuredFuture<F> {
        #[pin]
        call: Ending<F>,
        started: Instant,
        limiter: Arc<Limiter>,
        kinds: KindSet,
    }
}

impl<F> MeasuredFuture<F> {
    pub(super) fn new(future: F, limiter: Arc<Limiter>, kinds: KindSet) -> Self {
        Self { call: Ending::running(future), started: now(), limiter, kinds }
    }
}

impl<F, T, E> Future for MeasuredFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Classify,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let output = ready!(this.call.poll(cx));
        let overload = output.as_ref().is_err_and(|error| this.kinds.contains(error.kind()));
        this.limiter.learn(now() - *this.started, overload);
        Poll::Ready(output)
    }
}
