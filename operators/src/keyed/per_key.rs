//! `per_key`: a chain for each key.

use std::hash::Hash;

use super::Keys;
use crate::{Chain, Flow, Head, Operator, Then, Timestamp, chain};

/// The operator of [`per_key`](Flow::per_key).
#[derive(Clone, Copy, Debug)]
pub struct PerKey<F, O> {
    key: F,
    each: O,
}

impl<F, O> PerKey<F, O> {
    /// Runs `each` for every key apart.
    pub const fn new(key: F, each: O) -> Self {
        Self { key, each }
    }
}

impl<I, K: Hash + Eq, F: Fn(&I) -> K, O: Operator<I>> Operator<I> for PerKey<F, O> {
    type Out = O::Out;
    type State = Keys<K, O::State>;
    const TIMED: bool = O::TIMED;

    fn init(&self) -> Self::State {
        Keys::default()
    }

    #[inline]
    fn on_item(&self, keys: &mut Self::State, item: I, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        let key = (self.key)(&item);
        keys.item(&self.each, key, item, at, out);
    }

    fn on_time(&self, keys: &mut Self::State, now: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        keys.advance(&self.each, now, out);
    }

    fn on_end(&self, keys: &mut Self::State, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        keys.end(&self.each, at, out);
    }

    #[inline]
    fn deadline(&self, keys: &Self::State) -> Option<Timestamp> {
        keys.deadline()
    }

    #[inline]
    fn closed(&self, keys: &Self::State) -> bool {
        keys.ended()
    }

    fn vacant(&self, keys: &Self::State) -> bool {
        keys.is_empty() && !keys.ended()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Runs a chain for each key apart: a debounce per sensor, a count per user.
    ///
    /// ```text
    /// in   --a1--b1--a2-------------|
    /// per_key(letter, debounce(30 ms))
    /// out  ------------b1--a2-------|
    /// ```
    ///
    /// A key's chain starts with its first item. Keys whose state is as good as fresh are forgotten (a debounce that is
    /// quiet); those of `scan`, `distinct` or a `take` that is used up are not: [`expire`](Chain::expire) bounds them.
    ///
    /// Completes when its input has ended and every key's chain has completed; a key's chain that closes takes no more
    /// items of its key. An `Err` is an item. An early drop loses what the chains hold back. Keys that end or fire at
    /// one moment do so in the order in which they were first seen.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// let firsts = chain().per_key(|(sensor, _): &(char, u32)| *sensor, |each| each.take(1));
    /// assert_eq!(firsts.run_now([('a', 1), ('b', 2), ('a', 3)]), [('a', 1), ('b', 2)]);
    /// ```
    pub fn per_key<K, F, B>(
        self,
        key: F,
        each: impl FnOnce(Chain<O::Out>) -> Chain<O::Out, B>,
    ) -> Flow<S, Then<O, PerKey<F, B>>>
    where
        K: Hash + Eq,
        F: Fn(&O::Out) -> K,
        B: Operator<O::Out>,
    {
        self.apply(PerKey::new(key, each(chain()).operator))
    }
}
