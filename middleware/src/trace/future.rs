use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tracing::Span;

use crate::Classify;
use crate::future::Ending;

pin_project! {
    /// The future of [`Trace`](super::Trace).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct TraceFuture<F> {
        #[pin]
        call: Ending<F>,
        open: Open,
    }
}

/// A span whose outcome is recorded once.
#[derive(Debug)]
struct Open {
    span: Span,
    ended: bool,
}

impl Open {
    fn end(&mut self, outcome: &str) {
        self.ended = true;
        self.span.record("outcome", outcome);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.ended {
            self.end("dropped");
        }
    }
}

impl<F> TraceFuture<F> {
    pub(super) const fn new(future: F, span: Span) -> Self {
        Self { call: Ending::running(future), open: Open { span, ended: false } }
    }
}

impl<F, T, E> Future for TraceFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Classify + Display,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (call, open) = (this.call, this.open);
        let output = ready!(open.span.in_scope(|| call.poll(cx)));
        match &output {
            Ok(_) => open.end("ok"),
            Err(error) => {
                let kind = error.kind().name();
                tracing::warn!(target: "millstream", parent: &open.span, kind, %error, "call failed");
                open.end(kind);
            }
        }
        Poll::Ready(output)
    }
}
