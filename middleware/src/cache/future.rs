use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The future of [`Cache`](super::Cache).
#[must_use = "futures do nothing unless polled"]
pub struct CacheFuture<T, E> {
    state: State<T, E>,
}

type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

enum State<T, E> {
    Answered(Option<T>),
    Asking(Boxed<T, E>),
}

impl<T, E> CacheFuture<T, E> {
    pub(super) const fn answered(answer: T) -> Self {
        Self { state: State::Answered(Some(answer)) }
    }

    pub(super) fn asking(future: impl Future<Output = Result<T, E>> + Send + 'static) -> Self {
        Self { state: State::Asking(Box::pin(future)) }
    }
}

// The answer is only ever moved out, never pinned.
impl<T, E> Unpin for CacheFuture<T, E> {}

impl<T, E> Future for CacheFuture<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Answered(answer) => Poll::Ready(Ok(answer.take().expect("polled after the end"))),
            State::Asking(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T, E> fmt::Debug for CacheFuture<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hit = matches!(self.state, State::Answered(_));
        f.debug_struct("CacheFuture").field("hit", &hit).finish_non_exhaustive()
    }
}
