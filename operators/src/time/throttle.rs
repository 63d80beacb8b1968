//! `throttle`: at most one item a period; drops the rest.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Flow, Head, Operator, Then, Timestamp,
    build_error::{Period, built},
    durable::Held,
};

/// Which item of a period comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Edge {
    /// The first, at once.
    Leading,
    /// The last, when the period ends.
    Trailing,
    /// The first at once, and the last when the period ends if it is another.
    Both,
}

/// The operator of [`throttle`](Flow::throttle).
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    period: Period,
    edge: Edge,
}

impl Throttle {
    /// One item a `period`.
    ///
    /// # Errors
    /// [`BuildError::ZeroPeriod`] where `period` is zero.
    pub fn new(period: Duration, edge: Edge) -> Result<Self, BuildError> {
        Ok(Self { period: Period::new("throttle", "period", period)?, edge })
    }
}

/// What [`Throttle`] remembers: when the period ends, and the item that waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleState<T> {
    until: Option<Timestamp>,
    waiting: Held<T>,
    ended: bool,
}

impl<T> Operator<T> for Throttle {
    type Out = T;
    type State = ThrottleState<T>;
    const TIMED: bool = true;

    #[inline]
    fn init(&self) -> ThrottleState<T> {
        ThrottleState { until: None, waiting: Held::default(), ended: false }
    }

    #[inline(always)]
    fn on_item(&self, state: &mut ThrottleState<T>, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        let first = state.until.is_none();
        if first {
            state.until = Some(self.period.after(at));
        }
        match (first, self.edge) {
            (true, Edge::Leading | Edge::Both) => out(item, at),
            (false, Edge::Leading) => {}
            (_, Edge::Trailing) | (false, Edge::Both) => *state.waiting = Some(item),
        }
    }

    fn on_time(&self, state: &mut ThrottleState<T>, now: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        state.until = None;
        if let Some(item) = state.waiting.take() {
            state.until = (!state.ended).then(|| self.period.after(now));
            out(item, now);
        }
    }

    fn on_end(&self, state: &mut ThrottleState<T>, _: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        state.ended = true;
        if state.waiting.is_none() {
            state.until = None;
        }
    }

    #[inline(always)]
    fn deadline(&self, state: &ThrottleState<T>) -> Option<Timestamp> {
        state.until
    }

    #[inline(always)]
    fn closed(&self, state: &ThrottleState<T>) -> bool {
        state.ended
    }

    fn vacant(&self, state: &ThrottleState<T>) -> bool {
        state.until.is_none() && !state.ended
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Drops items: at most one a `period` comes out, which one is what `edge` says. [`rate_limit`](Flow::rate_limit)
    /// paces and loses nothing.
    ///
    /// ```text
    /// in             -1-2-3----------4--|
    /// Leading, 40 ms
    /// out            -1--------------4--|
    /// Trailing, 40 ms
    /// out            -----3-------------4|
    /// Both, 40 ms
    /// out            -1---3----------4--|
    /// ```
    ///
    /// Completes with its input; where an item waits for the end of its period, that one comes out first, at its time.
    /// An `Err` is an item. An early drop loses the item that waits. Items inside a period are lost: that is its
    /// purpose.
    ///
    /// # Panics
    /// Where `period` is zero; [`Throttle::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain, time::Edge};
    ///
    /// let ms = Timestamp::from_millis;
    /// let items = [(1, ms(10)), (2, ms(15)), (3, ms(20))];
    /// let throttle = |edge| chain().throttle(Duration::from_millis(40), edge).run(items, ms(30));
    /// assert_eq!(throttle(Edge::Leading), [(1, ms(10))]);
    /// assert_eq!(throttle(Edge::Trailing), [(3, ms(50))]);
    /// assert_eq!(throttle(Edge::Both), [(1, ms(10)), (3, ms(50))]);
    /// ```
    #[track_caller]
    pub fn throttle(self, period: Duration, edge: Edge) -> Flow<S, Then<O, Throttle>> {
        self.apply(built(Throttle::new(period, edge)))
    }
}
