//! `sample`: the latest item at each tick.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Flow, Head, Operator, Then, Timestamp,
    build_error::{Period, built},
};

/// The operator of [`sample`](Flow::sample).
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    period: Period,
}

impl Sample {
    /// Ticks every `period`.
    ///
    /// # Errors
    /// [`BuildError::ZeroPeriod`] where `period` is zero.
    pub fn new(period: Duration) -> Result<Self, BuildError> {
        Ok(Self { period: Period::new("sample", "period", period)? })
    }
}

/// What [`Sample`] remembers: when it started, and the latest item with its tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleState<T> {
    start: Timestamp,
    latest: Option<(T, Timestamp)>,
}

impl<T> Operator<T> for Sample {
    type Out = T;
    type State = SampleState<T>;
    const TIMED: bool = true;

    fn init(&self) -> SampleState<T> {
        SampleState { start: Timestamp::EPOCH, latest: None }
    }

    fn on_start(&self, state: &mut SampleState<T>, at: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        state.start = at;
    }

    #[inline]
    fn on_item(&self, state: &mut SampleState<T>, item: T, at: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        let tick = match &state.latest {
            Some((_, tick)) => *tick,
            None => self.period.next_tick(state.start, at),
        };
        state.latest = Some((item, tick));
    }

    fn on_time(&self, state: &mut SampleState<T>, now: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if let Some((item, _)) = state.latest.take() {
            out(item, now);
        }
    }

    fn on_end(&self, state: &mut SampleState<T>, _: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        state.latest = None;
    }

    // A tick without an item gives nothing, so it needs no timer.
    #[inline]
    fn deadline(&self, state: &SampleState<T>) -> Option<Timestamp> {
        state.latest.as_ref().map(|(_, tick)| *tick)
    }

    // A key that was forgotten would tick from its next item on.
    fn vacant(&self, _: &SampleState<T>) -> bool {
        false
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Ticks every `period` from its start; at a tick the latest item comes out, if there is a new one.
    ///
    /// ```text
    /// in   -1-2-3----------4-----|
    /// sample(40 ms)
    /// out  ----2---3---------------|
    /// ```
    ///
    /// Completes with its input, at once. An `Err` is an item. An early drop, and the end, lose the item that waits for
    /// its tick; items that were followed before a tick are lost: that is its purpose. A consumer that polls late misses
    /// ticks; they are skipped, not made up for.
    ///
    /// # Panics
    /// Where `period` is zero; [`Sample::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain};
    ///
    /// let ms = Timestamp::from_millis;
    /// let sample = chain().sample(Duration::from_millis(40));
    /// let items = [(1, ms(10)), (2, ms(20)), (3, ms(90)), (4, ms(130))];
    /// assert_eq!(sample.run(items, ms(140)), [(2, ms(40)), (3, ms(120))]);
    /// ```
    #[track_caller]
    pub fn sample(self, period: Duration) -> Flow<S, Then<O, Sample>> {
        self.apply(built(Sample::new(period)))
    }
}
