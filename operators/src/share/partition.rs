//! `partition`: those that pass, and the others.

use futures_core::Stream;

use super::{
    Part,
    split::{Route, outputs},
};
use crate::{Flow, Operator};

/// How [`partition`] routes: what passes to output 0, the rest to 1.
#[derive(Clone, Copy, Debug)]
pub struct Passes<P>(P);

impl<T, P: FnMut(&T) -> bool> Route<T> for Passes<P> {
    fn route(&mut self, item: &T) -> usize {
        usize::from(!(self.0)(item))
    }
}

/// The two outputs of [`partition`].
pub type Halves<S, P> = (Flow<Part<S, Passes<P>>>, Flow<Part<S, Passes<P>>>);

/// The items of `source` for which `passes` is true, and the others: see [`Flow::partition`].
///
/// ```
/// use futures::stream::iter;
/// use millstream_operators::share::partition;
///
/// # futures::executor::block_on(async {
/// let (even, odd) = partition(iter(1..=4), |x| x % 2 == 0);
/// assert_eq!(even.collect::<Vec<_>>().await, [2, 4]);
/// assert_eq!(odd.collect::<Vec<_>>().await, [1, 3]);
/// # });
/// ```
pub fn partition<S: Stream, P: FnMut(&S::Item) -> bool>(source: S, passes: P) -> Halves<S, P> {
    outputs(source, Passes(passes)).into()
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Two outputs: the items for which `passes` is true, and the others.
    ///
    /// ```text
    /// in    --1--2--3--4--|
    /// partition(even)
    /// even  -----2-----4--|
    /// odd   --1-----3-----|
    /// ```
    ///
    /// Its promise is that of [`split`](Flow::split).
    ///
    /// ```
    /// use millstream_operators::flow;
    ///
    /// # futures::executor::block_on(async {
    /// let (even, odd) = flow(futures::stream::iter(1..=4)).partition(|x| x % 2 == 0);
    /// assert_eq!(even.collect::<Vec<_>>().await, [2, 4]);
    /// assert_eq!(odd.collect::<Vec<_>>().await, [1, 3]);
    /// # });
    /// ```
    pub fn partition<P: FnMut(&O::Out) -> bool>(self, passes: P) -> Halves<Self, P> {
        partition(self, passes)
    }
}
