//! `every`: do all items match?

use super::Question;
use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`every`](Flow::every).
#[derive(Clone, Copy, Debug)]
pub struct Every<F>(F);

impl<T, F: Fn(&T) -> bool> Operator<T> for Every<F> {
    type Out = bool;
    type State = Question;

    fn init(&self) -> Question {
        Question::Open
    }

    fn on_item(&self, state: &mut Question, item: T, at: Timestamp, out: &mut impl FnMut(bool, Timestamp)) {
        if !(self.0)(&item) {
            *state = Question::Answered;
            out(false, at);
        }
    }

    fn on_end(&self, _: &mut Question, at: Timestamp, out: &mut impl FnMut(bool, Timestamp)) {
        out(true, at);
    }

    fn closed(&self, state: &Question) -> bool {
        *state == Question::Answered
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out `false` with the first item for which `f` is false, `true` when the input ends without one.
    ///
    /// ```text
    /// in   --1--2--3--|
    /// every(odd)
    /// out  -----false|
    /// ```
    ///
    /// Completes with the answer; an `Err` is an item like any other; an early drop loses nothing. What the input holds
    /// after the item that decides stays in it.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().every(|x| x % 2 == 1).run_now([1, 2, 3]), [false]);
    /// assert_eq!(chain().every(|x| x % 2 == 1).run_now([1, 3]), [true]);
    /// ```
    pub fn every<F: Fn(&O::Out) -> bool>(self, f: F) -> Flow<S, Then<O, Every<F>>> {
        self.apply(Every(f))
    }

    /// The same as [`every`](Flow::every), under the name that `futures` gives it.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().all(|x| *x > 0).run_now([1, 2]), [true]);
    /// ```
    pub fn all<F: Fn(&O::Out) -> bool>(self, f: F) -> Flow<S, Then<O, Every<F>>> {
        self.every(f)
    }
}
