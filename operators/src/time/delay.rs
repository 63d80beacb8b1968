//! `delay`: every item later by the same time.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Flow, Head, Operator, Then, Timestamp, build_error::Period};

/// From how many waiting items on a delay asks its driver to hold back the input.
const FULL: usize = 65_536;

/// The operator of [`delay`](Flow::delay).
#[derive(Clone, Copy, Debug)]
pub struct Delay {
    by: Period,
}

impl Delay {
    /// Delays by `by`; zero is allowed.
    #[must_use]
    pub fn new(by: Duration) -> Self {
        Self { by: Period::any(by) }
    }
}

/// What [`Delay`] remembers: the items under way, each with its due time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayState<T> {
    waiting: VecDeque<(T, Timestamp)>,
    ended: bool,
}

impl<T> Operator<T> for Delay {
    type Out = T;
    type State = DelayState<T>;
    const TIMED: bool = true;

    fn init(&self) -> DelayState<T> {
        DelayState { waiting: VecDeque::new(), ended: false }
    }

    #[inline]
    fn on_item(&self, state: &mut DelayState<T>, item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        if self.by.is_zero() {
            out(item, at);
        } else {
            state.waiting.push_back((item, self.by.after(at)));
        }
    }

    fn on_time(&self, state: &mut DelayState<T>, now: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        while let Some((item, _)) = state.waiting.pop_front_if(|(_, due)| *due <= now) {
            out(item, now);
        }
    }

    fn on_end(&self, state: &mut DelayState<T>, _: Timestamp, _: &mut impl FnMut(T, Timestamp)) {
        state.ended = true;
    }

    fn deadline(&self, state: &DelayState<T>) -> Option<Timestamp> {
        state.waiting.front().map(|(_, due)| *due)
    }

    fn closed(&self, state: &DelayState<T>) -> bool {
        state.ended
    }

    fn vacant(&self, state: &DelayState<T>) -> bool {
        state.waiting.is_empty() && !state.ended
    }

    fn full(&self, state: &DelayState<T>) -> bool {
        state.waiting.len() >= FULL
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Gives out each item `by` later. Not a late start: the first item is delayed as every other.
    ///
    /// ```text
    /// in   --1--2-----|
    /// delay(30 ms)
    /// out  -----1--2--|
    /// ```
    ///
    /// Completes when the input has ended and the last item is out; an empty input is not delayed. An `Err` is an item,
    /// so it is delayed too. An early drop loses the items under way. Where 65,536 items are under way, a flow takes no
    /// more until one is out.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain};
    ///
    /// let ms = Timestamp::from_millis;
    /// let delay = chain().delay(Duration::from_millis(30));
    /// assert_eq!(delay.run([(1, ms(20)), (2, ms(25))], ms(26)), [(1, ms(50)), (2, ms(55))]);
    /// ```
    pub fn delay(self, by: Duration) -> Flow<S, Then<O, Delay>> {
        self.apply(Delay::new(by))
    }
}
