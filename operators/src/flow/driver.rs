//! The driver of a flow: what is queued, then the source until it waits, then the deadline, then one timer.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{Flow, clock::Clock};
use crate::{
    Operator, Then, Timestamp,
    steps::{advance, feed, finish},
};

/// How many inputs without an output a flow takes in one poll before it lets others run.
const BUDGET: u32 = 256;

/// What a flow remembers between polls.
pub struct Running<St, T> {
    state: Option<St>,
    /// Outputs beyond the first of a step.
    queue: VecDeque<T>,
    ended: bool,
    clock: Option<Clock>,
}

/// Why the driver takes no more inputs now.
enum Inputs {
    /// Enough has come out.
    Enough,
    /// Others want to run.
    Budget,
    /// The source waits, or the operators are full.
    Waiting,
    Ended,
}

/// What became of the deadlines.
enum Deadlines {
    Fired,
    Waiting,
    /// None is left, and no input follows.
    Completed,
}

impl<St, T> Running<St, T> {
    #[inline]
    pub(super) const fn fresh() -> Self {
        Self { state: None, queue: VecDeque::new(), ended: false, clock: None }
    }

    fn now(&self) -> Timestamp {
        self.clock.as_ref().map_or(Timestamp::EPOCH, Clock::now)
    }

    /// The same flow with one operator more, which starts now if the flow has.
    pub(super) fn grown<I, A, B>(self, then: &Then<A, B>) -> Running<(St, B::State), B::Out>
    where
        A: Operator<I, State = St, Out = T>,
        B: Operator<T>,
    {
        let Some(first) = self.state else {
            return Running::fresh();
        };
        let (clock, mut queue) = (self.clock.or_else(|| B::TIMED.then(Clock::start)), VecDeque::new());
        let at = clock.as_ref().map_or(Timestamp::EPOCH, Clock::now);
        let (operator, mut second, mut out) = (&then.1, then.1.init(), |item, _| queue.push_back(item));
        operator.on_start(&mut second, at, &mut out);
        for item in self.queue {
            feed(operator, &mut second, item, at, &mut out);
        }
        if self.ended && then.0.deadline(&first).is_none() {
            finish(operator, &mut second, at, &mut out);
        }
        let ended = self.ended || operator.closed(&second);
        Running { state: Some((first, second)), queue, ended, clock }
    }

    #[inline]
    fn start<I, O: Operator<I, State = St, Out = T>>(&mut self, operator: &O) {
        if self.state.is_none() {
            self.start_now(operator);
        }
    }

    #[cold]
    fn start_now<I, O: Operator<I, State = St, Out = T>>(&mut self, operator: &O) {
        if O::TIMED {
            self.clock = Some(Clock::start());
        }
        let mut state = operator.init();
        operator.on_start(&mut state, Timestamp::EPOCH, &mut |item, _| self.queue.push_back(item));
        self.ended = operator.closed(&state);
        self.state = Some(state);
    }

