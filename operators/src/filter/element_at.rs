//! `element_at`: the item at a position.

use serde::{Deserialize, Serialize};

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The input ended before the position that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("the input ended before item {index}")]
pub struct OutOfRangeError {
    /// The position that was asked for, from 0.
    pub index: usize,
}

/// How far the search is: items to skip, or nothing more to find.
type Remaining = Option<usize>;

fn reached(remaining: &mut Remaining) -> bool {
    match remaining {
        Some(0) => {
            *remaining = None;
            true
        }
        Some(more) => {
            *more -= 1;
            false
        }
        None => false,
    }
}

/// The operator of [`element_at`](Flow::element_at).
#[derive(Clone, Copy, Debug)]
pub struct ElementAt(usize);

impl<T> Operator<T> for ElementAt {
    type Out = Result<T, OutOfRangeError>;
    type State = Option<usize>;

    fn init(&self) -> Remaining {
        Some(self.0)
    }

    fn on_item(&self, remaining: &mut Remaining, item: T, at: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        if reached(remaining) {
            out(Ok(item), at);
        }
    }

    fn on_end(&self, _: &mut Remaining, at: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        out(Err(OutOfRangeError { index: self.0 }), at);
    }

    fn closed(&self, remaining: &Remaining) -> bool {
        remaining.is_none()
    }
}

/// The operator of [`element_at_or`](Flow::element_at_or).
#[derive(Clone, Copy, Debug)]
pub struct ElementAtOr<T> {
    index: usize,
    default: T,
}

impl<T: Clone> Operator<T> for ElementAtOr<T> {
    type Out = T;
    type State = Option<usize>;

    fn init(&self) -> Remaining {
        Some(self.index)
    }

    fn on_item(&self, remaining: &mut Remaining, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if reached(remaining) {
            out(item, at);
        }
    }

    fn on_end(&self, _: &mut Remaining, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        out(self.default.clone(), at);
    }

    fn closed(&self, remaining: &Remaining) -> bool {
        remaining.is_none()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out the item at position `index`, from 0, and completes; an [`OutOfRangeError`] where the input ends first.
    ///
    /// ```text
    /// in   --1--2--3--4--|
    /// element_at(2)
    /// out  --------3|
    /// ```
    ///
    /// Completes with that item or with its input; an `Err` in the input counts as an item; an early drop loses nothing.
    ///
    /// ```
    /// use millstream_operators::{chain, filter::OutOfRangeError};
    ///
    /// assert_eq!(chain().element_at(2).run_now([1, 2, 3, 4]), [Ok(3)]);
    /// assert_eq!(chain().element_at(2).run_now([1]), [Err(OutOfRangeError { index: 2 })]);
    /// ```
    pub fn element_at(self, index: usize) -> Flow<S, Then<O, ElementAt>> {
        self.apply(ElementAt(index))
    }

    /// Like [`element_at`](Flow::element_at), with `default` where the input ends first.
    ///
    /// ```text
    /// in   --1--|
    /// element_at_or(2, 0)
    /// out  -----0|
    /// ```
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().element_at_or(2, 0).run_now([1]), [0]);
    /// ```
    pub fn element_at_or(self, index: usize, default: O::Out) -> Flow<S, Then<O, ElementAtOr<O::Out>>>
    where
        O::Out: Clone,
    {
        self.apply(ElementAtOr { index, default })
    }
}
