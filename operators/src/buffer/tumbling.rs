//! `tumbling`: a chain for each window of time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Chain, Flow, Head, Operator, Then, Timestamp,
    build_error::{Period, built},
    chain,
    steps::advance,
};

/// What a window's chain gave out, and which window it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Windowed<T> {
    /// The window's first moment.
    pub start: Timestamp,
    /// The first moment after it.
    pub end: Timestamp,
    /// What the chain gave out.
    pub item: T,
}

/// The operator of [`tumbling`](Flow::tumbling).
#[derive(Clone, Copy, Debug)]
pub struct Tumbling<O> {
    period: Period,
    each: O,
}

impl<O> Tumbling<O> {
    /// Runs `each` for every window of `period` that has an item.
    ///
    /// # Errors
    /// [`BuildError::ZeroPeriod`] where `period` is zero.
    pub fn new(period: Duration, each: O) -> Result<Self, BuildError> {
        Ok(Self { period: Period::new("tumbling", "period", period)?, each })
    }

    /// Ends the window that is open: all that its chain still holds back comes now.
    fn close<I>(
        &self,
        state: &mut TumblingState<O::State>,
        at: Timestamp,
        out: &mut impl FnMut(Windowed<O::Out>, Timestamp),
    ) where
        O: Operator<I>,
    {
        let Some((start, mut window)) = state.open.take() else { return };
        let end = self.period.after(start);
        let mut out = |item, _| out(Windowed { start, end, item }, at);
        if !self.each.closed(&window) {
            self.each.on_end(&mut window, at, &mut out);
        }
        advance(&self.each, &mut window, Timestamp::MAX, &mut out);
    }
}

/// What [`Tumbling`] remembers: where the open window starts, and its chain's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TumblingState<S> {
    open: Option<(Timestamp, S)>,
}

impl<I, O: Operator<I>> Operator<I> for Tumbling<O> {
    type Out = Windowed<O::Out>;
    type State = TumblingState<O::State>;
    const TIMED: bool = true;

    fn init(&self) -> Self::State {
        TumblingState { open: None }
    }

    #[inline]
    fn on_item(&self, state: &mut Self::State, item: I, at: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        let start = state.open.as_ref().map_or_else(|| self.period.start_of(at), |(start, _)| *start);
        let end = self.period.after(start);
        let mut out = |item, at| out(Windowed { start, end, item }, at);
        let (_, window) = state.open.get_or_insert_with(|| {
            let mut fresh = self.each.init();
            self.each.on_start(&mut fresh, at, &mut out);
            (start, fresh)
        });
        if !self.each.closed(window) {
            self.each.on_item(window, item, at, &mut out);
        }
    }

    fn on_time(&self, state: &mut Self::State, now: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        let Some((start, window)) = &mut state.open else { return };
        let (start, end) = (*start, self.period.after(*start));
        if self.each.deadline(window).is_some_and(|due| due <= now) {
            self.each.on_time(window, now, &mut |item, at| out(Windowed { start, end, item }, at));
        } else if end <= now {
            self.close(state, now, out);
        }
    }

    fn on_end(&self, state: &mut Self::State, at: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        self.close(state, at, out);
    }

    #[inline]
    fn deadline(&self, state: &Self::State) -> Option<Timestamp> {
        let (start, window) = state.open.as_ref()?;
        let end = self.period.after(*start);
        Some(self.each.deadline(window).map_or(end, |due| due.min(end)))
    }

    fn vacant(&self, state: &Self::State) -> bool {
        state.open.is_none()
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Runs a chain for each window of `period`, one window after the other, without gap or overlap: a count an hour, a
    /// greatest a day. Windows begin at whole multiples of `period` since the Unix epoch, so hours and days are those of
    /// UTC; each includes its start and not its end. A window without items gives nothing.
    ///
    /// ```text
    /// in   --1--2------------3-4---|
    /// tumbling(10, to_vec)
    /// out  --------[1,2]-----------[3,4]|
    /// ```
    ///
    /// What the chain gives out comes as [`Windowed`]: with the window's start and end. When the window ends its chain
    /// ends, and what that still holds back comes out then.
    ///
    /// The windows are those of the time that the operator is driven by: in a flow that begins with its first poll, in
    /// [`Chain::run`] it is what is given, and inside [`event_time`](Flow::event_time) it is that of the items, which is
    /// where windows of hours and days belong.
    ///
    /// Completes with its input, after the window that is open. An `Err` is an item. An early drop loses the window that
    /// is open.
    ///
    /// # Panics
    /// Where `period` is zero; [`Tumbling::new`] returns an error instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, buffer::Windowed, chain};
    ///
    /// let ms = Timestamp::from_millis;
    /// let sums = chain().tumbling(Duration::from_millis(50), |window| window.reduce(|a, b| a + b));
    /// let seen = sums.run([(1, ms(10)), (2, ms(49)), (4, ms(50)), (8, ms(210))], ms(220));
    /// let window = |start, item| Windowed { start: ms(start), end: ms(start + 50), item };
    /// assert_eq!(seen, [(window(0, 3), ms(50)), (window(50, 4), ms(100)), (window(200, 8), ms(220))]);
    /// ```
    #[track_caller]
    pub fn tumbling<B: Operator<O::Out>>(
        self,
        period: Duration,
        each: impl FnOnce(Chain<O::Out>) -> Chain<O::Out, B>,
    ) -> Flow<S, Then<O, Tumbling<B>>> {
        self.apply(built(Tumbling::new(period, each(chain()).operator)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn what_a_windows_chain_holds_back_comes_when_the_window_ends() {
        let chain = chain().tumbling(Duration::from_millis(50), |window| window.delay(Duration::from_millis(30)));
        let seen = chain.run([(1, ms(10)), (2, ms(40)), (3, ms(60))], ms(70));
        let seen: Vec<_> = seen.into_iter().map(|(window, at)| (window.start, window.item, at)).collect();
        assert_eq!(seen, [(ms(0), 1, ms(40)), (ms(0), 2, ms(50)), (ms(50), 3, ms(70))]);
    }

    #[test]
    fn a_windows_chain_that_closes_is_fresh_in_the_next_window() {
        let chain = chain().tumbling(Duration::from_millis(50), |window| window.take(1));
        let seen = chain.run([(1, ms(0)), (2, ms(49)), (3, ms(50)), (4, ms(99))], ms(100));
        assert_eq!(seen.into_iter().map(|(window, _)| window.item).collect::<Vec<_>>(), [1, 3]);
    }
}
