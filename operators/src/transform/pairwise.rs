//! `pairwise`: each item with the one before it.

use crate::{Flow, Head, Operator, Then, Timestamp, durable::Held};

/// The operator of [`pairwise`](Flow::pairwise).
#[derive(Clone, Copy, Debug)]
pub struct Pairwise;

impl<T: Clone> Operator<T> for Pairwise {
    type Out = (T, T);
    type State = Held<T>;

    #[inline]
    fn init(&self) -> Held<T> {
        Held::default()
    }

    #[inline]
    fn on_item(&self, state: &mut Held<T>, item: T, at: Timestamp, out: &mut impl FnMut((T, T), Timestamp)) {
        if let Some(before) = state.replace(item.clone()) {
            out((before, item), at);
        }
    }

    fn vacant(&self, state: &Held<T>) -> bool {
        state.is_none()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives each item together with the one before it; the first item alone gives nothing.
    ///
    /// ```text
    /// in   --1--2------3------|
    /// pairwise
    /// out  -----(1,2)--(2,3)--|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; an early drop loses the item kept for the next pair.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().pairwise().run_now([1, 2, 3]), [(1, 2), (2, 3)]);
    /// ```
    pub fn pairwise(self) -> Flow<S, Then<O, Pairwise>>
    where
        O::Out: Clone,
    {
        self.apply(Pairwise)
    }
}
