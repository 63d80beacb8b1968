//! `event_time`: a chain in the time of its items.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Late, Reorder, ReorderState};
use crate::{
    Chain, Flow, Head, Operator, Then, Timestamp, chain,
    steps::{advance, feed, finish},
};

/// The operator of [`event_time`](Flow::event_time).
#[derive(Clone, Copy, Debug)]
pub struct EventTime<F, O> {
    order: Reorder<F>,
    each: O,
}

impl<F, O> EventTime<F, O> {
    /// Runs `each` in the time that `order` reads from items.
    pub const fn new(order: Reorder<F>, each: O) -> Self {
        Self { order, each }
    }

    /// Feeds the chain with all that the watermark has reached, and lets its time pass up to the watermark.
    fn catch_up<I>(
        &self,
        state: &mut EventTimeState<I, O::State>,
        at: Timestamp,
        out: &mut impl FnMut(Result<O::Out, Late<I>>, Timestamp),
    ) where
        O: Operator<I>,
    {
        let EventTimeState { order, each } = state;
        let mut out = |item, _| out(Ok(item), at);
        while let Some((item, time)) = order.pop_due() {
            let each = started(&self.each, each, time, &mut out);
            feed(&self.each, each, item, time, &mut out);
        }
        let Some(each) = each else { return };
        advance(&self.each, each, order.watermark(), &mut out);
        if self.each.closed(each) {
            order.clear();
            // No item moves it any more: what it holds back comes now.
            advance(&self.each, each, Timestamp::MAX, &mut out);
        }
    }
}

/// The chain's state, begun at `time` if it was not.
fn started<'a, I, O: Operator<I>>(
    operator: &O,
    state: &'a mut Option<O::State>,
    time: Timestamp,
    out: &mut impl FnMut(O::Out, Timestamp),
) -> &'a mut O::State {
    state.get_or_insert_with(|| {
        let mut fresh = operator.init();
        operator.on_start(&mut fresh, time, out);
        fresh
    })
}

/// What [`EventTime`] remembers: the items that wait for the watermark, and the chain's state since its first item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventTimeState<I, S> {
    order: ReorderState<I>,
    each: Option<S>,
}

impl<I, S> EventTimeState<I, S> {
    /// The watermark, what waits for it, and how many items came too late.
    pub const fn order(&self) -> &ReorderState<I> {
        &self.order
    }
}

impl<I, F: Fn(&I) -> Timestamp, O: Operator<I>> Operator<I> for EventTime<F, O> {
    type Out = Result<O::Out, Late<I>>;
    type State = EventTimeState<I, O::State>;

    fn init(&self) -> Self::State {
        EventTimeState { order: ReorderState::fresh(), each: None }
    }

    #[inline]
    fn on_item(&self, state: &mut Self::State, item: I, at: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        match self.order.insert(&mut state.order, item) {
            Ok(()) => self.catch_up(state, at, out),
            Err(late) => out(Err(late), at),
        }
    }

    fn on_end(&self, state: &mut Self::State, at: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp)) {
        state.order.finish();
        self.catch_up(state, at, out);
        let (end, mut out) = (state.order.watermark(), |item, _| out(Ok(item), at));
        let each = started(&self.each, &mut state.each, end, &mut out);
        finish(&self.each, each, end, &mut out);
        // Event time does not go on; what the chain still holds back comes at its end.
        advance(&self.each, each, Timestamp::MAX, &mut out);
    }

    fn closed(&self, state: &Self::State) -> bool {
        state.each.as_ref().is_some_and(|each| self.each.closed(each))
    }
}

