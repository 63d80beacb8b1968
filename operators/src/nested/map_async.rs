//! `map_async`: a future for each item, several at once.

use std::{
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use pin_project_lite::pin_project;

use super::BUDGET;
use crate::{
    BuildError, Flow, Operator,
    build_error::{built, count},
    flow,
};

/// Futures at work, and the order in which they come out.
trait Working: Stream + Default + Unpin {
    type Future;
    fn len(&self) -> usize;
    fn push(&mut self, future: Self::Future);
}

impl<Fut: Future> Working for FuturesOrdered<Fut> {
    type Future = Fut;

    fn len(&self) -> usize {
        self.len()
    }

    fn push(&mut self, future: Fut) {
        self.push_back(future);
    }
}

impl<Fut: Future> Working for FuturesUnordered<Fut> {
    type Future = Fut;

    fn len(&self) -> usize {
        self.len()
    }

    fn push(&mut self, future: Fut) {
        Self::push(self, future);
    }
}

fn poll_working<S: Stream, W: Working>(
    mut outer: Pin<&mut S>,
    outer_ended: &mut bool,
    working: &mut W,
    limit: NonZeroUsize,
    make: &mut impl FnMut(S::Item) -> W::Future,
    cx: &mut Context<'_>,
) -> Poll<Option<W::Item>> {
    let mut budget = BUDGET;
    while !*outer_ended && working.len() < limit.get() {
        if budget == 0 {
            cx.waker().wake_by_ref();
            break;
        }
        budget -= 1;
        match outer.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => working.push(make(item)),
            Poll::Ready(None) => *outer_ended = true,
            Poll::Pending => break,
        }
    }
    match Pin::new(working).poll_next(cx) {
        Poll::Ready(None) if !*outer_ended => Poll::Pending,
        item => item,
    }
}

macro_rules! map_async {
    ($(#[$doc:meta])* $Name:ident $Working:ident $name:literal) => {
        pin_project! {
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $Name<S, Fut: Future, F> {
                #[pin]
                outer: S,
                outer_ended: bool,
                working: $Working<Fut>,
                limit: NonZeroUsize,
                make: F,
            }
        }

        impl<S: Stream, Fut: Future, F: FnMut(S::Item) -> Fut> $Name<S, Fut, F> {
            /// Up to `limit` futures at once.
            ///
            /// # Errors
            /// [`BuildError::ZeroCount`] where `limit` is zero.
            pub fn new(outer: S, limit: usize, make: F) -> Result<Self, BuildError> {
                let limit = count($name, "limit", limit)?;
                Ok(Self { outer, outer_ended: false, working: $Working::new(), limit, make })
            }
        }

        impl<S: Stream, Fut: Future, F: FnMut(S::Item) -> Fut> Stream for $Name<S, Fut, F> {
            type Item = Fut::Output;

            fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Fut::Output>> {
                let this = self.project();
                poll_working(this.outer, this.outer_ended, this.working, *this.limit, this.make, cx)
            }
        }
    };
}

map_async!(
    /// The stream of [`map_async`](Flow::map_async).
    MapAsync FuturesOrdered "map_async"
);
map_async!(
    /// The stream of [`map_async_unordered`](Flow::map_async_unordered).
    MapAsyncUnordered FuturesUnordered "map_async_unordered"
);

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Makes a future of each item, runs up to `limit` of them at once, and gives out their results in the order of the
    /// items.
    ///
    /// ```text
    /// in   --a--b--c----------|
    /// a      ------1
    /// b         --2
    /// map_async(2)
    /// out  --------12---3-----|
    /// ```
    ///
    /// Completes when its input has ended and every future is done. An `Err` is an item. An early drop drops the futures
    /// that run. Nothing is lost: while `limit` results are under way or wait for one before them, the input is not
    /// polled. The futures run inside this flow's poll, not in tasks of their own.
    ///
    /// # Panics
    /// Where `limit` is zero; [`MapAsync::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::flow;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let slow = |x: u64| async move {
    ///     tokio::time::sleep(Duration::from_millis(x)).await;
    ///     x
    /// };
    /// let results = flow(futures::stream::iter([30, 10, 20])).map_async(3, slow);
    /// assert_eq!(results.collect::<Vec<_>>().await, [30, 10, 20]);
    /// # }
    /// ```
    #[track_caller]
    pub fn map_async<Fut, F>(self, limit: usize, f: F) -> Flow<MapAsync<Self, Fut, F>>
    where
        Fut: Future,
        F: FnMut(O::Out) -> Fut,
    {
        flow(built(MapAsync::new(self, limit, f)))
    }

    /// Like [`map_async`](Flow::map_async), with the results in the order in which the futures are done.
    ///
    /// ```text
    /// in   --a--b--c----------|
    /// a      ------1
    /// b         --2
    /// map_async_unordered(2)
    /// out  ------2-1----3-----|
    /// ```
    ///
    /// # Panics
    /// Where `limit` is zero; [`MapAsyncUnordered::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::flow;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let slow = |x: u64| async move {
    ///     tokio::time::sleep(Duration::from_millis(x)).await;
    ///     x
    /// };
    /// let results = flow(futures::stream::iter([30, 10, 20])).map_async_unordered(3, slow);
    /// assert_eq!(results.collect::<Vec<_>>().await, [10, 20, 30]);
    /// # }
    /// ```
    #[track_caller]
    pub fn map_async_unordered<Fut, F>(self, limit: usize, f: F) -> Flow<MapAsyncUnordered<Self, Fut, F>>
    where
        Fut: Future,
        F: FnMut(O::Out) -> Fut,
    {
        flow(built(MapAsyncUnordered::new(self, limit, f)))
    }

    /// One future at a time: [`map_async`](Flow::map_async) with a limit of 1, under the name that `futures` gives it.
    ///
    /// ```
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let next = flow(futures::stream::iter([1, 2])).then(|x| async move { x + 1 });
    /// assert_eq!(next.collect::<Vec<_>>().await, [2, 3]);
    /// # });
    /// ```
    pub fn then<Fut, F>(self, f: F) -> Flow<MapAsync<Self, Fut, F>>
    where
        Fut: Future,
        F: FnMut(O::Out) -> Fut,
    {
        self.map_async(1, f)
    }
}
