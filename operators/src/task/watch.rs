//! `watch`: a signal that cancels.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::{Flow, Operator, flow};

/// The signal of [`watch`](Flow::watch) came before the input's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

pin_project! {
    /// The stream of [`watch`](Flow::watch).
    #[derive(Debug)]
    pub struct Watch<S, C> {
        #[pin]
        source: Option<S>,
        #[pin]
        signal: C,
    }
}

impl<S: Stream, C: Future> Stream for Watch<S, C> {
    type Item = Result<S::Item, Cancelled>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let Some(source) = this.source.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        if this.signal.poll(cx).is_ready() {
            this.source.set(None);
            return Poll::Ready(Some(Err(Cancelled)));
        }
        let item = source.poll_next(cx);
        if let Poll::Ready(None) = item {
            this.source.set(None);
        }
        item.map(|item| item.map(Ok))
    }
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Watches for cancellation: items pass in `Ok` until `signal` is done; then `Err(`[`Cancelled`]`)` comes out, the
    /// source is dropped, and the flow completes. So a consumer can tell an end from a stop;
    /// [`take_until`](Flow::take_until) does not say.
    ///
    /// ```text
    /// in      --1--2--3--4--|
    /// signal  ---------x
    /// watch
    /// out     --1--2--3Err|
    /// ```
    ///
    /// Completes with its input or with the signal. An `Err` in the input is an item. An early drop loses nothing; the
    /// signal loses what the operators before it hold back. At the same moment the signal is first.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{flow, task::Cancelled};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let ticks = flow(futures::stream::iter(1..)).rate_limit(Duration::from_millis(10));
    /// let stopped = ticks.watch(tokio::time::sleep(Duration::from_millis(15)));
    /// assert_eq!(stopped.collect::<Vec<_>>().await, [Ok(1), Ok(2), Err(Cancelled)]);
    /// # }
    /// ```
    pub fn watch<C: Future>(self, signal: C) -> Flow<Watch<Self, C>> {
        flow(Watch { source: Some(self), signal })
    }
}