impl<S: Head, O: Operator<S::Item>> Flow<S, O> {
    /// Runs a chain in the time of its items: windows, debounces, delays and every other deadline in it go by what `time`
    /// reads from items, not by when they come. So yesterday's log, read in a second, gives yesterday's answer.
    ///
    /// ```text
    /// in   --1--4--2--8----7--12----|
    /// event_time(number, 2, debounce(2))
    /// out  -----------2,4-----8-----12|
    /// ```
    ///
    /// Items are put in order first, as [`reorder`](Flow::reorder) does: the chain's time is the watermark, which is
    /// `lateness` behind the newest item so far. So the output is the same however items came, if none was older than
    /// the newest before it by more than `lateness`. One that is older than the watermark is late and comes out at once
    /// as `Err(`[`Late`]`)`: drop it, take it apart, or emit it elsewhere; [`EventTimeState::order`] has counted it.
    ///
    /// The chain begins with the oldest item, and its output comes when the watermark reaches it: a pause in the input
    /// holds it back. Completes with its input, after what the chain still holds back, or when the chain closes. An
    /// early drop loses what waits. Holds what came within `lateness`; with [`EventTime::new`] and [`Reorder::max`] that
    /// has a bound. Inside [`per_key`](Flow::per_key) each key has a watermark of its own; `per_key` inside shares one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use millstream_operators::{Timestamp, chain};
    ///
    /// let secs = Duration::from_secs;
    /// let per_minute = chain()
    ///     .event_time(|second| Timestamp::from_secs(*second), secs(30), |each| {
    ///         each.tumbling(secs(60), |window| window.count())
    ///     })
    ///     .filter_map(Result::ok)
    ///     .map(|minute| (minute.start.as_secs() / 60, minute.item));
    /// assert_eq!(per_minute.run_now([10, 70, 50, 130, 105, 119]), [(0, 2), (1, 3), (2, 1)]);
    /// // In any order within the lateness: the same.
    /// assert_eq!(per_minute.run_now([10, 50, 70, 105, 119, 130]), [(0, 2), (1, 3), (2, 1)]);
    /// ```
    pub fn event_time<F, B>(
        self,
        time: F,
        lateness: Duration,
        each: impl FnOnce(Chain<O::Out>) -> Chain<O::Out, B>,
    ) -> Flow<S, Then<O, EventTime<F, B>>>
    where
        F: Fn(&O::Out) -> Timestamp,
        B: Operator<O::Out>,
    {
        self.apply(EventTime::new(Reorder::new(time, lateness), each(chain()).operator))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Steps;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// An item is its own time, in seconds.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "an operator lends its items")]
    fn time(second: &u64) -> Timestamp {
        Timestamp::from_secs(*second)
    }

    #[test]
    fn a_deadline_fires_when_the_watermark_reaches_it_and_not_before() {
        let chain = chain().event_time(time, secs(2), |each| each.debounce(secs(2)));
        let mut seen = Vec::new();
        let mut steps = Steps::start(&chain, Timestamp::EPOCH, &mut |_, _| {});
        for (second, expected) in [(1, vec![]), (4, vec![]), (2, vec![]), (8, vec![2, 4]), (7, vec![]), (12, vec![8])] {
            steps.item(second, Timestamp::EPOCH, &mut |item: Result<u64, Late<u64>>, _| seen.push(item));
            let expected: Vec<_> = expected.into_iter().map(Ok).collect();
            assert_eq!(std::mem::take(&mut seen), expected, "after {second}");
        }
    }

    #[test]
    fn a_chain_without_items_ends_as_it_would_alone() {
        let chain = chain().event_time(time, secs(2), Flow::count);
        assert_eq!(chain.run_now([]), [Ok(0)]);
    }

    #[test]
    fn a_chain_that_closes_gives_what_it_holds_back_and_takes_no_more() {
        let chain = chain().event_time(time, secs(1), |each| each.take(2).delay(secs(90)));
        assert_eq!(chain.run_now([1, 3, 2, 9, 0]), [Ok(1), Ok(2)]);
        let mut steps = Steps::start(&chain, Timestamp::EPOCH, &mut |_, _| {});
        for second in [1, 3, 2] {
            assert!(!steps.closed());
            steps.item(second, Timestamp::EPOCH, &mut |_, _| {});
        }
        assert!(steps.completed() && steps.state().1.order().is_empty());
    }

    #[test]
    fn late_items_are_counted_and_come_out_whole() {
        let chain = chain().event_time(time, secs(3), Flow::count);
        let mut steps = Steps::start(&chain, Timestamp::EPOCH, &mut |_, _| {});
        let mut late = Vec::new();
        for second in [10, 7, 6, 20, 16] {
            steps.item(second, Timestamp::EPOCH, &mut |item, _| late.push(item));
        }
        let expected = [(6, 7), (16, 17)].map(|(item, watermark)| {
            Err(Late { item, at: Timestamp::from_secs(item), watermark: Timestamp::from_secs(watermark) })
        });
        assert_eq!(late, expected);
        assert_eq!(late[0].as_ref().map_err(Late::behind), Err(secs(1)));
        assert_eq!(steps.state().1.order().late(), 2);
    }
}
