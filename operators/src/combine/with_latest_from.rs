//! `with_latest_from`: each item of the first input with the latest of the others.

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::{
    IntoPorts, PortN,
    port::{On, Plan, on},
    port_tuple::{Port2, Port3, Port4, Port5, Port6, Port7, Port8, Ports2, for_each_arity},
};
use crate::{Flow, Identity, Operator, Then, Timestamp, durable::Held};

/// The operator of [`with_latest_from`].
#[derive(Clone, Copy, Debug)]
pub struct WithLatestFrom {
    ports: usize,
}

impl WithLatestFrom {
    /// Over `ports` inputs, the first among them; tuples know their number themselves.
    pub const fn new(ports: usize) -> Self {
        Self { ports }
    }
}

/// What [`WithLatestFrom`] remembers: the latest of each input but the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithLatestState<L> {
    latest: L,
    ended: bool,
}

macro_rules! with_latest_from {
    ($Port:ident $First:ident $first:ident $zero:tt, $($V:ident $v:ident $i:tt),+) => {
        impl<$First, $($V: Clone),+> Operator<$Port<$First, $($V),+>> for WithLatestFrom {
            type Out = ($First, $($V,)+);
            type State = WithLatestState<($(Held<$V>,)+)>;

            fn init(&self) -> Self::State {
                WithLatestState { latest: ($(Held::<$V>::default(),)+), ended: false }
            }

            fn on_item(
                &self,
                state: &mut Self::State,
                item: $Port<$First, $($V),+>,
                at: Timestamp,
                out: &mut impl FnMut(Self::Out, Timestamp),
            ) {
                let ($($v,)+) = &mut state.latest;
                match item {
                    $Port::$First(Some($first)) => {
                        if let ($(Some($v),)+) = ($(&**$v,)+) {
                            out(($first, $($v.clone(),)+), at);
                        }
                    }
                    $Port::$First(None) => state.ended = true,
                    $($Port::$V(Some(item)) => **$v = Some(item),)+
                    // Its latest stays.
                    $($Port::$V(None))|+ => {}
                }
            }

            fn closed(&self, state: &Self::State) -> bool {
                state.ended
            }

            fn vacant(&self, state: &Self::State) -> bool {
                let ($($v,)+) = &state.latest;
                !state.ended $(&& $v.is_none())+
            }
        }
    };
}
for_each_arity!(with_latest_from);

impl<T: Clone> Operator<PortN<T>> for WithLatestFrom {
    type Out = Vec<T>;
    type State = WithLatestState<Vec<Held<T>>>;

    fn init(&self) -> Self::State {
        WithLatestState { latest: vec![Held::default(); self.ports.saturating_sub(1)], ended: false }
    }

    fn on_item(&self, state: &mut Self::State, item: PortN<T>, at: Timestamp, out: &mut impl FnMut(Vec<T>, Timestamp)) {
        match (item.port, item.item) {
            (0, Some(first)) if state.latest.iter().all(|latest| latest.is_some()) => {
                let others = state.latest.iter().filter_map(|latest| (**latest).clone());
                out(std::iter::once(first).chain(others).collect(), at);
            }
            (0, None) => state.ended = true,
            (port, Some(item)) if port > 0 => *state.latest[port - 1] = Some(item),
            _ => {}
        }
    }

    fn closed(&self, state: &Self::State) -> bool {
        state.ended
    }

    fn vacant(&self, state: &Self::State) -> bool {
        !state.ended && state.latest.iter().all(|latest| latest.is_none())
    }
}

/// Each item of the first input with the latest of every other; nothing until each other has given one. A tuple of two
/// to eight streams of any types gives tuples, a `Vec` of any number of one type gives `Vec`s.
///
/// ```text
/// a    --1-----2-----3--|
/// b    -----7-----8-----------|
/// with_latest_from
/// out  --------(2,7)-(3,8)|
/// ```
///
/// Completes with the first input. An `Err` is an item. An early drop loses nothing. Items of the first input before
/// every other has given one are lost, and items of the others that are followed before the first input speaks. At the
/// same moment the others are taken first.
///
/// ```
/// use futures::stream::iter;
/// use millstream_operators::combine::with_latest_from;
///
/// # futures::executor::block_on(async {
/// let pairs = with_latest_from((iter([1, 2]), iter(["a", "b"])));
/// assert_eq!(pairs.collect::<Vec<_>>().await, [(1, "b"), (2, "b")]);
/// # });
/// ```
pub fn with_latest_from<P: IntoPorts>(inputs: P) -> On<P, WithLatestFrom>
where
    WithLatestFrom: Operator<P::Port>,
{
    let ports = inputs.ports();
    on(inputs, Plan::FIRST_LAST, WithLatestFrom::new(ports))
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Each item of this flow with the latest of `other`: see [`with_latest_from`].
    ///
    /// ```
    /// use futures::stream::iter;
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// assert_eq!(flow(iter([1, 2])).with_latest_from(iter(["a"])).collect::<Vec<_>>().await, [(1, "a"), (2, "a")]);
    /// # });
    /// ```
    pub fn with_latest_from<B: Stream>(self, other: B) -> Flow<Ports2<Self, B>, Then<Identity, WithLatestFrom>>
    where
        B::Item: Clone,
    {
        with_latest_from((self, other))
    }
}
