//! `inspect`: looks at each item and passes it on.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`inspect`](Flow::inspect).
#[derive(Clone, Copy, Debug)]
pub struct Inspect<F>(F);

impl<T, F: Fn(&T)> Operator<T> for Inspect<F> {
    type Out = T;
    type State = ();
    const PLAIN: bool = true;

    #[inline]
    fn init(&self) {}

    #[inline(always)]
    fn on_item(&self, (): &mut (), item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        (self.0)(&item);
        out(item, at);
    }

    #[inline]
    fn select(&self, items: Vec<T>) -> Vec<T> {
        items.iter().for_each(&self.0);
        items
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Calls `f` with each item on its way, to log or to count.
    ///
    /// ```text
    /// in   --1--2--3--|
    /// inspect(log)
    /// out  --1--2--3--|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; holds nothing back, so an early drop loses nothing.
    /// `f` sees only what is polled for.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use millstream_operators::chain;
    ///
    /// let seen = Cell::new(0);
    /// assert_eq!(chain().inspect(|x| seen.set(seen.get() + x)).run_now([1, 2, 3]), [1, 2, 3]);
    /// assert_eq!(seen.get(), 6);
    /// ```
    #[inline]
    pub fn inspect<F: Fn(&O::Out)>(self, f: F) -> Flow<S, Then<O, Inspect<F>>> {
        self.apply(Inspect(f))
    }
}
