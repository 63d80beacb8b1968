//! `reorder`: the order of event time, from items that come out of it.

use std::{cmp::Ordering, collections::BinaryHeap, num::NonZeroUsize, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{BuildError, Flow, Head, Operator, Then, Timestamp, build_error::count};

/// An item that came when the watermark had passed it: event time has gone on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("late by {:?}", self.behind())]
pub struct Late<T> {
    /// The item.
    pub item: T,
    /// Its time.
    pub at: Timestamp,
    /// The watermark when it came; later than `at`.
    pub watermark: Timestamp,
}

impl<T> Late<T> {
    /// How long the watermark was past it.
    pub const fn behind(&self) -> Duration {
        self.watermark.since(self.at)
    }
}

/// The operator of [`reorder`](Flow::reorder).
#[derive(Clone, Copy, Debug)]
pub struct Reorder<F> {
    time: F,
    lateness: Duration,
    max: Option<NonZeroUsize>,
}

impl<F> Reorder<F> {
    /// Orders by `time`, with a watermark that is `lateness` behind the newest item; zero is allowed, and then only
    /// input in order is not late.
    pub const fn new(time: F, lateness: Duration) -> Self {
        Self { time, lateness, max: None }
    }

    /// Holds at most `max` items: one more pushes the watermark on to the oldest of them, which comes out. So a burst
    /// costs lateness, which is counted, and not memory. Default: as many as come within the lateness.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain, time::{Late, Reorder}};
    ///
    /// let few = Reorder::new(|second: &u64| Timestamp::from_secs(*second), Duration::from_secs(60)).max(2)?;
    /// let seen = chain().apply(few).map(|item| item.map_err(|late| late.item)).run_now([8, 5, 9, 3]);
    /// assert_eq!(seen, [Ok(5), Err(3), Ok(8), Ok(9)]);
    /// # Ok::<(), millstream_operators::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// [`BuildError::ZeroCount`] where `max` is zero.
    pub fn max(self, max: usize) -> Result<Self, BuildError> {
        Ok(Self { max: Some(count("reorder", "greatest number of items", max)?), ..self })
    }

    /// Takes an item in, or hands it back as late. What is [due](ReorderState::pop_due) then is in order.
    #[inline]
    pub(super) fn insert<T>(&self, state: &mut ReorderState<T>, item: T) -> Result<(), Late<T>>
    where
        F: Fn(&T) -> Timestamp,
    {
        let at = (self.time)(&item);
        if at < state.watermark {
            state.late = state.late.saturating_add(1);
            return Err(Late { item, at, watermark: state.watermark });
        }
        state.waiting.push(Waiting { at, arrival: state.arrivals, item });
        state.arrivals += 1;
        state.newest = state.newest.max(at);
        state.watermark = state.watermark.max(at - self.lateness);
        if self.max.is_some_and(|max| state.waiting.len() > max.get())
            && let Some(oldest) = state.waiting.peek()
        {
            state.watermark = state.watermark.max(oldest.at);
        }
        Ok(())
    }
}

/// An item that waits for the watermark. The greatest is the oldest, and of one time the one that came first.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waiting<T> {
    at: Timestamp,
    arrival: u64,
    item: T,
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.arrival).cmp(&(self.at, self.arrival))
    }
}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Waiting<T> {}

/// What [`Reorder`] remembers: the items that wait, the watermark, and how many came too late.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReorderState<T> {
    waiting: BinaryHeap<Waiting<T>>,
    /// How many were taken in: the order of items of one time.
    arrivals: u64,
    newest: Timestamp,
    watermark: Timestamp,
    late: u64,
}

impl<T> ReorderState<T> {
    pub(super) fn fresh() -> Self {
        let (newest, watermark) = (Timestamp::EPOCH, Timestamp::EPOCH);
        Self { waiting: BinaryHeap::new(), arrivals: 0, newest, watermark, late: 0 }
    }

    /// Nothing older follows in time.
    pub const fn watermark(&self) -> Timestamp {
        self.watermark
    }

    /// How many items came too late.
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// How many items wait for the watermark.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no item waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The oldest item, if the watermark has reached it.
    #[inline]
    pub(super) fn pop_due(&mut self) -> Option<(T, Timestamp)> {
        if self.waiting.peek()?.at > self.watermark {
            return None;
        }
        self.waiting.pop().map(|Waiting { at, item, .. }| (item, at))
    }

    /// No item follows: the watermark passes all that wait.
    pub(super) fn finish(&mut self) {
        self.watermark = self.watermark.max(self.newest);
    }

    /// Forgets what waits: nobody wants it.
    pub(super) fn clear(&mut self) {
        self.waiting = BinaryHeap::new();
    }
}

impl<T, F: Fn(&T) -> Timestamp> Operator<T> for Reorder<F> {
    type Out = Result<T, Late<T>>;
    type State = ReorderState<T>;

    fn init(&self) -> ReorderState<T> {
        ReorderState::fresh()
    }

    #[inline]
    fn on_item(&self, state: &mut Self::State, item: T, at: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        if let Err(late) = self.insert(state, item) {
            out(Err(late), at);
        }
        while let Some((item, _)) = state.pop_due() {
            out(Ok(item), at);
        }
    }

    fn on_end(&self, state: &mut Self::State, at: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        state.finish();
        while let Some((item, _)) = state.pop_due() {
            out(Ok(item), at);
        }
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Puts items in the order of their own time. Each waits until the watermark reaches it, which is `lateness` behind
    /// the newest item so far; so the output is in order, and is the same however items came, if none was older than the
    /// newest before it by more than `lateness`.
    ///
    /// ```text
    /// in   --1--4--2--5--1----9----|
    /// reorder(number, 2)
    /// out  -----1--2--.--L1-4,5----9|      L: late, the watermark was 3
    /// ```
    ///
    /// An item that is older than the watermark is late: it comes out at once as `Err(`[`Late`]`)`, a side output.
    /// `filter_map(Result::ok)` drops the late ones, [`partition`](Flow::partition) gives them a stream of their own, and
    /// [`ReorderState::late`] has counted them. Nothing is lost otherwise.
    ///
    /// Items of one time keep the order in which they came. Completes with its input, after what waits, in order. An
    /// early drop loses what waits. A pause in the input holds back what waits. Holds what came within `lateness`;
    /// [`Reorder::max`] bounds that.
    ///
    /// What follows still runs on the driver's clock: for windows, debounces and other deadlines in the items' own time
    /// there is [`event_time`](Flow::event_time).
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain, time::Late};
    ///
    /// let ordered = chain().reorder(|second: &u64| Timestamp::from_secs(*second), Duration::from_secs(2));
    /// let seen = ordered.map(|item| item.map_err(|late| late.item)).run_now([1, 4, 2, 5, 1, 9]);
    /// assert_eq!(seen, [Ok(1), Ok(2), Err(1), Ok(4), Ok(5), Ok(9)]);
    /// ```
    pub fn reorder<F>(self, time: F, lateness: Duration) -> Flow<S, Then<O, Reorder<F>>>
    where
        F: Fn(&O::Out) -> Timestamp,
    {
        self.apply(Reorder::new(time, lateness))
    }
}
