//! `buffer_time`: what came in each period.

use std::{num::NonZeroUsize, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Flow, Head, Operator, Then, Timestamp,
    build_error::{Period, built, count},
};

/// The operator of [`buffer_time`](Flow::buffer_time).
#[derive(Clone, Copy, Debug)]
pub struct BufferTime {
    period: Period,
    max: Option<NonZeroUsize>,
}

impl BufferTime {
    /// What came in each `period`.
    ///
    /// # Errors
    /// [`BuildError::ZeroPeriod`] where `period` is zero.
    pub fn new(period: Duration) -> Result<Self, BuildError> {
        Ok(Self { period: Period::new("buffer_time", "period", period)?, max: None })
    }

    /// At most `max` items at a time: a buffer that is full comes out early, and the period starts again.
    ///
    /// # Errors
    /// [`BuildError::ZeroCount`] where `max` is zero.
    pub fn max(self, max: usize) -> Result<Self, BuildError> {
        Ok(Self { max: Some(count("buffer_time", "greatest size", max)?), ..self })
    }
}

/// What [`BufferTime`] remembers: the items so far, and when they are due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferTimeState<T> {
    items: Vec<T>,
    due: Option<Timestamp>,
}

impl<T> Operator<T> for BufferTime {
    type Out = Vec<T>;
    type State = BufferTimeState<T>;
    const TIMED: bool = true;

    fn init(&self) -> BufferTimeState<T> {
        BufferTimeState { items: Vec::new(), due: None }
    }

    fn on_start(&self, state: &mut BufferTimeState<T>, at: Timestamp, _: &mut impl FnMut(Vec<T>, Timestamp)) {
        state.due = Some(self.period.after(at));
    }

    fn on_item(&self, state: &mut BufferTimeState<T>, item: T, at: Timestamp, out: &mut impl FnMut(Vec<T>, Timestamp)) {
        state.items.push(item);
        if self.max.is_some_and(|max| state.items.len() >= max.get()) {
            self.on_time(state, at, out);
        }
    }

    fn on_time(&self, state: &mut BufferTimeState<T>, now: Timestamp, out: &mut impl FnMut(Vec<T>, Timestamp)) {
        state.due = Some(self.period.after(now));
        out(std::mem::take(&mut state.items), now);
    }

    fn on_end(&self, state: &mut BufferTimeState<T>, at: Timestamp, out: &mut impl FnMut(Vec<T>, Timestamp)) {
        state.due = None;
        out(std::mem::take(&mut state.items), at);
    }

    fn deadline(&self, state: &BufferTimeState<T>) -> Option<Timestamp> {
        state.due
    }

    // It ticks without items.
    fn vacant(&self, _: &BufferTimeState<T>) -> bool {
        false
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out every `period` what came in it, an empty `Vec` too. [`batch`](Flow::batch) starts its clock with the
    /// first item and is never empty.
    ///
    /// ```text
    /// in   -1-2-------------3--|
    /// buffer_time(50 ms)
    /// out  -----[1,2]-----[]---[3]|
    /// ```
    ///
    /// Completes with its input, after what there is, maybe nothing, at once. An `Err` is an item. An early drop loses
    /// what was gathered.
    ///
    /// # Panics
    /// Where `period` is zero; [`BufferTime::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain};
    ///
    /// let ms = Timestamp::from_millis;
    /// let buffers = chain().buffer_time(Duration::from_millis(50));
    /// let seen = buffers.run([(1, ms(10)), (2, ms(20)), (3, ms(110))], ms(120));
    /// assert_eq!(seen, [(vec![1, 2], ms(50)), (vec![], ms(100)), (vec![3], ms(120))]);
    /// ```
    #[track_caller]
    pub fn buffer_time(self, period: Duration) -> Flow<S, Then<O, BufferTime>> {
        self.apply(built(BufferTime::new(period)))
    }

    /// Like [`buffer_time`](Flow::buffer_time), but a buffer of `max` items comes out early, and the period starts again
    /// with every buffer.
    ///
    /// ```text
    /// in   -1-2-3-----------4--|
    /// buffer_time_count(50 ms, 2)
    /// out  ---[1,2]-[3]---[]---[4]|
    /// ```
    ///
    /// Its promise is that of [`buffer_time`](Flow::buffer_time).
    ///
    /// # Panics
    /// Where `period` or `max` is zero; [`BufferTime::new`] and [`BufferTime::max`] return an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain};
    ///
    /// let ms = Timestamp::from_millis;
    /// let buffers = chain().buffer_time_count(Duration::from_millis(50), 2);
    /// let seen = buffers.run([(1, ms(10)), (2, ms(20)), (3, ms(30))], ms(75));
    /// assert_eq!(seen, [(vec![1, 2], ms(20)), (vec![3], ms(70)), (vec![], ms(75))]);
    /// ```
    #[track_caller]
    pub fn buffer_time_count(self, period: Duration, max: usize) -> Flow<S, Then<O, BufferTime>> {
        self.apply(built(BufferTime::new(period).and_then(|buffer| buffer.max(max))))
    }
}
