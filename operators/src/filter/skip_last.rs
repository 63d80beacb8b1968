//! `skip_last`: all but the last n items.

use std::collections::VecDeque;

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`skip_last`](Flow::skip_last).
#[derive(Clone, Copy, Debug)]
pub struct SkipLast(usize);

impl<T> Operator<T> for SkipLast {
    type Out = T;
    type State = VecDeque<T>;

    fn init(&self) -> VecDeque<T> {
        VecDeque::new()
    }

    fn on_item(&self, kept: &mut VecDeque<T>, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        kept.push_back(item);
        if kept.len() > self.0
            && let Some(item) = kept.pop_front()
        {
            out(item, at);
        }
    }

    fn vacant(&self, kept: &VecDeque<T>) -> bool {
        kept.is_empty()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Drops the last `n` items: each item comes out when `n` more have arrived.
    ///
    /// ```text
    /// in   --1--2--3--4--|
    /// skip_last(2)
    /// out  --------1--2--|
    /// ```
    ///
    /// Completes with its input; an `Err` counts as an item; an early drop loses the `n` items kept. Holds `n` items at
    /// most.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().skip_last(2).run_now([1, 2, 3, 4]), [1, 2]);
    /// ```
    pub fn skip_last(self, n: usize) -> Flow<S, Then<O, SkipLast>> {
        self.apply(SkipLast(n))
    }
}
