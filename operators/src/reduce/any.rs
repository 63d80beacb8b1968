//! `any`: does one item match?

use super::Question;
use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`any`](Flow::any).
#[derive(Clone, Copy, Debug)]
pub struct Any<F>(F);

impl<T, F: Fn(&T) -> bool> Operator<T> for Any<F> {
    type Out = bool;
    type State = Question;

    fn init(&self) -> Question {
        Question::Open
    }

    fn on_item(&self, state: &mut Question, item: T, at: Timestamp, out: &mut impl FnMut(bool, Timestamp)) {
        if (self.0)(&item) {
            *state = Question::Answered;
            out(true, at);
        }
    }

    fn on_end(&self, _: &mut Question, at: Timestamp, out: &mut impl FnMut(bool, Timestamp)) {
        out(false, at);
    }

    fn closed(&self, state: &Question) -> bool {
        *state == Question::Answered
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out `true` with the first item for which `f` is true, `false` when the input ends without one.
    ///
    /// ```text
    /// in   --1--2--3--|
    /// any(even)
    /// out  -----true|
    /// ```
    ///
    /// Completes with the answer; an `Err` is an item like any other; an early drop loses nothing. What the input holds
    /// after the item that decides stays in it.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().any(|x| x % 2 == 0).run_now([1, 2, 3]), [true]);
    /// assert_eq!(chain().any(|x| x % 2 == 0).run_now([1, 3]), [false]);
    /// ```
    pub fn any<F: Fn(&O::Out) -> bool>(self, f: F) -> Flow<S, Then<O, Any<F>>> {
        self.apply(Any(f))
    }
}
