//! `timeout`: an error where an item is late.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Flow, Head, Operator, Then, Timestamp,
    build_error::{Period, built},
};

/// An item was late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("no item came in time")]
pub struct TimeoutError;

/// The operator of [`timeout`](Flow::timeout).
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    first: Period,
    each: Option<Period>,
}

impl Timeout {
    /// The first item and each that follows within `limit` of the one before.
    ///
    /// # Errors
    /// [`BuildError::ZeroPeriod`] where `limit` is zero.
    pub fn each(limit: Duration) -> Result<Self, BuildError> {
        let limit = Period::new("timeout", "limit", limit)?;
        Ok(Self { first: limit, each: Some(limit) })
    }

    /// The first item within `limit`; those that follow may take their time.
    ///
    /// # Errors
    /// [`BuildError::ZeroPeriod`] where `limit` is zero.
    pub fn first(limit: Duration) -> Result<Self, BuildError> {
        Ok(Self { first: Period::new("timeout", "limit for the first item", limit)?, each: None })
    }

    /// The first item within `first`, each that follows within `each` of the one before.
    ///
    /// # Errors
    /// [`BuildError::ZeroPeriod`] where one is zero.
    pub fn first_and_each(first: Duration, each: Duration) -> Result<Self, BuildError> {
        let (first, each) = (Self::first(first)?.first, Self::each(each)?.each);
        Ok(Self { first, each })
    }
}

/// What [`Timeout`] remembers: until when it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeoutState {
    /// An item must come before this time.
    Until(Timestamp),
    /// No limit holds now.
    Unlimited,
    /// An item was late.
    Over,
}

impl<T> Operator<T> for Timeout {
    type Out = Result<T, TimeoutError>;
    type State = TimeoutState;
    const TIMED: bool = true;

    fn init(&self) -> TimeoutState {
        TimeoutState::Unlimited
    }

    fn on_start(&self, state: &mut TimeoutState, at: Timestamp, _: &mut impl FnMut(Self::Out, Timestamp)) {
        *state = TimeoutState::Until(self.first.after(at));
    }

    #[inline]
    fn on_item(&self, state: &mut TimeoutState, item: T, at: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        *state = self.each.map_or(TimeoutState::Unlimited, |each| TimeoutState::Until(each.after(at)));
        out(Ok(item), at);
    }

    fn on_time(&self, state: &mut TimeoutState, now: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        *state = TimeoutState::Over;
        out(Err(TimeoutError), now);
    }

    fn on_end(&self, state: &mut TimeoutState, _: Timestamp, _: &mut impl FnMut(Self::Out, Timestamp)) {
        *state = TimeoutState::Unlimited;
    }

    #[inline]
    fn deadline(&self, state: &TimeoutState) -> Option<Timestamp> {
        match state {
            TimeoutState::Until(due) => Some(*due),
            TimeoutState::Unlimited | TimeoutState::Over => None,
        }
    }

    #[inline]
    fn closed(&self, state: &TimeoutState) -> bool {
        *state == TimeoutState::Over
    }

    // A key that was forgotten would not time out.
    fn vacant(&self, _: &TimeoutState) -> bool {
        false
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Wraps each item in `Ok`; where none comes within `limit` of the one before (of the start, for the first), gives
    /// out `Err(`[`TimeoutError`]`)` and completes. Other limits for the first item: [`Timeout`] with
    /// [`apply`](Flow::apply); another stream in its place: [`catch`](Flow::catch) after it.
    ///
    /// Not tokio-stream's `timeout`, which goes on after the error.
    ///
    /// ```text
    /// in   --1--2-------------3--|
    /// timeout(50 ms)
    /// out  --1--2-----Err|
    /// ```
    ///
    /// Completes with its input, which counts as in time, or with the error. An `Err` in the input is an item. An early
    /// drop loses nothing. After the error the input is not polled again.
    ///
    /// # Panics
    /// Where `limit` is zero; [`Timeout::each`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain, time::TimeoutError};
    ///
    /// let ms = Timestamp::from_millis;
    /// let timeout = chain().timeout(Duration::from_millis(50));
    /// assert_eq!(timeout.run([(1, ms(20)), (2, ms(90))], ms(99)), [(Ok(1), ms(20)), (Err(TimeoutError), ms(70))]);
    /// ```
    #[track_caller]
    pub fn timeout(self, limit: Duration) -> Flow<S, Then<O, Timeout>> {
        self.apply(built(Timeout::each(limit)))
    }
}
