//! `last`: the last item.

use super::EmptyError;
use crate::{Flow, Head, Operator, Then, Timestamp, durable::Held};

/// The operator of [`last`](Flow::last).
#[derive(Clone, Copy, Debug)]
pub struct Last;

impl<T> Operator<T> for Last {
    type Out = Result<T, EmptyError>;
    type State = Held<T>;

    fn init(&self) -> Held<T> {
        Held::default()
    }

    fn on_item(&self, last: &mut Held<T>, item: T, _: Timestamp, _: &mut impl FnMut(Self::Out, Timestamp)) {
        **last = Some(item);
    }

    fn on_end(&self, last: &mut Held<T>, at: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        out(last.take().ok_or(EmptyError), at);
    }

    // A key that was forgotten would not answer.
    fn vacant(&self, _: &Held<T>) -> bool {
        false
    }
}

/// The operator of [`last_or`](Flow::last_or).
#[derive(Clone, Copy, Debug)]
pub struct LastOr<T>(T);

impl<T: Clone> Operator<T> for LastOr<T> {
    type Out = T;
    type State = Held<T>;

    fn init(&self) -> Held<T> {
        Held::default()
    }

    fn on_item(&self, last: &mut Held<T>, item: T, _: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        **last = Some(item);
    }

    fn on_end(&self, last: &mut Held<T>, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        out(last.take().unwrap_or_else(|| self.0.clone()), at);
    }

    // A key that was forgotten would not answer.
    fn vacant(&self, _: &Held<T>) -> bool {
        false
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out the last item when the input ends; an [`EmptyError`] where there is none.
    ///
    /// ```text
    /// in   --1--2--3--|
    /// last
    /// out  -----------3|
    /// ```
    ///
    /// Completes with its input; an `Err` in the input is an item; an early drop loses the item kept.
    ///
    /// ```
    /// use millstream_operators::{chain, filter::EmptyError};
    ///
    /// assert_eq!(chain().last().run_now([1, 2, 3]), [Ok(3)]);
    /// assert_eq!(chain::<u32>().last().run_now([]), [Err(EmptyError)]);
    /// ```
    pub fn last(self) -> Flow<S, Then<O, Last>> {
        self.apply(Last)
    }

    /// Like [`last`](Flow::last), with `default` where there is none.
    ///
    /// ```text
    /// in   -----|
    /// last_or(0)
    /// out  -----0|
    /// ```
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().last_or(0).run_now([]), [0]);
    /// ```
    pub fn last_or(self, default: O::Out) -> Flow<S, Then<O, LastOr<O::Out>>>
    where
        O::Out: Clone,
    {
        self.apply(LastOr(default))
    }
}
