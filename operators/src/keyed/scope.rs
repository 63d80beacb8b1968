//! `key_by`: the same as `per_key`, written in a row.

use std::hash::Hash;

use super::PerKey;
use crate::{Flow, Head, Identity, Operator, Running, Then};

/// The head of a keyed scope: from [`key_by`](Flow::key_by) to [`unkey`](Flow::unkey).
#[derive(Clone, Copy, Debug)]
pub struct Keyed<H, P, F> {
    head: H,
    before: P,
    key: F,
}

impl<H: Head, P: Operator<H::Item>, F> Head for Keyed<H, P, F> {
    type Item = P::Out;
    type Run<St, T> = ();

    fn fresh<St, T>() {}

    fn grow<St, T, St2, T2>((): (), _: impl FnOnce(Running<St, T>) -> Running<St2, T2>) {}
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Opens a keyed scope: every operator up to [`unkey`](Flow::unkey) runs for each key apart. The same as
    /// [`per_key`](Flow::per_key), which says what it promises; this reads well where the chain is long.
    ///
    /// Call it on a flow that has not been polled: the scope starts afresh.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// let sums = chain().key_by(|x| x % 2).scan(0, |sum, x: u32| *sum += x).unkey();
    /// assert_eq!(sums.run_now([1, 2, 3, 4]), [1, 2, 4, 6]);
    /// ```
    pub fn key_by<K: Hash + Eq, F: Fn(&O::Out) -> K>(self, key: F) -> Flow<Keyed<S, O, F>> {
        Flow { head: Keyed { head: self.head, before: self.operator, key }, operator: Identity, run: () }
    }
}

impl<H, P, K, F, O> Flow<Keyed<H, P, F>, O>
where
    H: Head,
    P: Operator<H::Item>,
    K: Hash + Eq,
    F: Fn(&P::Out) -> K,
    O: Operator<P::Out>,
{
    /// Closes the keyed scope; what comes out of all keys goes on as one.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// let one_each = chain().key_by(|x| x % 3).take(1).unkey().count();
    /// assert_eq!(one_each.run_now(0..9), [3]);
    /// ```
    pub fn unkey(self) -> Flow<H, Then<P, PerKey<F, O>>> {
        let Keyed { head, before, key } = self.head;
        Flow { head, operator: Then::new(before, PerKey::new(key, self.operator)), run: H::fresh() }
    }
}
