//! `map`: each item becomes another.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`map`](Flow::map).
#[derive(Clone, Copy, Debug)]
pub struct Map<F>(F);

impl<A, B, F: Fn(A) -> B> Operator<A> for Map<F> {
    type Out = B;
    type State = ();
    const PLAIN: bool = true;

    #[inline]
    fn init(&self) {}

    #[inline(always)]
    fn on_item(&self, (): &mut (), item: A, at: Timestamp, out: &mut impl FnMut(B, Timestamp)) {
        out((self.0)(item), at);
    }

    #[inline]
    fn select(&self, items: Vec<A>) -> Vec<B> {
        items.into_iter().map(&self.0).collect()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Turns each item into another.
    ///
    /// ```text
    /// in   --1---2---3---|
    /// map(x * 10)
    /// out  --10--20--30--|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; holds nothing back, so an early drop loses nothing.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().map(|x: u32| x * 10).run_now([1, 2, 3]), [10, 20, 30]);
    /// ```
    #[inline]
    pub fn map<B, F: Fn(O::Out) -> B>(self, f: F) -> Flow<S, Then<O, Map<F>>> {
        self.apply(Map(f))
    }
}
