//! `take_while`: items until one does not pass.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`take_while`](Flow::take_while).
#[derive(Clone, Copy, Debug)]
pub struct TakeWhile<F> {
    passes: F,
    inclusive: bool,
}

impl<T, F: Fn(&T) -> bool> Operator<T> for TakeWhile<F> {
    type Out = T;
    /// Whether one did not pass.
    type State = bool;

    #[inline]
    fn init(&self) -> bool {
        false
    }

    #[inline]
    fn on_item(&self, over: &mut bool, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        *over = !(self.passes)(&item);
        if !*over || self.inclusive {
            out(item, at);
        }
    }

    #[inline]
    fn closed(&self, over: &bool) -> bool {
        *over
    }

    fn vacant(&self, over: &bool) -> bool {
        !*over
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Lets items pass until `f` is false for one, and completes with that one, which it drops.
    ///
    /// ```text
    /// in   --1--2--3--1--|
    /// take_while(< 3)
    /// out  --1--2--|
    /// ```
    ///
    /// Completes with the first item that does not pass, or with its input; an `Err` is an item like any other; an early
    /// drop loses nothing.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().take_while(|x| *x < 3).run_now([1, 2, 3, 1]), [1, 2]);
    /// ```
    #[inline]
    pub fn take_while<F: Fn(&O::Out) -> bool>(self, f: F) -> Flow<S, Then<O, TakeWhile<F>>> {
        self.apply(TakeWhile { passes: f, inclusive: false })
    }

    /// Like [`take_while`](Flow::take_while), and the item that does not pass comes out last.
    ///
    /// ```text
    /// in   --1--2--3--1--|
    /// take_while_inclusive(< 3)
    /// out  --1--2--3|
    /// ```
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().take_while_inclusive(|x| *x < 3).run_now([1, 2, 3, 1]), [1, 2, 3]);
    /// ```
    #[inline]
    pub fn take_while_inclusive<F: Fn(&O::Out) -> bool>(self, f: F) -> Flow<S, Then<O, TakeWhile<F>>> {
        self.apply(TakeWhile { passes: f, inclusive: true })
    }
}
