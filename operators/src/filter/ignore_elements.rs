//! `ignore_elements`: nothing but the end.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`ignore_elements`](Flow::ignore_elements).
#[derive(Clone, Copy, Debug)]
pub struct IgnoreElements;

impl<T> Operator<T> for IgnoreElements {
    type Out = T;
    type State = ();

    #[inline]
    fn init(&self) {}

    #[inline]
    fn on_item(&self, (): &mut (), _: T, _: Timestamp, _: &mut impl FnMut(T, Timestamp)) {}
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Drops every item; only the end comes through.
    ///
    /// ```text
    /// in   --1--2--3--|
    /// ignore_elements
    /// out  -----------|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other, so it is dropped too; an early drop loses nothing.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().ignore_elements().run_now([1, 2, 3]), []);
    /// ```
    pub fn ignore_elements(self) -> Flow<S, Then<O, IgnoreElements>> {
        self.apply(IgnoreElements)
    }
}
