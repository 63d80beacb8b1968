//! `start_with`: items ahead of the input.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`start_with`](Flow::start_with).
#[derive(Clone, Debug)]
pub struct StartWith<T>(Vec<T>);

impl<T: Clone> Operator<T> for StartWith<T> {
    type Out = T;
    type State = ();

    #[inline]
    fn init(&self) {}

    fn on_start(&self, (): &mut (), at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        for item in &self.0 {
            out(item.clone(), at);
        }
    }

    #[inline(always)]
    fn on_item(&self, (): &mut (), item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        out(item, at);
    }

    // A key that was forgotten would start again.
    fn vacant(&self, (): &()) -> bool {
        false
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out `items` first, at once.
    ///
    /// ```text
    /// in   ----1--2--|
    /// start_with([8, 9])
    /// out  89--1--2--|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; an early drop loses nothing.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().start_with([8, 9]).run_now([1, 2]), [8, 9, 1, 2]);
    /// ```
    pub fn start_with(self, items: impl IntoIterator<Item = O::Out>) -> Flow<S, Then<O, StartWith<O::Out>>>
    where
        O::Out: Clone,
    {
        self.apply(StartWith(items.into_iter().collect()))
    }
}
