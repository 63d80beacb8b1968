//! `buffer_on`: what came between two signals.

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::{
    Port2, Ports2,
    port::{Plan, on},
};
use crate::{Flow, Identity, Operator, Then, Timestamp};

/// The operator of [`buffer_on`](Flow::buffer_on): the input is port A, the signal port B.
#[derive(Clone, Copy, Debug)]
pub struct BufferOn;

/// What [`BufferOn`] remembers: the items since the last signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferOnState<T> {
    items: Vec<T>,
    ended: bool,
}

impl<T, N> Operator<Port2<T, N>> for BufferOn {
    type Out = Vec<T>;
    type State = BufferOnState<T>;

    fn init(&self) -> BufferOnState<T> {
        BufferOnState { items: Vec::new(), ended: false }
    }

    fn on_item(
        &self,
        state: &mut BufferOnState<T>,
        item: Port2<T, N>,
        at: Timestamp,
        out: &mut impl FnMut(Vec<T>, Timestamp),
    ) {
        match item {
            Port2::A(Some(item)) => state.items.push(item),
            Port2::A(None) => {
                state.ended = true;
                out(std::mem::take(&mut state.items), at);
            }
            Port2::B(Some(_)) => out(std::mem::take(&mut state.items), at),
            Port2::B(None) => {}
        }
    }

    fn closed(&self, state: &BufferOnState<T>) -> bool {
        state.ended
    }

    fn vacant(&self, state: &BufferOnState<T>) -> bool {
        state.items.is_empty() && !state.ended
    }
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out what came since the last signal whenever `signal` gives an item, an empty `Vec` too.
    ///
    /// ```text
    /// in      --1--2-----3-----|
    /// signal  -------x--x
    /// buffer_on
    /// out     -----[1,2][]-----[3]|
    /// ```
    ///
    /// Completes with its input, after what there is, maybe nothing. An `Err` is an item, in the signal too. An early
    /// drop loses what was gathered. At the same moment the input is first.
    ///
    /// ```
    /// use futures::stream::{iter, pending};
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let buffers = flow(iter([1, 2])).buffer_on(pending::<()>());
    /// assert_eq!(buffers.collect::<Vec<_>>().await, [[1, 2]]);
    /// # });
    /// ```
    pub fn buffer_on<N: Stream>(self, signal: N) -> Flow<Ports2<Self, N>, Then<Identity, BufferOn>> {
        on((self, signal), Plan::ALL, BufferOn)
    }
}