    /// Takes inputs until `enough` has come out.
    #[inline(always)]
    fn inputs<S, O, C>(
        &mut self,
        mut source: Pin<&mut S>,
        operator: &O,
        (now, budget, cx): (Timestamp, u32, &mut Context<'_>),
        collected: &mut C,
        out: impl Fn(&mut C, &mut VecDeque<T>, T),
        enough: impl Fn(&C) -> bool,
    ) -> Inputs
    where
        S: Stream,
        O: Operator<S::Item, State = St, Out = T>,
    {
        let Self { state: Some(state), queue, ended, .. } = self else { return Inputs::Ended };
        if *ended {
            return Inputs::Ended;
        }
        for _ in 0..budget {
            if O::TIMED && operator.full(state) && operator.deadline(state).is_some() {
                return Inputs::Waiting;
            }
            match source.as_mut().poll_next(cx) {
                Poll::Ready(Some(item)) => {
                    feed(operator, state, item, now, &mut |item, _| out(collected, queue, item));
                    if operator.closed(state) {
                        *ended = true;
                        return Inputs::Ended;
                    }
                }
                Poll::Ready(None) => {
                    finish(operator, state, now, &mut |item, _| out(collected, queue, item));
                    *ended = true;
                    return Inputs::Ended;
                }
                Poll::Pending => return Inputs::Waiting,
            }
            if enough(collected) {
                return Inputs::Enough;
            }
        }
        Inputs::Budget
    }

    /// Fires what is due; only now, when no input can be had, is the timer looked at.
    #[inline(always)]
    fn deadlines<I, O: Operator<I, State = St, Out = T>>(
        &mut self,
        operator: &O,
        now: &mut Timestamp,
        cx: &mut Context<'_>,
        mut out: impl FnMut(&mut VecDeque<T>, T),
    ) -> Deadlines {
        let Self { state: Some(state), queue, ended, clock } = self else { return Deadlines::Completed };
        let deadline = if O::TIMED { operator.deadline(state) } else { None };
        let (Some(due), Some(clock)) = (deadline, clock) else {
            return if *ended { Deadlines::Completed } else { Deadlines::Waiting };
        };
        if due > *now {
            if clock.poll_until(due, cx).is_pending() {
                return Deadlines::Waiting;
            }
            *now = due.max(clock.now());
        }
        advance(operator, state, *now, &mut |item, _| out(queue, item));
        *ended = *ended || operator.closed(state);
        Deadlines::Fired
    }
}

/// The first output of a poll, the others behind it in the queue.
#[inline(always)]
fn keep_first<T>(first: &mut Option<T>, queue: &mut VecDeque<T>, item: T) {
    if first.is_none() {
        *first = Some(item);
    } else {
        queue.push_back(item);
    }
}

impl<S: Stream, O: Operator<S::Item>> Stream for Flow<S, O> {
    type Item = O::Out;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<O::Out>> {
        let mut this = self.project();
        let (operator, run) = (this.operator, this.run);
        run.start(operator);
        if let Some(item) = run.queue.pop_front() {
            return Poll::Ready(Some(item));
        }
        let mut now = if O::TIMED { run.now() } else { Timestamp::EPOCH };
        let mut first = None;
        for _ in 0..BUDGET {
            let taken = (now, BUDGET, &mut *cx);
            let inputs = run.inputs(this.head.as_mut(), operator, taken, &mut first, keep_first, Option::is_some);
            if first.is_some() {
                return Poll::Ready(first);
            }
            if matches!(inputs, Inputs::Budget) {
                break;
            }
            let fired = run.deadlines(operator, &mut now, cx, |queue, item| keep_first(&mut first, queue, item));
            if first.is_some() {
                return Poll::Ready(first);
            }
            match fired {
                Deadlines::Fired => {}
                Deadlines::Waiting => return Poll::Pending,
                Deadlines::Completed => return Poll::Ready(None),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Hands every output to `each` until the flow waits or completes: no return to the caller for each item.
    #[inline]
    pub(super) fn poll_each(self: Pin<&mut Self>, cx: &mut Context<'_>, each: &mut impl FnMut(O::Out)) -> Poll<()> {
        /// A whole poll's worth: long enough to cost nothing, short enough for other tasks.
        const ITEMS: u32 = 4_096;
        let mut this = self.project();
        let (operator, run) = (this.operator, this.run);
        run.start(operator);
        while let Some(item) = run.queue.pop_front() {
            each(item);
        }
        let mut now = if O::TIMED { run.now() } else { Timestamp::EPOCH };
        for _ in 0..BUDGET {
            let taken = (now, ITEMS, &mut *cx);
            let inputs = run.inputs(this.head.as_mut(), operator, taken, each, |each, _, item| each(item), |_| false);
            if matches!(inputs, Inputs::Budget) {
                break;
            }
            match run.deadlines(operator, &mut now, cx, |_, item| each(item)) {
                Deadlines::Fired => {}
                Deadlines::Waiting => return Poll::Pending,
                Deadlines::Completed => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<St, T> fmt::Debug for Running<St, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("ended", &self.ended).finish_non_exhaustive()
    }
}
