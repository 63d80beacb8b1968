//! `skip_until`: items from a signal on.

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::{
    Port2, Ports2,
    port::{Plan, on},
};
use crate::{Flow, Identity, Operator, Then, Timestamp};

/// The operator of [`skip_until`](Flow::skip_until): the input is port A, the signal port B.
#[derive(Clone, Copy, Debug)]
pub struct SkipUntil;

/// How [`SkipUntil`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SkipUntilState {
    /// Items are dropped.
    Shut,
    /// The signal came: items pass.
    Open,
    /// The input ended.
    Over,
}

impl<T, N> Operator<Port2<T, N>> for SkipUntil {
    type Out = T;
    type State = SkipUntilState;

    fn init(&self) -> SkipUntilState {
        SkipUntilState::Shut
    }

    fn on_item(
        &self,
        state: &mut SkipUntilState,
        item: Port2<T, N>,
        at: Timestamp,
        out: &mut impl FnMut(T, Timestamp),
    ) {
        match item {
            Port2::A(Some(item)) if *state == SkipUntilState::Open => out(item, at),
            Port2::A(None) => *state = SkipUntilState::Over,
            Port2::B(Some(_)) => *state = SkipUntilState::Open,
            Port2::A(Some(_)) | Port2::B(None) => {}
        }
    }

    fn closed(&self, state: &SkipUntilState) -> bool {
        *state == SkipUntilState::Over
    }

    fn vacant(&self, state: &SkipUntilState) -> bool {
        *state == SkipUntilState::Shut
    }
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Drops items until `signal` gives an item; all after it pass. With a signal that ends without one, nothing does.
    ///
    /// ```text
    /// in      --1--2--3--4--|
    /// signal  ------x
    /// skip_until
    /// out     --------3--4--|
    /// ```
    ///
    /// Completes with its input. An `Err` is an item, in the signal too. An early drop loses nothing. At the same moment
    /// the signal is first; once it has spoken it is dropped.
    ///
    /// ```
    /// use futures::stream::{iter, once, pending};
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// assert_eq!(flow(iter([1, 2])).skip_until(once(async {})).collect::<Vec<_>>().await, [1, 2]);
    /// assert_eq!(flow(iter([1, 2])).skip_until(pending::<()>()).collect::<Vec<_>>().await, []);
    /// # });
    /// ```
    pub fn skip_until<N: Stream>(self, signal: N) -> Flow<Ports2<Self, N>, Then<Identity, SkipUntil>> {
        on((self, signal), Plan::ONE_SIGNAL, SkipUntil)
    }
}
