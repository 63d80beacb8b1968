//! `min`: the least item.

use crate::{Flow, Head, Operator, Then, Timestamp, durable::Held};

/// The operator of [`min`](Flow::min).
#[derive(Clone, Copy, Debug)]
pub struct Min;

impl<T: Ord> Operator<T> for Min {
    type Out = T;
    type State = Held<T>;

    #[inline]
    fn init(&self) -> Held<T> {
        Held::default()
    }

    #[inline]
    fn on_item(&self, best: &mut Held<T>, item: T, _: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        match &**best {
            Some(before) if *before < item => {}
            _ => **best = Some(item),
        }
    }

    fn on_end(&self, best: &mut Held<T>, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if let Some(item) = best.take() {
            out(item, at);
        }
    }

    fn vacant(&self, best: &Held<T>) -> bool {
        best.is_none()
    }
}

/// The operator of [`min_by_key`](Flow::min_by_key).
#[derive(Clone, Copy, Debug)]
pub struct MinByKey<F>(F);

impl<T, K: Ord, F: Fn(&T) -> K> Operator<T> for MinByKey<F> {
    type Out = T;
    type State = Option<(K, T)>;

    #[inline]
    fn init(&self) -> Self::State {
        None
    }

    #[inline]
    fn on_item(&self, best: &mut Self::State, item: T, _: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        let key = (self.0)(&item);
        match best {
            Some((before, _)) if *before < key => {}
            _ => *best = Some((key, item)),
        }
    }

    fn on_end(&self, best: &mut Self::State, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if let Some((_, item)) = best.take() {
            out(item, at);
        }
    }

    fn vacant(&self, best: &Self::State) -> bool {
        best.is_none()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out the least item when the input ends; of equal ones the LAST, as RxJS does. An input without items gives
    /// nothing.
    ///
    /// ```text
    /// in   --2--1--3--|
    /// min
    /// out  -----------1|
    /// ```
    ///
    /// Completes with its input; an `Err` is an item like any other; an early drop loses the item kept.
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().min().run_now([2, 1, 3]), [1]);
    /// ```
    pub fn min(self) -> Flow<S, Then<O, Min>>
    where
        O::Out: Ord,
    {
        self.apply(Min)
    }

    /// Gives out the item with the least key when the input ends; of equal keys the LAST, unlike `Iterator::min_by_key`.
    ///
    /// ```text
    /// in   --bb--ddd--ee--ccc--|
    /// min_by_key(length)
    /// out  --------------------ee|
    /// ```
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// let words = ["bb", "ddd", "ee", "ccc"];
    /// assert_eq!(chain().min_by_key(|word: &&str| word.len()).run_now(words), ["ee"]);
    /// ```
    pub fn min_by_key<K: Ord, F: Fn(&O::Out) -> K>(self, key: F) -> Flow<S, Then<O, MinByKey<F>>> {
        self.apply(MinByKey(key))
    }
}
