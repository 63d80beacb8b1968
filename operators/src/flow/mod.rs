//! One type for both: a chain bound to no source, and the same chain on a stream.

mod boxed;
mod chain;
mod clock;
mod driver;
mod head;
mod project;
mod terminal;

use std::fmt;

use futures_core::Stream;

pub use boxed::{BoxChain, BoxFlow, BoxOperator, BoxState};
pub use chain::{Chain, chain};
pub use driver::Running;
pub use head::{Head, Open};

use crate::{Identity, Operator, Then};

/// A chain of operators on a stream; itself a stream.
///
/// Every operator is a method here, written once for flows, for [`Chain`]s and for keyed scopes. The methods are
/// inherent, so they win where `futures::StreamExt` or `tokio_stream::StreamExt` is imported as well.
///
/// # Time
/// A flow's time begins at [`Timestamp::EPOCH`](crate::Timestamp::EPOCH) with its first poll and is read from tokio's
/// clock, so a paused tokio runtime owns it. A flow without timed operators needs no runtime.
///
/// # Back-pressure
/// A flow is pulled: it takes from its source only when its consumer polls, until something comes out. So an operator
/// that sheds load (`throttle`, `sample`) sees only what its consumer polls for;
/// [`spawn`](Flow::spawn) moves the source to a task of its own.
///
/// # Cancel safety
/// Dropping a flow drops its source and whatever its operators hold back. Dropping the future of
/// [`next`](Flow::next) loses nothing.
///
/// # Panics
/// With timed operators, where it is polled outside a tokio runtime that has time enabled.
///
/// A closure that panics does so in the poll that called it and leaves the state of this flow alone half changed; drop
/// the flow then.
///
/// ```
/// use millstream_operators::flow;
///
/// # futures::executor::block_on(async {
/// let mut evens = flow(futures::stream::iter(1..=5)).filter(|x| x % 2 == 0).map(|x| x * 10);
/// assert_eq!(evens.next().await, Some(20));
/// assert_eq!(evens.collect::<Vec<_>>().await, [40]);
/// # });
/// ```
#[must_use = "a flow does nothing until it is polled, a chain until it is run"]
pub struct Flow<S: Head, O: Operator<S::Item> = Identity> {
    pub(crate) head: S,
    pub(crate) operator: O,
    pub(crate) run: S::Run<O::State, O::Out>,
}

/// Begins a flow on a stream.
///
/// ```
/// use millstream_operators::flow;
///
/// # futures::executor::block_on(async {
/// assert_eq!(flow(futures::stream::iter(["a", "b"])).to_vec().next().await, Some(vec!["a", "b"]));
/// # });
/// ```
pub fn flow<S: Stream>(stream: S) -> Flow<S> {
    Flow { head: stream, operator: Identity, run: <S as Head>::fresh() }
}

/// Begins a flow as a method of any stream.
///
/// ```
/// use millstream_operators::IntoFlow;
///
/// # futures::executor::block_on(async {
/// assert_eq!(futures::stream::iter(1..=3).flow().map(|x| x + 1).collect::<Vec<_>>().await, [2, 3, 4]);
/// # });
/// ```
pub trait IntoFlow: Stream + Sized {
    /// The same as [`flow`]`(self)`.
    fn flow(self) -> Flow<Self> {
        flow(self)
    }
}

impl<S: Stream> IntoFlow for S {}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Adds any operator: one of this crate's, your own, or a whole [`Chain`].
    ///
    /// On a flow that has been polled before, the operator starts now and sees what has not been handed out yet.
    ///
    /// ```
    /// use millstream_operators::{Chain, Operator, chain};
    ///
    /// fn loud() -> Chain<u32, impl Operator<u32, Out = u32>> {
    ///     chain().filter(|x| *x > 2).take(2)
    /// }
    ///
    /// assert_eq!(chain().map(|x: u32| x + 1).apply(loud()).run_now(0..10), [3, 4]);
    /// ```
    #[inline]
    pub fn apply<B: Operator<O::Out>>(self, operator: B) -> Flow<S, Then<O, B>> {
        let operator = Then::new(self.operator, operator);
        let run = S::grow(self.run, |running| running.grown(&operator));
        Flow { head: self.head, operator, run }
    }

    /// The logic of the chain, as one operator.
    pub fn operator(&self) -> &O {
        &self.operator
    }

    /// Where the chain begins.
    pub fn head(&self) -> &S {
        &self.head
    }
}

impl<S: Head, O: Operator<S::Item>> fmt::Debug for Flow<S, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").finish_non_exhaustive()
    }
}
