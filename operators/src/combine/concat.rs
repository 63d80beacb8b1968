//! `concat`: one input after another.

use futures_core::Stream;

use super::{
    IntoPorts, Merge,
    port::{On, Plan, on},
    port_tuple::Ports2,
};
use crate::{Flow, Identity, Operator, Then};

/// All items of the first input, then all of the next, and so on: a tuple of two to eight streams, or a `Vec` of any
/// number. Each is polled first when the one before it has ended, so the clock of a flow among them starts then.
///
/// ```text
/// a    --1--2--|
/// b            --7--8--|
/// concat
/// out  --1--2----7--8--|
/// ```
///
/// Completes with the last input. An `Err` is an item. An early drop loses nothing.
///
/// ```
/// use futures::stream::iter;
/// use millstream_operators::combine::concat;
///
/// # futures::executor::block_on(async {
/// assert_eq!(concat((iter([1, 2]), iter([7, 8]))).collect::<Vec<_>>().await, [1, 2, 7, 8]);
/// # });
/// ```
pub fn concat<P: IntoPorts>(inputs: P) -> On<P, Merge>
where
    Merge: Operator<P::Port>,
{
    on(inputs, Plan::IN_ORDER, Merge)
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// All items of this flow, then all of `next`: see [`concat`](concat()).
    ///
    /// ```
    /// use futures::stream::iter;
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// assert_eq!(flow(iter([1])).concat(iter([2])).collect::<Vec<_>>().await, [1, 2]);
    /// # });
    /// ```
    pub fn concat<B: Stream<Item = O::Out>>(self, next: B) -> Flow<Ports2<Self, B>, Then<Identity, Merge>> {
        concat((self, next))
    }

    /// The same as [`concat`](Flow::concat), under the name that `futures` gives it.
    ///
    /// ```
    /// use futures::stream::iter;
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// assert_eq!(flow(iter([1])).chain(iter([2])).collect::<Vec<_>>().await, [1, 2]);
    /// # });
    /// ```
    pub fn chain<B: Stream<Item = O::Out>>(self, next: B) -> Flow<Ports2<Self, B>, Then<Identity, Merge>> {
        self.concat(next)
    }
}
