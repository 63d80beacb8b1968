//! `find`: the first item that matches, if there is one.

use serde::{Deserialize, Serialize};

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`find`](Flow::find).
#[derive(Clone, Copy, Debug)]
pub struct Find<F>(F);

/// Whether [`find`](Flow::find) still looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FindState {
    /// No item matched so far.
    Looking,
    /// One did.
    Found,
}

impl<T, F: Fn(&T) -> bool> Operator<T> for Find<F> {
    type Out = Option<T>;
    type State = FindState;

    fn init(&self) -> FindState {
        FindState::Looking
    }

    fn on_item(&self, state: &mut FindState, item: T, at: Timestamp, out: &mut impl FnMut(Option<T>, Timestamp)) {
        if (self.0)(&item) {
            *state = FindState::Found;
            out(Some(item), at);
        }
    }

    fn on_end(&self, _: &mut FindState, at: Timestamp, out: &mut impl FnMut(Option<T>, Timestamp)) {
        out(None, at);
    }

    fn closed(&self, state: &FindState) -> bool {
        *state == FindState::Found
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out the first item for which `f` is true and completes; `None` where there is none.
    ///
    /// ```text
    /// in   --1--2--3--|
    /// find(even)
    /// out  -----2|
    /// ```
    ///
    /// Completes with that item or with its input; an `Err` is an item like any other; an early drop loses nothing.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().find(|x| x % 2 == 0).run_now([1, 2, 3]), [Some(2)]);
    /// assert_eq!(chain().find(|x| x % 2 == 0).run_now([1, 3]), [None]);
    /// ```
    pub fn find<F: Fn(&O::Out) -> bool>(self, f: F) -> Flow<S, Then<O, Find<F>>> {
        self.apply(Find(f))
    }
}
