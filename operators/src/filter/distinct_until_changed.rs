//! `distinct_until_changed`: drops repeats.

use crate::{Flow, Head, Operator, Then, Timestamp, durable::Held};

/// The operator of [`distinct_until_changed`](Flow::distinct_until_changed).
#[derive(Clone, Copy, Debug)]
pub struct DistinctUntilChanged;

impl<T: PartialEq + Clone> Operator<T> for DistinctUntilChanged {
    type Out = T;
    type State = Held<T>;

    #[inline]
    fn init(&self) -> Held<T> {
        Held::default()
    }

    #[inline]
    fn on_item(&self, last: &mut Held<T>, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if last.as_ref() != Some(&item) {
            **last = Some(item.clone());
            out(item, at);
        }
    }

    fn vacant(&self, last: &Held<T>) -> bool {
        last.is_none()
    }
}

/// The operator of [`distinct_until_key_changed`](Flow::distinct_until_key_changed).
#[derive(Clone, Copy, Debug)]
pub struct DistinctUntilKeyChanged<F>(F);

impl<T, K: PartialEq, F: Fn(&T) -> K> Operator<T> for DistinctUntilKeyChanged<F> {
    type Out = T;
    type State = Held<K>;

    #[inline]
    fn init(&self) -> Held<K> {
        Held::default()
    }

    #[inline]
    fn on_item(&self, last: &mut Held<K>, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        let key = Some((self.0)(&item));
        if **last != key {
            **last = key;
            out(item, at);
        }
    }

    fn vacant(&self, last: &Held<K>) -> bool {
        last.is_none()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Drops each item that equals the one before it.
    ///
    /// ```text
    /// in   --1--1--2--1--|
    /// distinct_until_changed
    /// out  --1-----2--1--|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; an early drop loses nothing. Keeps one item.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().distinct_until_changed().run_now([1, 1, 2, 1]), [1, 2, 1]);
    /// ```
    pub fn distinct_until_changed(self) -> Flow<S, Then<O, DistinctUntilChanged>>
    where
        O::Out: PartialEq + Clone,
    {
        self.apply(DistinctUntilChanged)
    }

    /// Drops each item whose key equals that of the one before it.
    ///
    /// ```text
    /// in   --1--3--2--1--|
    /// distinct_until_key_changed(x % 2)
    /// out  --1-----2--1--|
    /// ```
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().distinct_until_key_changed(|x| x % 2).run_now([1, 3, 2, 1]), [1, 2, 1]);
    /// ```
    pub fn distinct_until_key_changed<K, F>(self, key: F) -> Flow<S, Then<O, DistinctUntilKeyChanged<F>>>
    where
        K: PartialEq,
        F: Fn(&O::Out) -> K,
    {
        self.apply(DistinctUntilKeyChanged(key))
    }
}
