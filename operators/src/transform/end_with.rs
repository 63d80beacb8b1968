//! `end_with`: items after the input.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`end_with`](Flow::end_with).
#[derive(Clone, Debug)]
pub struct EndWith<T>(Vec<T>);

impl<T: Clone> Operator<T> for EndWith<T> {
    type Out = T;
    type State = ();

    #[inline]
    fn init(&self) {}

    #[inline(always)]
    fn on_item(&self, (): &mut (), item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        out(item, at);
    }

    fn on_end(&self, (): &mut (), at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        for item in &self.0 {
            out(item.clone(), at);
        }
    }

    // A key that was forgotten would not end.
    fn vacant(&self, (): &()) -> bool {
        false
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out `items` when the input has ended.
    ///
    /// ```text
    /// in   --1--2--|
    /// end_with([8, 9])
    /// out  --1--2--89|
    /// ```
    ///
    /// Completes with its input, after `items`; an `Err` is an item like any other; an early drop loses `items`.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().end_with([8, 9]).run_now([1, 2]), [1, 2, 8, 9]);
    /// ```
    pub fn end_with(self, items: impl IntoIterator<Item = O::Out>) -> Flow<S, Then<O, EndWith<O::Out>>>
    where
        O::Out: Clone,
    {
        self.apply(EndWith(items.into_iter().collect()))
    }
}
