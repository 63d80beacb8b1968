//! `to_vec`: all items in one.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`to_vec`](Flow::to_vec).
#[derive(Clone, Copy, Debug)]
pub struct ToVec;

impl<T> Operator<T> for ToVec {
    type Out = Vec<T>;
    type State = Vec<T>;

    fn init(&self) -> Vec<T> {
        Vec::new()
    }

    #[inline]
    fn on_item(&self, all: &mut Vec<T>, item: T, _: Timestamp, _: &mut impl FnMut(Vec<T>, Timestamp)) {
        all.push(item);
    }

    fn on_end(&self, all: &mut Vec<T>, at: Timestamp, out: &mut impl FnMut(Vec<T>, Timestamp)) {
        out(std::mem::take(all), at);
    }

    // A key that was forgotten would not answer.
    fn vacant(&self, _: &Vec<T>) -> bool {
        false
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gathers all items and gives them out as one `Vec`, maybe an empty one, when the input ends.
    ///
    /// ```text
    /// in   --1--2--3--|
    /// to_vec
    /// out  -----------[1,2,3]|
    /// ```
    ///
    /// Completes with its input, with one item; an `Err` is an item like any other; an early drop loses what was
    /// gathered. Holds the whole input.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().to_vec().run_now([1, 2, 3]), [[1, 2, 3]]);
    /// ```
    pub fn to_vec(self) -> Flow<S, Then<O, ToVec>> {
        self.apply(ToVec)
    }
}
