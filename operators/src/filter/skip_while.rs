//! `skip_while`: everything from the first item that does not match.

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`skip_while`](Flow::skip_while).
#[derive(Clone, Copy, Debug)]
pub struct SkipWhile<F>(F);

impl<T, F: Fn(&T) -> bool> Operator<T> for SkipWhile<F> {
    type Out = T;
    /// Whether items pass now.
    type State = bool;

    #[inline]
    fn init(&self) -> bool {
        false
    }

    #[inline]
    fn on_item(&self, open: &mut bool, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        *open = *open || !(self.0)(&item);
        if *open {
            out(item, at);
        }
    }

    fn vacant(&self, open: &bool) -> bool {
        !*open
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Drops items until `f` is false for one; that one and all after it pass.
    ///
    /// ```text
    /// in   --1--2--3--1--|
    /// skip_while(< 3)
    /// out  --------3--1--|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; holds nothing back, so an early drop loses nothing.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().skip_while(|x| *x < 3).run_now([1, 2, 3, 1]), [3, 1]);
    /// ```
    #[inline]
    pub fn skip_while<F: Fn(&O::Out) -> bool>(self, f: F) -> Flow<S, Then<O, SkipWhile<F>>> {
        self.apply(SkipWhile(f))
    }
}
