//! `take_last`: the last n items, at the end.

use std::collections::VecDeque;

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`take_last`](Flow::take_last).
#[derive(Clone, Copy, Debug)]
pub struct TakeLast(usize);

impl<T> Operator<T> for TakeLast {
    type Out = T;
    type State = VecDeque<T>;

    fn init(&self) -> VecDeque<T> {
        VecDeque::new()
    }

    fn on_item(&self, last: &mut VecDeque<T>, item: T, _: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        if last.len() >= self.0 {
            last.pop_front();
        }
        last.push_back(item);
    }

    fn on_end(&self, last: &mut VecDeque<T>, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        for item in last.drain(..) {
            out(item, at);
        }
    }

    fn closed(&self, _: &VecDeque<T>) -> bool {
        self.0 == 0
    }

    fn vacant(&self, last: &VecDeque<T>) -> bool {
        last.is_empty()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Keeps the last `n` items and gives them out when the input ends. With `n` 0 it completes at once.
    ///
    /// ```text
    /// in   --1--2--3--|
    /// take_last(2)
    /// out  -----------23|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; an early drop loses the items kept. Holds `n` items
    /// at most.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().take_last(2).run_now([1, 2, 3]), [2, 3]);
    /// ```
    pub fn take_last(self, n: usize) -> Flow<S, Then<O, TakeLast>> {
        self.apply(TakeLast(n))
    }
}
