//! `take_until`: items until a signal.

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::{
    Port2, Ports2,
    port::{Plan, on},
};
use crate::{Flow, Identity, Operator, Then, Timestamp};

/// The operator of [`take_until`](Flow::take_until): the input is port A, the signal port B.
#[derive(Clone, Copy, Debug)]
pub struct TakeUntil;

/// How [`TakeUntil`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TakeUntilState {
    /// Items pass.
    Open,
    /// The signal came, or the input ended.
    Over,
}

impl<T, N> Operator<Port2<T, N>> for TakeUntil {
    type Out = T;
    type State = TakeUntilState;

    fn init(&self) -> TakeUntilState {
        TakeUntilState::Open
    }

    fn on_item(
        &self,
        state: &mut TakeUntilState,
        item: Port2<T, N>,
        at: Timestamp,
        out: &mut impl FnMut(T, Timestamp),
    ) {
        match item {
            Port2::A(Some(item)) => out(item, at),
            Port2::A(None) | Port2::B(Some(_)) => *state = TakeUntilState::Over,
            Port2::B(None) => {}
        }
    }

    fn closed(&self, state: &TakeUntilState) -> bool {
        *state == TakeUntilState::Over
    }
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Lets items pass until `signal` gives an item, and completes then. A signal that ends without one is ignored.
    ///
    /// For a future as the signal: `futures::stream::once(future)`, or [`watch`](Flow::watch), which says why it ended.
    ///
    /// ```text
    /// in      --1--2--3--4--|
    /// signal  ---------x
    /// take_until
    /// out     --1--2--3|
    /// ```
    ///
    /// Completes with the signal or with its input. An `Err` is an item, in the signal too. An early drop loses nothing.
    /// What the input holds after the signal stays in it. At the same moment the signal is first.
    ///
    /// ```
    /// use futures::stream::{iter, once, pending};
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let stopped = flow(iter([1, 2])).take_until(once(async {}));
    /// assert_eq!(stopped.collect::<Vec<_>>().await, []);
    /// let ended = flow(iter([1, 2])).take_until(pending::<()>());
    /// assert_eq!(ended.collect::<Vec<_>>().await, [1, 2]);
    /// # });
    /// ```
    pub fn take_until<N: Stream>(self, signal: N) -> Flow<Ports2<Self, N>, Then<Identity, TakeUntil>> {
        on((self, signal), Plan::ONE_SIGNAL, TakeUntil)
    }
}
