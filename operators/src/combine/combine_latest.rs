//! `combine_latest`: the latest of every input, whenever one changes.

use futures_core::Stream;

use super::{
    IntoPorts, PortN,
    port::{On, Plan, on},
    port_tuple::{Port2, Port3, Port4, Port5, Port6, Port7, Port8, Ports2, for_each_arity},
};
use crate::{Flow, Identity, Operator, Then, Timestamp, durable::Held};

/// The operator of [`combine_latest`].
#[derive(Clone, Copy, Debug)]
pub struct CombineLatest {
    ports: usize,
}

impl CombineLatest {
    /// Over `ports` inputs; tuples know their number themselves.
    pub const fn new(ports: usize) -> Self {
        Self { ports }
    }
}

macro_rules! combine_latest {
    ($Port:ident $($V:ident $v:ident $i:tt),+) => {
        impl<$($V: Clone),+> Operator<$Port<$($V),+>> for CombineLatest {
            type Out = ($($V,)+);
            /// The latest of each input.
            type State = ($(Held<$V>,)+);

            fn init(&self) -> Self::State {
                ($(Held::<$V>::default(),)+)
            }

            #[inline]
            fn on_item(
                &self,
                state: &mut Self::State,
                item: $Port<$($V),+>,
                at: Timestamp,
                out: &mut impl FnMut(Self::Out, Timestamp),
            ) {
                match item {
                    $($Port::$V(Some(item)) => *state.$i = Some(item),)+
                    // An input's end changes nothing.
                    _ => return,
                }
                if let ($(Some($v),)+) = ($(&*state.$i,)+) {
                    out(($($v.clone(),)+), at);
                }
            }

            fn vacant(&self, state: &Self::State) -> bool {
                true $(&& state.$i.is_none())+
            }
        }
    };
}
for_each_arity!(combine_latest);

impl<T: Clone> Operator<PortN<T>> for CombineLatest {
    type Out = Vec<T>;
    /// The latest of each input.
    type State = Vec<Held<T>>;

    fn init(&self) -> Self::State {
        vec![Held::default(); self.ports]
    }

    fn on_item(&self, state: &mut Self::State, item: PortN<T>, at: Timestamp, out: &mut impl FnMut(Vec<T>, Timestamp)) {
        let Some(latest) = item.item else { return };
        *state[item.port] = Some(latest);
        if state.iter().all(|latest| latest.is_some()) {
            out(state.iter().filter_map(|latest| (**latest).clone()).collect(), at);
        }
    }

    fn vacant(&self, state: &Self::State) -> bool {
        state.iter().all(|latest| latest.is_none())
    }
}

/// The latest item of every input, whenever one of them gives one; nothing until each has given one. A tuple of two to
/// eight streams of any types gives tuples, a `Vec` of any number of one type gives `Vec`s.
///
/// ```text
/// a    --1--------2-----|
/// b    -----7--8----------|
/// combine_latest
/// out  -----(1,7)-(1,8)-(2,8)-|
/// ```
///
/// Completes when ALL inputs have, as RxJS 7.8 does (not when one has ended empty). An `Err` is an item. An early drop
/// loses nothing. Two inputs that change at the same moment give two items, in the order of the inputs.
///
/// ```
/// use futures::stream::iter;
/// use millstream_operators::combine::combine_latest;
///
/// # futures::executor::block_on(async {
/// let mut both = combine_latest((iter([1, 2]), iter(["a", "b"])));
/// assert_eq!(both.collect::<Vec<_>>().await, [(2, "a"), (2, "b")]);
/// # });
/// ```
pub fn combine_latest<P: IntoPorts>(inputs: P) -> On<P, CombineLatest>
where
    CombineLatest: Operator<P::Port>,
{
    let ports = inputs.ports();
    on(inputs, Plan::ALL, CombineLatest::new(ports))
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// The latest item of this flow with the latest of `other`: see [`combine_latest`].
    ///
    /// ```
    /// use futures::stream::iter;
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// assert_eq!(flow(iter([1, 2])).combine_latest(iter(["a"])).collect::<Vec<_>>().await, [(2, "a")]);
    /// # });
    /// ```
    pub fn combine_latest<B: Stream>(self, other: B) -> Flow<Ports2<Self, B>, Then<Identity, CombineLatest>>
    where
        O::Out: Clone,
        B::Item: Clone,
    {
        combine_latest((self, other))
    }
}
