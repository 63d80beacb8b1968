//! `zip`: the first of each input, then the second of each.

use std::collections::VecDeque;

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::{
    IntoPorts, PortN,
    port::{On, Plan, on},
    port_tuple::{Port2, Port3, Port4, Port5, Port6, Port7, Port8, Ports2, for_each_arity},
};
use crate::{Flow, Identity, Operator, Then, Timestamp};

/// The operator of [`zip`].
#[derive(Clone, Copy, Debug)]
pub struct Zip {
    ports: usize,
}

impl Zip {
    /// Over `ports` inputs; tuples know their number themselves.
    pub const fn new(ports: usize) -> Self {
        Self { ports }
    }
}

/// The items of one input that wait for the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZipQueue<T> {
    waiting: VecDeque<T>,
    ended: bool,
}

impl<T> Default for ZipQueue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), ended: false }
    }
}

impl<T> ZipQueue<T> {
    fn push(&mut self, item: Option<T>) {
        match item {
            Some(item) => self.waiting.push_back(item),
            None => self.ended = true,
        }
    }

    /// No partner will come from here.
    fn is_over(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }

    fn is_vacant(&self) -> bool {
        !self.ended && self.waiting.is_empty()
    }
}

macro_rules! zip {
    ($Port:ident $($V:ident $v:ident $i:tt),+) => {
        impl<$($V),+> Operator<$Port<$($V),+>> for Zip {
            type Out = ($($V,)+);
            type State = ($(ZipQueue<$V>,)+);

            fn init(&self) -> Self::State {
                ($(ZipQueue::<$V>::default(),)+)
            }

            fn on_item(
                &self,
                state: &mut Self::State,
                item: $Port<$($V),+>,
                at: Timestamp,
                out: &mut impl FnMut(Self::Out, Timestamp),
            ) {
                match item {
                    $($Port::$V(item) => state.$i.push(item),)+
                }
                if $(state.$i.waiting.is_empty())||+ {
                    return;
                }
                if let ($(Some($v),)+) = ($(state.$i.waiting.pop_front(),)+) {
                    out(($($v,)+), at);
                }
            }

            fn closed(&self, state: &Self::State) -> bool {
                $(state.$i.is_over())||+
            }

            fn vacant(&self, state: &Self::State) -> bool {
                $(state.$i.is_vacant())&&+
            }
        }
    };
}
for_each_arity!(zip);

impl<T> Operator<PortN<T>> for Zip {
    type Out = Vec<T>;
    type State = Vec<ZipQueue<T>>;

    fn init(&self) -> Self::State {
        (0..self.ports).map(|_| ZipQueue::default()).collect()
    }

    fn on_item(&self, state: &mut Self::State, item: PortN<T>, at: Timestamp, out: &mut impl FnMut(Vec<T>, Timestamp)) {
        state[item.port].push(item.item);
        if state.iter().all(|queue| !queue.waiting.is_empty()) {
            out(state.iter_mut().filter_map(|queue| queue.waiting.pop_front()).collect(), at);
        }
    }

    fn closed(&self, state: &Self::State) -> bool {
        state.iter().any(ZipQueue::is_over)
    }

    fn vacant(&self, state: &Self::State) -> bool {
        state.iter().all(ZipQueue::is_vacant)
    }
}

/// The first item of each input together, then the second of each, and so on. A tuple of two to eight streams of any
/// types gives tuples, a `Vec` of any number of one type gives `Vec`s.
///
/// ```text
/// a    --1--2-----3--|
/// b    -----7-----8-----9--|
/// zip
/// out  -----(1,7)-(2,8)-(3,9)|
/// ```
///
/// Completes as soon as an input has ended whose items are all used up. An `Err` is an item. The end, and an early drop,
/// lose the items that wait for a partner: 1,024 at most an input, which then is not polled until the others catch up.
///
/// ```
/// use futures::stream::iter;
/// use millstream_operators::combine::zip;
///
/// # futures::executor::block_on(async {
/// assert_eq!(zip((iter(1..), iter(["a", "b"]))).collect::<Vec<_>>().await, [(1, "a"), (2, "b")]);
/// # });
/// ```
pub fn zip<P: IntoPorts>(inputs: P) -> On<P, Zip>
where
    Zip: Operator<P::Port>,
{
    let ports = inputs.ports();
    on(inputs, Plan::IN_STEP, Zip::new(ports))
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Each item of this flow with the one of `other` at the same place: see [`zip`].
    ///
    /// ```
    /// use futures::stream::iter;
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// assert_eq!(flow(iter([1, 2])).zip(iter(["a"])).collect::<Vec<_>>().await, [(1, "a")]);
    /// # });
    /// ```
    pub fn zip<B: Stream>(self, other: B) -> Flow<Ports2<Self, B>, Then<Identity, Zip>> {
        zip((self, other))
    }
}
