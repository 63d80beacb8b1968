//! `concat_map`: the streams of all items, one after another.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::BUDGET;
use crate::{Flow, Operator, flow};

pin_project! {
    /// The stream of [`concat_map`](Flow::concat_map).
    #[derive(Debug)]
    pub struct ConcatMap<S, B, F> {
        #[pin]
        outer: S,
        #[pin]
        inner: Option<B>,
        make: F,
    }
}

impl<S: Stream, B: Stream, F: FnMut(S::Item) -> B> Stream for ConcatMap<S, B, F> {
    type Item = B::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<B::Item>> {
        let mut this = self.project();
        for _ in 0..BUDGET {
            if let Some(inner) = this.inner.as_mut().as_pin_mut() {
                match ready!(inner.poll_next(cx)) {
                    Some(item) => return Poll::Ready(Some(item)),
                    None => this.inner.set(None),
                }
            }
            match ready!(this.outer.as_mut().poll_next(cx)) {
                Some(item) => this.inner.set(Some((this.make)(item))),
                None => return Poll::Ready(None),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Makes a stream of each item and gives out all of the first, then all of the second, and so on. What `futures`
    /// calls `flat_map` is this.
    ///
    /// ```text
    /// in   --a--b-------------|
    /// a      --1--2--|
    /// b              --7--8--|
    /// concat_map
    /// out  ----1--2----7--8--|
    /// ```
    ///
    /// Completes when its input and the last stream have. An `Err` is an item. An early drop drops the stream that runs.
    /// Nothing is lost: the input is not polled while a stream runs.
    ///
    /// ```
    /// use futures::stream::iter;
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let all = flow(iter([1, 2])).concat_map(|x| iter([x * 10, x * 10 + 1]));
    /// assert_eq!(all.collect::<Vec<_>>().await, [10, 11, 20, 21]);
    /// # });
    /// ```
    pub fn concat_map<B: Stream, F: FnMut(O::Out) -> B>(self, f: F) -> Flow<ConcatMap<Self, B, F>> {
        flow(ConcatMap { outer: self, inner: None, make: f })
    }
}
