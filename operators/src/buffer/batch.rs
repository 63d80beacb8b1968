//! `batch`: by count, by weight, or when the first item has waited long enough.

use std::{num::NonZeroUsize, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Flow, Head, Operator, Then, Timestamp,
    build_error::{Period, built, count},
};

/// The most that a batch reserves ahead of its items.
const RESERVE: usize = 1_024;

/// The operator of [`batch`](Flow::batch).
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    size: NonZeroUsize,
    wait: Period,
}

impl Batch {
    /// `size` items, or what there is when the first has waited for `wait`.
    ///
    /// # Errors
    /// [`BuildError::ZeroCount`] where `size` is zero, [`BuildError::ZeroPeriod`] where `wait` is.
    pub fn new(size: usize, wait: Duration) -> Result<Self, BuildError> {
        Ok(Self { size: count("batch", "size", size)?, wait: Period::new("batch", "longest wait", wait)? })
    }
}

/// What [`Batch`] remembers: the items so far, and when they are due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchState<T> {
    items: Vec<T>,
    due: Timestamp,
}

impl<T> Operator<T> for Batch {
    type Out = Vec<T>;
    type State = BatchState<T>;
    const TIMED: bool = true;

    fn init(&self) -> BatchState<T> {
        BatchState { items: Vec::new(), due: Timestamp::EPOCH }
    }

    #[inline]
    fn on_item(&self, state: &mut BatchState<T>, item: T, at: Timestamp, out: &mut impl FnMut(Vec<T>, Timestamp)) {
        if state.items.is_empty() {
            state.due = self.wait.after(at);
            state.items.reserve_exact(self.size.get().min(RESERVE));
        }
        state.items.push(item);
        if state.items.len() >= self.size.get() {
            out(std::mem::take(&mut state.items), at);
        }
    }

    fn on_time(&self, state: &mut BatchState<T>, now: Timestamp, out: &mut impl FnMut(Vec<T>, Timestamp)) {
        out(std::mem::take(&mut state.items), now);
    }

    fn on_end(&self, state: &mut BatchState<T>, at: Timestamp, out: &mut impl FnMut(Vec<T>, Timestamp)) {
        if !state.items.is_empty() {
            out(std::mem::take(&mut state.items), at);
        }
    }

    #[inline]
    fn deadline(&self, state: &BatchState<T>) -> Option<Timestamp> {
        (!state.items.is_empty()).then_some(state.due)
    }

    fn vacant(&self, state: &BatchState<T>) -> bool {
        state.items.is_empty()
    }
}

/// The operator of [`batch_weight`](Flow::batch_weight).
#[derive(Clone, Copy, Debug)]
pub struct BatchWeight<F> {
    max: NonZeroUsize,
    wait: Period,
    weigh: F,
}

impl<F> BatchWeight<F> {
    /// Items that weigh `max` together, or what there is when the first has waited for `wait`.
    ///
    /// # Errors
    /// [`BuildError::ZeroCount`] where `max` is zero, [`BuildError::ZeroPeriod`] where `wait` is.
    pub fn new(max: usize, wait: Duration, weigh: F) -> Result<Self, BuildError> {
        let max = count("batch_weight", "greatest weight", max)?;
        Ok(Self { max, wait: Period::new("batch_weight", "longest wait", wait)?, weigh })
    }
}

/// What [`BatchWeight`] remembers: the items so far, what they weigh, and when they are due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchWeightState<T> {
    items: Vec<T>,
    weight: usize,
    due: Timestamp,
}

impl<T> BatchWeightState<T> {
    fn take(&mut self) -> Vec<T> {
        self.weight = 0;
        std::mem::take(&mut self.items)
    }
}

impl<T, F: Fn(&T) -> usize> Operator<T> for BatchWeight<F> {
    type Out = Vec<T>;
    type State = BatchWeightState<T>;
    const TIMED: bool = true;

    fn init(&self) -> BatchWeightState<T> {
        BatchWeightState { items: Vec::new(), weight: 0, due: Timestamp::EPOCH }
    }

    fn on_item(
        &self,
        state: &mut BatchWeightState<T>,
        item: T,
        at: Timestamp,
        out: &mut impl FnMut(Vec<T>, Timestamp),
    ) {
        let (max, weight) = (self.max.get(), (self.weigh)(&item));
        if !state.items.is_empty() && state.weight.saturating_add(weight) > max {
            out(state.take(), at);
        }
        if state.items.is_empty() {
            state.due = self.wait.after(at);
        }
        state.items.push(item);
        state.weight = state.weight.saturating_add(weight);
        if state.weight >= max {
            out(state.take(), at);
        }
    }

    fn on_time(&self, state: &mut BatchWeightState<T>, now: Timestamp, out: &mut impl FnMut(Vec<T>, Timestamp)) {
        out(state.take(), now);
    }

    fn on_end(&self, state: &mut BatchWeightState<T>, at: Timestamp, out: &mut impl FnMut(Vec<T>, Timestamp)) {
        if !state.items.is_empty() {
            out(state.take(), at);
        }
    }

    fn deadline(&self, state: &BatchWeightState<T>) -> Option<Timestamp> {
        (!state.items.is_empty()).then_some(state.due)
    }

    fn vacant(&self, state: &BatchWeightState<T>) -> bool {
        state.items.is_empty()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gathers `size` items into one `Vec`, or what there is when the first of them has waited for `wait`. Never empty.
    ///
    /// ```text
    /// in   -1-2-3----------4-----|
    /// batch(2, 30 ms)
    /// out  ---[1,2]--[3]-----[4]-|
    /// ```
    ///
    /// Completes with its input, after what there is, at once. An `Err` is an item. An early drop loses what was
    /// gathered. Holds `size` items at most.
    ///
    /// # Panics
    /// Where `size` or `wait` is zero; [`Batch::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain};
    ///
    /// let ms = Timestamp::from_millis;
    /// let batch = chain().batch(2, Duration::from_millis(30));
    /// let items = [(1, ms(10)), (2, ms(20)), (3, ms(30))];
    /// assert_eq!(batch.run(items, ms(90)), [(vec![1, 2], ms(20)), (vec![3], ms(60))]);
    /// ```
    #[track_caller]
    pub fn batch(self, size: usize, wait: Duration) -> Flow<S, Then<O, Batch>> {
        self.apply(built(Batch::new(size, wait)))
    }

    /// Gathers items into one `Vec` that weighs `max` at most, or what there is when the first has waited for `wait`.
    /// A single item that weighs more makes a batch of its own.
    ///
    /// ```text
    /// in   -aa-b---cccc--d---------|
    /// batch_weight(4, 30 ms, length)
    /// out  -------[aa,b][cccc]--[d]|
    /// ```
    ///
    /// Its promise is that of [`batch`](Flow::batch).
    ///
    /// # Panics
    /// Where `max` or `wait` is zero; [`BatchWeight::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::chain;
    ///
    /// let batch = chain().batch_weight(4, Duration::from_secs(1), |word: &&str| word.len());
    /// assert_eq!(batch.run_now(["aa", "b", "cccc", "d"]), [vec!["aa", "b"], vec!["cccc"], vec!["d"]]);
    /// ```
    #[track_caller]
    pub fn batch_weight<F>(self, max: usize, wait: Duration, weigh: F) -> Flow<S, Then<O, BatchWeight<F>>>
    where
        F: Fn(&O::Out) -> usize,
    {
        self.apply(built(BatchWeight::new(max, wait, weigh)))
    }
}
