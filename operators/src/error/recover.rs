//! `recover`: a value in place of an error.

use serde::{Deserialize, Serialize};

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`recover`](Flow::recover).
#[derive(Clone, Copy, Debug)]
pub struct Recover<F>(F);

/// How [`Recover`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecoverState {
    /// No error came.
    Open,
    /// One did.
    Recovered,
}

impl<T, E, F: Fn(E) -> T> Operator<Result<T, E>> for Recover<F> {
    type Out = T;
    type State = RecoverState;

    fn init(&self) -> RecoverState {
        RecoverState::Open
    }

    #[inline]
    fn on_item(&self, state: &mut RecoverState, item: Result<T, E>, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        let item = item.unwrap_or_else(|error| {
            *state = RecoverState::Recovered;
            (self.0)(error)
        });
        out(item, at);
    }

    fn closed(&self, state: &RecoverState) -> bool {
        *state == RecoverState::Recovered
    }

    fn vacant(&self, state: &RecoverState) -> bool {
        *state == RecoverState::Open
    }
}

impl<S: Head, T, E, O: Operator<S::Item, Out = Result<T, E>>> Flow<S, O> {
    /// Takes the first `Err` for the end, with the value that `f` makes of it as the last item.
    ///
    /// ```text
    /// in   --1--2--Err
    /// recover(0)
    /// out  --1--2--0|
    /// ```
    ///
    /// Completes with the first `Err` or with its input. An early drop loses nothing. What the input holds after the
    /// `Err` stays in it.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().recover(|error: &str| error.len()).run_now([Ok(1), Err("oh"), Ok(3)]), [1, 2]);
    /// ```
    pub fn recover<F: Fn(E) -> T>(self, f: F) -> Flow<S, Then<O, Recover<F>>> {
        self.apply(Recover(f))
    }
}
