//! `skip`: all but the first n items.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`skip`](Flow::skip).
#[derive(Clone, Copy, Debug)]
pub struct Skip(usize);

impl<T> Operator<T> for Skip {
    type Out = T;
    /// How many were skipped.
    type State = usize;

    #[inline]
    fn init(&self) -> usize {
        0
    }

    #[inline(always)]
    fn on_item(&self, skipped: &mut usize, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if *skipped < self.0 {
            *skipped += 1;
        } else {
            out(item, at);
        }
    }

    fn vacant(&self, skipped: &usize) -> bool {
        *skipped == 0
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Drops the first `n` items.
    ///
    /// ```text
    /// in   --1--2--3--4--|
    /// skip(2)
    /// out  --------3--4--|
    /// ```
    ///
    /// Completes with its input; an `Err` counts as an item; holds nothing back, so an early drop loses nothing.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().skip(2).run_now([1, 2, 3, 4]), [3, 4]);
    /// ```
    #[inline]
    pub fn skip(self, n: usize) -> Flow<S, Then<O, Skip>> {
        self.apply(Skip(n))
    }
}
