//! `count`: how many items.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`count`](Flow::count).
#[derive(Clone, Copy, Debug)]
pub struct Count;

impl<T> Operator<T> for Count {
    type Out = u64;
    type State = u64;

    #[inline]
    fn init(&self) -> u64 {
        0
    }

    #[inline(always)]
    fn on_item(&self, n: &mut u64, _: T, _: Timestamp, _: &mut impl FnMut(u64, Timestamp)) {
        *n += 1;
    }

    fn on_end(&self, n: &mut u64, at: Timestamp, out: &mut impl FnMut(u64, Timestamp)) {
        out(*n, at);
    }

    // A key that was forgotten would not answer.
    fn vacant(&self, _: &u64) -> bool {
        false
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Counts the items; the count comes out when the input ends.
    ///
    /// ```text
    /// in   --a--b--c--|
    /// count
    /// out  -----------3|
    /// ```
    ///
    /// Completes with its input, with one item; an `Err` counts as an item; an early drop loses the count.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().filter(|x| x % 2 == 0).count().run_now(0..5), [3]);
    /// ```
    #[inline]
    pub fn count(self) -> Flow<S, Then<O, Count>> {
        self.apply(Count)
    }
}
