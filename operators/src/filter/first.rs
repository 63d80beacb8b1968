//! `first`: the first item.

use serde::{Deserialize, Serialize};

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The input ended without an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("the input ended without an item")]
pub struct EmptyError;

/// The operator of [`first`](Flow::first).
#[derive(Clone, Copy, Debug)]
pub struct First;

impl<T> Operator<T> for First {
    type Out = Result<T, EmptyError>;
    /// Whether it was found.
    type State = bool;

    fn init(&self) -> bool {
        false
    }

    fn on_item(&self, found: &mut bool, item: T, at: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        *found = true;
        out(Ok(item), at);
    }

    fn on_end(&self, _: &mut bool, at: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        out(Err(EmptyError), at);
    }

    fn closed(&self, found: &bool) -> bool {
        *found
    }
}

/// The operator of [`first_or`](Flow::first_or).
#[derive(Clone, Copy, Debug)]
pub struct FirstOr<T>(T);

impl<T: Clone> Operator<T> for FirstOr<T> {
    type Out = T;
    /// Whether it was found.
    type State = bool;

    fn init(&self) -> bool {
        false
    }

    fn on_item(&self, found: &mut bool, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        *found = true;
        out(item, at);
    }

    fn on_end(&self, _: &mut bool, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        out(self.0.clone(), at);
    }

    fn closed(&self, found: &bool) -> bool {
        *found
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out the first item and completes; an [`EmptyError`] where there is none. For the first that matches,
    /// [`filter`](Flow::filter) before it.
    ///
    /// ```text
    /// in   --1--2--3--|
    /// first
    /// out  --1|
    /// ```
    ///
    /// Completes with the first item or with its input; an `Err` in the input is an item; an early drop loses nothing.
    ///
    /// ```
    /// use millstream_operators::{chain, filter::EmptyError};
    ///
    /// assert_eq!(chain().filter(|x| *x > 1).first().run_now([1, 2, 3]), [Ok(2)]);
    /// assert_eq!(chain().filter(|x| *x > 5).first().run_now([1, 2, 3]), [Err(EmptyError)]);
    /// ```
    pub fn first(self) -> Flow<S, Then<O, First>> {
        self.apply(First)
    }

    /// Like [`first`](Flow::first), with `default` where there is none.
    ///
    /// ```text
    /// in   -----|
    /// first_or(0)
    /// out  -----0|
    /// ```
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().first_or(0).run_now([]), [0]);
    /// ```
    pub fn first_or(self, default: O::Out) -> Flow<S, Then<O, FirstOr<O::Out>>>
    where
        O::Out: Clone,
    {
        self.apply(FirstOr(default))
    }
}
