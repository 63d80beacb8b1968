use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::error::Panicked;
use crate::future::{Ending, Refusable};

/// The future of [`CatchPanic`](super::CatchPanic).
pub type CatchPanicFuture<F, E> = Refusable<Catching<F>, E>;

pin_project! {
    /// A call that is dropped where it panics.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Catching<F> {
        #[pin]
        call: Ending<F>,
    }
}

impl<F> Catching<F> {
    pub(super) const fn new(future: F) -> Self {
        Self { call: Ending::running(future) }
    }
}

impl<F, T, E> Future for Catching<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<Panicked>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut call = self.project().call;
        match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(payload) => {
                // Half changed as it may be, it is dropped and never polled again.
                call.end();
                Poll::Ready(Err(Panicked::new(&*payload).into()))
            }
        }
    }
}
