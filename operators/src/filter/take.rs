//! `take`: the first n items.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`take`](Flow::take).
#[derive(Clone, Copy, Debug)]
pub struct Take(usize);

impl<T> Operator<T> for Take {
    type Out = T;
    /// How many were taken.
    type State = usize;

    #[inline]
    fn init(&self) -> usize {
        0
    }

    #[inline(always)]
    fn on_item(&self, taken: &mut usize, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        *taken += 1;
        out(item, at);
    }

    #[inline(always)]
    fn closed(&self, taken: &usize) -> bool {
        *taken >= self.0
    }

    fn vacant(&self, taken: &usize) -> bool {
        *taken == 0
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Lets the first `n` items pass and completes with the last of them. With `n` 0 it completes at once and never
    /// polls its input.
    ///
    /// ```text
    /// in   --1--2--3--4--|
    /// take(2)
    /// out  --1--2|
    /// ```
    ///
    /// Completes with the `n`th item or with its input; an `Err` counts as an item; an early drop loses nothing. What
    /// the input holds after the `n`th item stays in it.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().take(2).run_now(1..), [1, 2]);
    /// assert_eq!(chain().take(0).run_now([1]), []);
    /// ```
    #[inline]
    pub fn take(self, n: usize) -> Flow<S, Then<O, Take>> {
        self.apply(Take(n))
    }
}
