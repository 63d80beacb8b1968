//! `sample_on`: the latest item at each signal.

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::{
    Port2, Ports2,
    port::{Plan, on},
};
use crate::{Flow, Identity, Operator, Then, Timestamp, durable::Held};

/// The operator of [`sample_on`](Flow::sample_on): the input is port A, the signal port B.
#[derive(Clone, Copy, Debug)]
pub struct SampleOn;

/// What [`SampleOn`] remembers: the latest item that did not come out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleOnState<T> {
    latest: Held<T>,
    ended: bool,
}

impl<T, N> Operator<Port2<T, N>> for SampleOn {
    type Out = T;
    type State = SampleOnState<T>;

    fn init(&self) -> SampleOnState<T> {
        SampleOnState { latest: Held::default(), ended: false }
    }

    fn on_item(
        &self,
        state: &mut SampleOnState<T>,
        item: Port2<T, N>,
        at: Timestamp,
        out: &mut impl FnMut(T, Timestamp),
    ) {
        match item {
            Port2::A(Some(item)) => *state.latest = Some(item),
            Port2::A(None) => state.ended = true,
            Port2::B(Some(_)) => {
                if let Some(latest) = state.latest.take() {
                    out(latest, at);
                }
            }
            Port2::B(None) => {}
        }
    }

    fn closed(&self, state: &SampleOnState<T>) -> bool {
        state.ended
    }

    fn vacant(&self, state: &SampleOnState<T>) -> bool {
        state.latest.is_none() && !state.ended
    }
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out the latest item whenever `signal` gives one, if there is a new one. By time: [`sample`](Flow::sample).
    ///
    /// ```text
    /// in      --1--2-----3-----|
    /// signal  -------x--x---x
    /// sample_on
    /// out     -------2------3--|
    /// ```
    ///
    /// Completes with its input, at once. An `Err` is an item, in the signal too. The end, and an early drop, lose the
    /// item that waits; items that were followed before a signal are lost: that is its purpose. At the same moment the
    /// input is first.
    ///
    /// ```
    /// use futures::stream::{iter, pending, StreamExt as _};
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let readings = iter([1, 2]).chain(pending());
    /// assert_eq!(flow(readings).sample_on(iter([(), ()])).next().await, Some(2));
    /// # });
    /// ```
    pub fn sample_on<N: Stream>(self, signal: N) -> Flow<Ports2<Self, N>, Then<Identity, SampleOn>> {
        on((self, signal), Plan::ALL, SampleOn)
    }
}
