//! `merge`: all items of all inputs, as they come.

use futures_core::Stream;

use super::{
    IntoPorts, PortN,
    port::{On, Plan, on},
    port_tuple::{Port2, Port3, Port4, Port5, Port6, Port7, Port8, Ports2, for_each_arity},
};
use crate::{Flow, Identity, Operator, Then, Timestamp};

/// The operator of [`merge`].
#[derive(Clone, Copy, Debug)]
pub struct Merge;

macro_rules! merge {
    ($Port:ident $($V:ident $v:ident $i:tt),+) => {
        impl<T> Operator<$Port<$(merge!(@ $V T)),+>> for Merge {
            type Out = T;
            type State = ();
            const PLAIN: bool = true;

            #[inline]
            fn init(&self) {}

            #[inline(always)]
            fn on_item(
                &self,
                (): &mut (),
                item: $Port<$(merge!(@ $V T)),+>,
                at: Timestamp,
                out: &mut impl FnMut(T, Timestamp),
            ) {
                if let $($Port::$V(Some(item)))|+ = item {
                    out(item, at);
                }
            }
        }
    };
    (@ $V:ident $T:ident) => { $T };
}
for_each_arity!(merge);

impl<T> Operator<PortN<T>> for Merge {
    type Out = T;
    type State = ();
    const PLAIN: bool = true;

    #[inline]
    fn init(&self) {}

    #[inline(always)]
    fn on_item(&self, (): &mut (), item: PortN<T>, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if let Some(item) = item.item {
            out(item, at);
        }
    }
}

/// All items of all inputs, as they come: a tuple of two to eight streams, or a `Vec` of any number.
///
/// ```text
/// a    --1-----2-----|
/// b    -----7-----8----|
/// merge
/// out  --1--7--2--8----|
/// ```
///
/// Completes when all inputs have. An `Err` is an item. An early drop loses nothing. Where several inputs are ready, up
/// to 32 items in a row come from one, the first first; then the next has its turn, so none starves.
///
/// ```
/// use futures::stream::iter;
/// use millstream_operators::combine::merge;
///
/// # futures::executor::block_on(async {
/// assert_eq!(merge((iter([1, 2]), iter([7, 8]), iter([9]))).collect::<Vec<_>>().await, [1, 2, 7, 8, 9]);
/// assert_eq!(merge(vec![iter(0..2); 3]).count().next().await, Some(6));
/// # });
/// ```
pub fn merge<P: IntoPorts>(inputs: P) -> On<P, Merge>
where
    Merge: Operator<P::Port>,
{
    on(inputs, Plan::ALL, Merge)
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// All items of this flow and of `other`, as they come: see [`merge`].
    ///
    /// ```
    /// use futures::stream::iter;
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// assert_eq!(flow(iter([1])).merge(iter([2])).collect::<Vec<_>>().await, [1, 2]);
    /// # });
    /// ```
    pub fn merge<B: Stream<Item = O::Out>>(self, other: B) -> Flow<Ports2<Self, B>, Then<Identity, Merge>> {
        merge((self, other))
    }
}
