//! The end of a flow: what a consumer calls.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
};

use futures_core::Stream;
use futures_util::{StreamExt, stream::Peekable};

use super::Flow;
use crate::Operator;

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// The next item, or `None` when the flow has completed. Dropping the future loses nothing.
    ///
    /// A flow on a source that is not `Unpin` is pinned first: `std::pin::pin!(flow)`, or [`boxed`](Flow::boxed).
    pub async fn next(&mut self) -> Option<O::Out>
    where
        Self: Unpin,
    {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Hands every item to `each` until the flow completes; faster than a loop over [`next`](Flow::next).
    ///
    /// ```
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let mut sum = 0;
    /// flow(futures::stream::iter(1..=4)).filter(|x| x % 2 == 0).for_each(|x| sum += x).await;
    /// assert_eq!(sum, 6);
    /// # });
    /// ```
    pub async fn for_each(self, mut each: impl FnMut(O::Out)) {
        let mut this = pin!(self);
        poll_fn(|cx| this.as_mut().poll_each(cx, &mut each)).await;
    }

    /// Gathers every item until the flow completes. [`to_vec`](Flow::to_vec) is the same as an operator.
    ///
    /// ```
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// assert_eq!(flow(futures::stream::iter(["a", "b"])).collect::<String>().await, "ab");
    /// # });
    /// ```
    pub async fn collect<C: Default + Extend<O::Out>>(self) -> C {
        let mut all = C::default();
        self.for_each(|item| all.extend([item])).await;
        all
    }

    /// Lets a consumer look at the next item before it takes it. What comes back is `futures`' own type, no flow;
    /// [`flow`](crate::flow) makes it one again.
    ///
    /// ```
    /// use millstream_operators::flow;
    /// use std::pin::Pin;
    ///
    /// # futures::executor::block_on(async {
    /// let mut ahead = flow(futures::stream::iter([1, 2])).peekable();
    /// assert_eq!(Pin::new(&mut ahead).peek().await, Some(&1));
    /// # });
    /// ```
    pub fn peekable(self) -> Peekable<Self> {
        StreamExt::peekable(self)
    }

    /// Returns the flow: a flow that has completed says so again when it is polled again.
    pub fn fuse(self) -> Self {
        self
    }
}
