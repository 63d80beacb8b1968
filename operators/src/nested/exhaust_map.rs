//! `exhaust_map`: the stream of an item, and nothing new while it runs.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::BUDGET;
use crate::{Flow, Operator, flow};

pin_project! {
    /// The stream of [`exhaust_map`](Flow::exhaust_map).
    #[derive(Debug)]
    pub struct ExhaustMap<S, B, F> {
        #[pin]
        outer: S,
        #[pin]
        inner: Option<B>,
        outer_ended: bool,
        make: F,
    }
}

impl<S: Stream, B: Stream, F: FnMut(S::Item) -> B> Stream for ExhaustMap<S, B, F> {
    type Item = B::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<B::Item>> {
        let mut this = self.project();
        let mut budget = BUDGET;
        while !*this.outer_ended {
            if budget == 0 {
                cx.waker().wake_by_ref();
                break;
            }
            budget -= 1;
            match this.outer.as_mut().poll_next(cx) {
                Poll::Ready(Some(item)) if this.inner.is_none() => this.inner.set(Some((this.make)(item))),
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => *this.outer_ended = true,
                Poll::Pending => break,
            }
        }
        if let Some(inner) = this.inner.as_mut().as_pin_mut() {
            match inner.poll_next(cx) {
                Poll::Ready(None) => this.inner.set(None),
                item => return item,
            }
        }
        if *this.outer_ended { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Makes a stream of an item and gives out what it gives; items that come while it runs are dropped.
    ///
    /// ```text
    /// in   --a------b---c-----|
    /// a      --1--2--3--|
    /// c                 --7--|
    /// exhaust_map
    /// out  ----1--2--3----7--|
    /// ```
    ///
    /// Completes when its input and the stream that runs have. An `Err` is an item. An early drop drops the stream that
    /// runs. Items that come while one runs are lost: that is its purpose. At the same moment the input is first.
    ///
    /// ```
    /// use futures::stream::iter;
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let busy = flow(iter([1, 2])).exhaust_map(|x| iter([x * 10, x * 10 + 1]));
    /// assert_eq!(busy.collect::<Vec<_>>().await, [10, 11]);
    /// # });
    /// ```
    pub fn exhaust_map<B: Stream, F: FnMut(O::Out) -> B>(self, f: F) -> Flow<ExhaustMap<Self, B, F>> {
        flow(ExhaustMap { outer: self, inner: None, outer_ended: false, make: f })
    }
}
