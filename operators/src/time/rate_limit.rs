//! `rate_limit`: paces items and loses none.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Flow, Head, Operator, Then, Timestamp,
    build_error::{Period, built},
};

/// From how many waiting items on the operator asks its driver to hold back the input.
const FULL: usize = 1_024;

/// The operator of [`rate_limit`](Flow::rate_limit).
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    gap: Period,
}

impl RateLimit {
    /// At least `gap` between two items.
    ///
    /// # Errors
    /// [`BuildError::ZeroPeriod`] where `gap` is zero.
    pub fn new(gap: Duration) -> Result<Self, BuildError> {
        Ok(Self { gap: Period::new("rate_limit", "gap", gap)? })
    }
}

/// What [`RateLimit`] remembers: the items that wait, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitState<T> {
    waiting: VecDeque<T>,
    until: Option<Timestamp>,
    ended: bool,
}

impl<T> Operator<T> for RateLimit {
    type Out = T;
    type State = RateLimitState<T>;
    const TIMED: bool = true;

    fn init(&self) -> RateLimitState<T> {
        RateLimitState { waiting: VecDeque::new(), until: None, ended: false }
    }

    fn on_item(&self, state: &mut RateLimitState<T>, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if state.until.is_some() {
            state.waiting.push_back(item);
        } else {
            state.until = Some(self.gap.after(at));
            out(item, at);
        }
    }

    fn on_time(&self, state: &mut RateLimitState<T>, now: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        state.until = None;
        if let Some(item) = state.waiting.pop_front() {
            state.until = Some(self.gap.after(now));
            out(item, now);
        }
    }

    fn on_end(&self, state: &mut RateLimitState<T>, _: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        state.ended = true;
    }

    fn deadline(&self, state: &RateLimitState<T>) -> Option<Timestamp> {
        state.until
    }

    fn closed(&self, state: &RateLimitState<T>) -> bool {
        state.ended
    }

    fn vacant(&self, state: &RateLimitState<T>) -> bool {
        state.until.is_none() && !state.ended
    }

    fn full(&self, state: &RateLimitState<T>) -> bool {
        state.waiting.len() >= FULL
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Paces and loses nothing: items come out at least `gap` apart, in order. [`throttle`](Flow::throttle) drops; what
    /// tokio-stream calls `throttle` is this.
    ///
    /// ```text
    /// in   -123-----------4--|
    /// rate_limit(30 ms)
    /// out  -1--2--3-------4--|
    /// ```
    ///
    /// Completes when the input has ended and the gap after the last item has passed. An `Err` is an item. An early drop
    /// loses the items that wait; 1,024 of them at most in a flow, which then takes no more from its source.
    ///
    /// # Panics
    /// Where `gap` is zero; [`RateLimit::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain};
    ///
    /// let ms = Timestamp::from_millis;
    /// let paced = chain().rate_limit(Duration::from_millis(30));
    /// let items = [(1, ms(10)), (2, ms(11)), (3, ms(12))];
    /// assert_eq!(paced.run(items, ms(13)), [(1, ms(10)), (2, ms(40)), (3, ms(70))]);
    /// ```
    #[track_caller]
    pub fn rate_limit(self, gap: Duration) -> Flow<S, Then<O, RateLimit>> {
        self.apply(built(RateLimit::new(gap)))
    }
}
