//! `default_if_empty`: an item where there would be none.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`default_if_empty`](Flow::default_if_empty).
#[derive(Clone, Copy, Debug)]
pub struct DefaultIfEmpty<T>(T);

impl<T: Clone> Operator<T> for DefaultIfEmpty<T> {
    type Out = T;
    /// Whether an item was seen.
    type State = bool;

    #[inline]
    fn init(&self) -> bool {
        false
    }

    #[inline]
    fn on_item(&self, seen: &mut bool, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        *seen = true;
        out(item, at);
    }

    fn on_end(&self, seen: &mut bool, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if !*seen {
            out(self.0.clone(), at);
        }
    }

    // A key that was forgotten would not answer.
    fn vacant(&self, _: &bool) -> bool {
        false
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out `item` if the input ends without one.
    ///
    /// ```text
    /// in   -----------|
    /// default_if_empty(7)
    /// out  -----------7|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; an early drop loses nothing.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().default_if_empty(7).run_now([]), [7]);
    /// assert_eq!(chain().default_if_empty(7).run_now([1]), [1]);
    /// ```
    pub fn default_if_empty(self, item: O::Out) -> Flow<S, Then<O, DefaultIfEmpty<O::Out>>>
    where
        O::Out: Clone,
    {
        self.apply(DefaultIfEmpty(item))
    }
}
