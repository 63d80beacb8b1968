//! `switch_map`: the stream of the latest item.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::BUDGET;
use crate::{Flow, Operator, flow};

pin_project! {
    /// The stream of [`switch_map`](Flow::switch_map).
    #[derive(Debug)]
    pub struct SwitchMap<S, B, F> {
        #[pin]
        outer: S,
        #[pin]
        inner: Option<B>,
        outer_ended: bool,
        make: F,
    }
}

impl<S: Stream, B: Stream, F: FnMut(S::Item) -> B> Stream for SwitchMap<S, B, F> {
    type Item = B::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<B::Item>> {
        let mut this = self.project();
        // The outer stream first, until it waits: an inner one that is out of date must not speak.
        let mut budget = BUDGET;
        while !*this.outer_ended {
            if budget == 0 {
                cx.waker().wake_by_ref();
                break;
            }
            budget -= 1;
            match this.outer.as_mut().poll_next(cx) {
                Poll::Ready(Some(item)) => {
                    this.inner.set(None);
                    this.inner.set(Some((this.make)(item)));
                }
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
    /// Makes a stream of each item and gives out what the latest of them gives; a new item drops the stream of the one
    /// before it.
    ///
    /// ```text
    /// in   --a------b---------|
    /// a      --1--2--3--|
    /// b             --7--8--|
    /// switch_map
    /// out  ----1--2---7--8--|
    /// ```
    ///
    /// Completes when its input and the latest stream have. An `Err` is an item. An early drop drops the stream that
    /// runs. What a dropped stream had not given is lost: that is its purpose. At the same moment the input is first.
    ///
    /// ```
    /// use futures::stream::iter;
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let latest = flow(iter([1, 2])).switch_map(|x| iter([x * 10, x * 10 + 1]));
    /// assert_eq!(latest.collect::<Vec<_>>().await, [20, 21]);
    /// # });
    /// ```
    pub fn switch_map<B: Stream, F: FnMut(O::Out) -> B>(self, f: F) -> Flow<SwitchMap<Self, B, F>> {
        flow(SwitchMap { outer: self, inner: None, outer_ended: false, make: f })
    }
}
