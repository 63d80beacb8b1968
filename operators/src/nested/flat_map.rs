//! `flat_map`: the streams of several items at once.

use std::{
    fmt,
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::BUDGET;
use crate::{
    BuildError, Flow, Operator,
    build_error::{built, count},
    combine::ready::ReadySet,
    flow,
};

/// How many places the streams take before empty ones are looked at.
const SMALL: usize = 64;

/// Streams that run at once, in the order in which they began; each is polled only when it was woken.
struct Running<B> {
    streams: Vec<Option<Pin<Box<B>>>>,
    live: usize,
    ready: ReadySet,
}

impl<B: Stream> Running<B> {
    fn new() -> Self {
        Self { streams: Vec::new(), live: 0, ready: ReadySet::default() }
    }

    fn push(&mut self, stream: B) {
        if self.streams.len() >= SMALL && self.live < self.streams.len() / 2 {
            self.compact();
        }
        self.ready.insert(self.streams.len());
        self.streams.push(Some(Box::pin(stream)));
        self.live += 1;
    }

    /// Closes the gaps. Places change, so all wakers are made anew and all streams polled once.
    fn compact(&mut self) {
        self.streams.retain(Option::is_some);
        self.ready = ReadySet::default();
        (0..self.streams.len()).for_each(|index| self.ready.insert(index));
    }

    fn poll_one(&mut self, index: usize) -> Poll<Option<B::Item>> {
        let Some(stream) = &mut self.streams[index] else {
            self.ready.clear(index);
            return Poll::Pending;
        };
        let item = stream.as_mut().poll_next(&mut Context::from_waker(self.ready.waker(index)));
        match &item {
            Poll::Ready(Some(_)) => {}
            Poll::Ready(None) => {
                self.streams[index] = None;
                self.live -= 1;
                self.ready.clear(index);
            }
            Poll::Pending => self.ready.clear(index),
        }
        item
    }

    /// An item, or `None` where a stream ended and there is room for another.
    fn poll(&mut self, cx: &Context<'_>, burst: &mut u32) -> Poll<Option<B::Item>> {
        loop {
            while let Some(index) = self.ready.first(0) {
                let item = self.poll_one(index);
                if item.is_ready() {
                    *burst += 1;
                    if (*burst).is_multiple_of(BUDGET) && self.ready.contains(index) {
                        self.ready.defer(index);
                    }
                    return item;
                }
            }
            if !self.ready.next_round(cx) {
                return Poll::Pending;
            }
        }
    }
}

impl<B> fmt::Debug for Running<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("live", &self.live).finish_non_exhaustive()
    }
}

pin_project! {
    /// The stream of [`flat_map`](Flow::flat_map).
    #[derive(Debug)]
    pub struct FlatMap<S, B, F> {
        #[pin]
        outer: S,
        outer_ended: bool,
        inner: Running<B>,
        limit: NonZeroUsize,
        burst: u32,
        make: F,
    }
}

impl<S: Stream, B: Stream, F: FnMut(S::Item) -> B> FlatMap<S, B, F> {
    /// Up to `limit` streams at once.
    ///
    /// # Errors
    /// [`BuildError::ZeroCount`] where `limit` is zero.
    pub fn new(outer: S, limit: usize, make: F) -> Result<Self, BuildError> {
        let limit = count("flat_map", "limit", limit)?;
        Ok(Self { outer, outer_ended: false, inner: Running::new(), limit, burst: 0, make })
    }
}

impl<S: Stream, B: Stream, F: FnMut(S::Item) -> B> Stream for FlatMap<S, B, F> {
    type Item = B::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<B::Item>> {
        let mut this = self.project();
        let mut budget = BUDGET;
        loop {
            while !*this.outer_ended && this.inner.live < this.limit.get() {
                if budget == 0 {
                    cx.waker().wake_by_ref();
                    break;
                }
                budget -= 1;
                match this.outer.as_mut().poll_next(cx) {
                    Poll::Ready(Some(item)) => this.inner.push((this.make)(item)),
                    Poll::Ready(None) => *this.outer_ended = true,
                    Poll::Pending => break,
                }
            }
            match this.inner.poll(cx, this.burst) {
                Poll::Ready(Some(item)) => return Poll::Ready(Some(item)),
                Poll::Ready(None) => {}
                Poll::Pending if *this.outer_ended && this.inner.live == 0 => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Makes a stream of each item and gives out what all of them give, up to `limit` streams at once. What `futures`
    /// calls `flat_map` is [`concat_map`](Flow::concat_map).
    ///
    /// ```text
    /// in   --a--b-------------|
    /// a      --1-----2--|
    /// b         --7-----8--|
    /// flat_map(2)
    /// out  ----1--7--2--8-----|
    /// ```
    ///
    /// Completes when its input and all streams have. An `Err` is an item. An early drop drops the streams that run.
    /// Nothing is lost: while `limit` streams run, the input is not polled. `usize::MAX` is no limit.
    ///
    /// # Panics
    /// Where `limit` is zero; [`FlatMap::new`] returns an error instead.
    ///
    /// ```
    /// use futures::stream::iter;
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let all = flow(iter([1, 2, 3])).flat_map(2, |x| iter([x; 2]));
    /// assert_eq!(all.collect::<Vec<_>>().await, [1, 1, 2, 2, 3, 3]);
    /// # });
    /// ```
    #[track_caller]
    pub fn flat_map<B: Stream, F: FnMut(O::Out) -> B>(self, limit: usize, f: F) -> Flow<FlatMap<Self, B, F>> {
        flow(built(FlatMap::new(self, limit, f)))
    }
}
