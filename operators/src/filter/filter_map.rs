//! `filter_map`: filter and map in one.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`filter_map`](Flow::filter_map).
#[derive(Clone, Copy, Debug)]
pub struct FilterMap<F>(F);

impl<A, B, F: Fn(A) -> Option<B>> Operator<A> for FilterMap<F> {
    type Out = B;
    type State = ();
    const PLAIN: bool = true;

    #[inline]
    fn init(&self) {}

    #[inline(always)]
    fn on_item(&self, (): &mut (), item: A, at: Timestamp, out: &mut impl FnMut(B, Timestamp)) {
        if let Some(item) = (self.0)(item) {
            out(item, at);
        }
    }

    #[inline]
    fn select(&self, items: Vec<A>) -> Vec<B> {
        items.into_iter().filter_map(&self.0).collect()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Turns each item into another or into nothing.
    ///
    /// ```text
    /// in   --"1"--"x"--"3"--|
    /// filter_map(parse)
    /// out  --1---------3----|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other (here is the place to drop it); holds nothing back,
    /// so an early drop loses nothing.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().filter_map(|s: &str| s.parse::<u32>().ok()).run_now(["1", "x", "3"]), [1, 3]);
    /// ```
    #[inline]
    pub fn filter_map<B, F: Fn(O::Out) -> Option<B>>(self, f: F) -> Flow<S, Then<O, FilterMap<F>>> {
        self.apply(FilterMap(f))
    }
}
