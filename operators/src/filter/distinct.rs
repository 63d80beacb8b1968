//! `distinct`: each value once.

use std::{collections::HashSet, hash::Hash};

use foldhash::fast::RandomState;

use crate::{Flow, Head, Operator, Then, Timestamp};

/// The operator of [`distinct`](Flow::distinct).
#[derive(Clone, Copy, Debug)]
pub struct Distinct;

impl<T: Hash + Eq + Clone> Operator<T> for Distinct {
    type Out = T;
    type State = HashSet<T, RandomState>;

    fn init(&self) -> Self::State {
        HashSet::default()
    }

    fn on_item(&self, seen: &mut Self::State, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if seen.insert(item.clone()) {
            out(item, at);
        }
    }

    fn vacant(&self, seen: &Self::State) -> bool {
        seen.is_empty()
    }
}

/// The operator of [`distinct_by_key`](Flow::distinct_by_key).
#[derive(Clone, Copy, Debug)]
pub struct DistinctByKey<F>(F);

impl<T, K: Hash + Eq, F: Fn(&T) -> K> Operator<T> for DistinctByKey<F> {
    type Out = T;
    type State = HashSet<K, RandomState>;

    fn init(&self) -> Self::State {
        HashSet::default()
    }

    fn on_item(&self, seen: &mut Self::State, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if seen.insert((self.0)(&item)) {
            out(item, at);
        }
    }

    fn vacant(&self, seen: &Self::State) -> bool {
        seen.is_empty()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Lets each value pass once. It remembers every value for ever: for a long stream, bound it with
    /// [`per_key`](Flow::per_key) and a time to live, or use [`distinct_until_changed`](Flow::distinct_until_changed).
    ///
    /// ```text
    /// in   --1--2--1--3--|
    /// distinct
    /// out  --1--2-----3--|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; an early drop loses the memory and no item.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().distinct().run_now([1, 2, 1, 3]), [1, 2, 3]);
    /// ```
    pub fn distinct(self) -> Flow<S, Then<O, Distinct>>
    where
        O::Out: Hash + Eq + Clone,
    {
        self.apply(Distinct)
    }

    /// Lets the first item of each key pass, and remembers every key for ever.
    ///
    /// ```text
    /// in   --1--2--3--4--|
    /// distinct_by_key(x % 2)
    /// out  --1--2--------|
    /// ```
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().distinct_by_key(|x| x % 2).run_now([1, 2, 3, 4]), [1, 2]);
    /// ```
    pub fn distinct_by_key<K: Hash + Eq, F: Fn(&O::Out) -> K>(self, key: F) -> Flow<S, Then<O, DistinctByKey<F>>> {
        self.apply(DistinctByKey(key))
    }
}
