//! `debounce`: an item when it has been quiet after it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Flow, Head, Operator, Then, Timestamp,
    build_error::{Period, built},
};

/// The operator of [`debounce`](Flow::debounce).
#[derive(Clone, Copy, Debug)]
pub struct Debounce {
    quiet: Period,
}

impl Debounce {
    /// Waits for `quiet` without an item.
    ///
    /// # Errors
    /// [`BuildError::ZeroPeriod`] where `quiet` is zero.
    pub fn new(quiet: Duration) -> Result<Self, BuildError> {
        Ok(Self { quiet: Period::new("debounce", "period", quiet)? })
    }
}

/// What [`Debounce`] remembers: the last item and when it is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebounceState<T>(Option<(T, Timestamp)>);

impl<T> Operator<T> for Debounce {
    type Out = T;
    type State = DebounceState<T>;
    const TIMED: bool = true;

    #[inline]
    fn init(&self) -> DebounceState<T> {
        DebounceState(None)
    }

    #[inline(always)]
    fn on_item(&self, state: &mut DebounceState<T>, item: T, at: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        state.0 = Some((item, self.quiet.after(at)));
    }

    #[inline]
    fn on_time(&self, state: &mut DebounceState<T>, now: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if let Some((item, _)) = state.0.take() {
            out(item, now);
        }
    }

    fn on_end(&self, state: &mut DebounceState<T>, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        self.on_time(state, at, out);
    }

    #[inline(always)]
    fn deadline(&self, state: &DebounceState<T>) -> Option<Timestamp> {
        state.0.as_ref().map(|(_, due)| *due)
    }

    #[inline]
    fn vacant(&self, state: &DebounceState<T>) -> bool {
        state.0.is_none()
    }
}

/// The operator of [`debounce_max`](Flow::debounce_max).
#[derive(Clone, Copy, Debug)]
pub struct DebounceMax {
    quiet: Period,
    max_wait: Period,
}

impl DebounceMax {
    /// Waits for `quiet` without an item, but no longer than `max_wait` from the first item that waits.
    ///
    /// # Errors
    /// [`BuildError::ZeroPeriod`] where `quiet` is zero, [`BuildError::ShorterThanPeriod`] where `max_wait` is under it.
    pub fn new(quiet: Duration, max_wait: Duration) -> Result<Self, BuildError> {
        if max_wait < quiet {
            return Err(BuildError::ShorterThanPeriod { operator: "debounce_max", setting: "longest wait" });
        }
        Ok(Self { quiet: Period::new("debounce_max", "period", quiet)?, max_wait: Period::any(max_wait) })
    }
}

/// What [`DebounceMax`] remembers: the last item, when it is due, and until when it may be put off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebounceMaxState<T>(Option<(T, Timestamp, Timestamp)>);

impl<T> Operator<T> for DebounceMax {
    type Out = T;
    type State = DebounceMaxState<T>;
    const TIMED: bool = true;

    fn init(&self) -> DebounceMaxState<T> {
        DebounceMaxState(None)
    }

    fn on_item(&self, state: &mut DebounceMaxState<T>, item: T, at: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        let limit = state.0.as_ref().map_or_else(|| self.max_wait.after(at), |(_, _, limit)| *limit);
        state.0 = Some((item, self.quiet.after(at).min(limit), limit));
    }

    fn on_time(&self, state: &mut DebounceMaxState<T>, now: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if let Some((item, ..)) = state.0.take() {
            out(item, now);
        }
    }

    fn on_end(&self, state: &mut DebounceMaxState<T>, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        self.on_time(state, at, out);
    }

    fn deadline(&self, state: &DebounceMaxState<T>) -> Option<Timestamp> {
        state.0.as_ref().map(|(_, due, _)| *due)
    }

    fn vacant(&self, state: &DebounceMaxState<T>) -> bool {
        state.0.is_none()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out an item once nothing has followed it for `quiet`; each new item starts the wait again.
    ///
    /// ```text
    /// in   -1-2-3---------4--|
    /// debounce(30 ms)
    /// out  ---------3--------4|
    /// ```
    ///
    /// Completes with its input, after the item that waits, if there is one, at once. An `Err` is an item. An early drop
    /// loses the item that waits. Items that were followed too soon are lost: that is its purpose.
    ///
    /// # Panics
    /// Where `quiet` is zero; [`Debounce::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain};
    ///
    /// let ms = Timestamp::from_millis;
    /// let debounce = chain().debounce(Duration::from_millis(30));
    /// assert_eq!(debounce.run([(1, ms(10)), (2, ms(20)), (3, ms(90))], ms(95)), [(2, ms(50)), (3, ms(95))]);
    /// ```
    #[track_caller]
    pub fn debounce(self, quiet: Duration) -> Flow<S, Then<O, Debounce>> {
        self.apply(built(Debounce::new(quiet)))
    }

    /// Like [`debounce`](Flow::debounce), but an item comes out at the latest `max_wait` after the first that was put
    /// off, so that an input that is never quiet still gives something.
    ///
    /// ```text
    /// in   -1-2-3-4-5-6------|
    /// debounce_max(30 ms, 60 ms)
    /// out  -------4-------6--|
    /// ```
    ///
    /// Its promise is that of [`debounce`](Flow::debounce).
    ///
    /// # Panics
    /// Where `quiet` is zero or `max_wait` is shorter; [`DebounceMax::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain};
    ///
    /// let ms = Timestamp::from_millis;
    /// let debounce = chain().debounce_max(Duration::from_millis(30), Duration::from_millis(45));
    /// let items = [(1, ms(10)), (2, ms(30)), (3, ms(50)), (4, ms(70))];
    /// assert_eq!(debounce.run(items, ms(200)), [(3, ms(55)), (4, ms(100))]);
    /// ```
    #[track_caller]
    pub fn debounce_max(self, quiet: Duration, max_wait: Duration) -> Flow<S, Then<O, DebounceMax>> {
        self.apply(built(DebounceMax::new(quiet, max_wait)))
    }
}
