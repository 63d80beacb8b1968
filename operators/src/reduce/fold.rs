//! `fold`: one state of all items.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`fold`](Flow::fold).
#[derive(Clone, Copy, Debug)]
pub struct Fold<A, F> {
    seed: A,
    step: F,
}

impl<T, A: Clone, F: Fn(&mut A, T)> Operator<T> for Fold<A, F> {
    type Out = A;
    type State = A;

    #[inline]
    fn init(&self) -> A {
        self.seed.clone()
    }

    #[inline(always)]
    fn on_item(&self, state: &mut A, item: T, _: Timestamp, _: &mut impl FnMut(A, Timestamp)) {
        (self.step)(state, item);
    }

    fn on_end(&self, state: &mut A, at: Timestamp, out: &mut impl FnMut(A, Timestamp)) {
        out(std::mem::replace(state, self.seed.clone()), at);
    }

    // A key that was forgotten would not answer.
    fn vacant(&self, _: &A) -> bool {
        false
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Folds all items into one state, which comes out when the input ends. [`scan`](Flow::scan) gives it out after
    /// each.
    ///
    /// ```text
    /// in   --1--2--3--|
    /// fold(10, +)
    /// out  -----------16|
    /// ```
    ///
    /// Completes with its input, with one item; an `Err` is an item like any other; an early drop loses the state.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().fold(10, |sum, x: u32| *sum += x).run_now([1, 2, 3]), [16]);
    /// assert_eq!(chain().fold(10, |sum, x: u32| *sum += x).run_now([]), [10]);
    /// ```
    #[inline]
    pub fn fold<A: Clone, F: Fn(&mut A, O::Out)>(self, seed: A, step: F) -> Flow<S, Then<O, Fold<A, F>>> {
        self.apply(Fold { seed, step })
    }
}
