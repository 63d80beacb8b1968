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

/// What one step of the driver came to.
enum Step {
    /// An input was taken or a deadline fired; there may be output.
    Moved,
    Waiting,
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

    /// One input, or else the deadlines that are due.
    #[inline(always)]
    fn step<S, O>(
        &mut self,
        source: Pin<&mut S>,
        operator: &O,
        now: &mut Timestamp,
        cx: &mut Context<'_>,
        out: &mut impl FnMut(&mut VecDeque<T>, T),
    ) -> Step
    where
        S: Stream,
        O: Operator<S::Item, State = St, Out = T>,
    {
        let Self { state: Some(state), queue, ended, clock } = self else { return Step::Completed };
        let mut out = |item, _: Timestamp| out(queue, item);
        let deadline = if O::TIMED { operator.deadline(state) } else { None };
        let held = deadline.is_some() && operator.full(state);
        if !*ended && !held {
            match source.poll_next(cx) {
                Poll::Ready(Some(item)) => {
                    feed(operator, state, item, *now, &mut out);
                    *ended = operator.closed(state);
                    return Step::Moved;
                }
                Poll::Ready(None) => {
                    finish(operator, state, *now, &mut out);
                    *ended = true;
                    return Step::Moved;
                }
                Poll::Pending => {}
            }
        }
        // The source waits: only now look at the timer.
        let (Some(due), Some(clock)) = (deadline, clock) else {
            return if *ended { Step::Completed } else { Step::Waiting };
        };
        if due > *now {
            if clock.poll_until(due, cx).is_pending() {
                return Step::Waiting;
            }
            *now = due.max(clock.now());
        }
        advance(operator, state, *now, &mut out);
        *ended = *ended || operator.closed(state);
        Step::Moved
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
            let step = run.step(this.head.as_mut(), operator, &mut now, cx, &mut |queue, item| {
                if first.is_none() {
                    first = Some(item);
                } else {
                    queue.push_back(item);
                }
            });
            if first.is_some() {
                return Poll::Ready(first);
            }
            match step {
                Step::Moved => {}
                Step::Waiting => return Poll::Pending,
                Step::Completed => return Poll::Ready(None),
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
        for _ in 0..ITEMS {
            match run.step(this.head.as_mut(), operator, &mut now, cx, &mut |_, item| each(item)) {
                Step::Moved => {}
                Step::Waiting => return Poll::Pending,
                Step::Completed => return Poll::Ready(()),
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
