//! `race`: the input that speaks first.

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::{
    IntoPorts, PortN,
    port::{On, Plan, on},
    port_tuple::{Port2, Port3, Port4, Port5, Port6, Port7, Port8, Ports2, for_each_arity},
};
use crate::{Flow, Identity, Operator, Then, Timestamp};

/// The operator of [`race`].
#[derive(Clone, Copy, Debug)]
pub struct Race;

/// How the race stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RaceState {
    /// No input has said anything.
    #[default]
    Open,
    /// This one spoke first.
    Won(usize),
    /// The winner has ended.
    Over,
}

impl RaceState {
    fn item<T>(&mut self, port: usize, item: Option<T>, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if matches!(self, Self::Open) {
            *self = Self::Won(port);
        }
        match item {
            _ if *self != Self::Won(port) => {}
            Some(item) => out(item, at),
            None => *self = Self::Over,
        }
    }
}

macro_rules! race {
    ($Port:ident $($V:ident $v:ident $i:tt),+) => {
        impl<T> Operator<$Port<$(race!(@ $V T)),+>> for Race {
            type Out = T;
            type State = RaceState;

            fn init(&self) -> RaceState {
                RaceState::Open
            }

            fn on_item(
                &self,
                state: &mut RaceState,
                item: $Port<$(race!(@ $V T)),+>,
                at: Timestamp,
                out: &mut impl FnMut(T, Timestamp),
            ) {
                match item {
                    $($Port::$V(item) => state.item($i, item, at, out),)+
                }
            }

            fn closed(&self, state: &RaceState) -> bool {
                *state == RaceState::Over
            }
        }
    };
    (@ $V:ident $T:ident) => { $T };
}
for_each_arity!(race);

impl<T> Operator<PortN<T>> for Race {
    type Out = T;
    type State = RaceState;

    fn init(&self) -> RaceState {
        RaceState::Open
    }

    fn on_item(&self, state: &mut RaceState, item: PortN<T>, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        state.item(item.port, item.item, at, out);
    }

    fn closed(&self, state: &RaceState) -> bool {
        *state == RaceState::Over
    }
}

/// All items of the input that is the first to give an item or to end; the others are dropped then. A tuple of two to
/// eight streams, or a `Vec` of any number.
///
/// ```text
/// a    -----1--2--|
/// b    --7-----8-----|
/// race
/// out  --7-----8-----|
/// ```
///
/// Completes with the winner. An `Err` is an item, so it wins too. An early drop loses nothing. Where several are ready
/// at once, the first in the list wins.
///
/// ```
/// use futures::stream::{iter, pending};
/// use millstream_operators::combine::race;
///
/// # futures::executor::block_on(async {
/// assert_eq!(race((pending(), iter([7, 8]))).collect::<Vec<_>>().await, [7, 8]);
/// # });
/// ```
pub fn race<P: IntoPorts>(inputs: P) -> On<P, Race>
where
    Race: Operator<P::Port>,
{
    on(inputs, Plan::FIRST_TO_SPEAK, Race)
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// This flow or `other`, whichever is the first to give an item or to end: see [`race`].
    ///
    /// ```
    /// use futures::stream::{iter, pending};
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// assert_eq!(flow(pending()).race(iter([7])).collect::<Vec<_>>().await, [7]);
    /// # });
    /// ```
    pub fn race<B: Stream<Item = O::Out>>(self, other: B) -> Flow<Ports2<Self, B>, Then<Identity, Race>> {
        race((self, other))
    }
}
