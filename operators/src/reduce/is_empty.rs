//! `is_empty`: is there no item?

use super::Question;
use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`is_empty`](Flow::is_empty).
#[derive(Clone, Copy, Debug)]
pub struct IsEmpty;

impl<T> Operator<T> for IsEmpty {
    type Out = bool;
    type State = Question;

    fn init(&self) -> Question {
        Question::Open
    }

    fn on_item(&self, state: &mut Question, _: T, at: Timestamp, out: &mut impl FnMut(bool, Timestamp)) {
        *state = Question::Answered;
        out(false, at);
    }

    fn on_end(&self, _: &mut Question, at: Timestamp, out: &mut impl FnMut(bool, Timestamp)) {
        out(true, at);
    }

    fn closed(&self, state: &Question) -> bool {
        *state == Question::Answered
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out `false` with the first item, `true` when the input ends without one.
    ///
    /// ```text
    /// in   --1--2--|
    /// is_empty
    /// out  --false|
    /// ```
    ///
    /// Completes with the answer; an `Err` is an item like any other; an early drop loses nothing. What the input holds
    /// after the item that decides stays in it.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().is_empty().run_now([1, 2]), [false]);
    /// assert_eq!(chain::<u32>().is_empty().run_now([]), [true]);
    /// ```
    pub fn is_empty(self) -> Flow<S, Then<O, IsEmpty>> {
        self.apply(IsEmpty)
    }
}
