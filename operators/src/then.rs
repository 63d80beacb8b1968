//! Composition: two operators in a row are one operator.

use crate::{Operator, Timestamp};

/// Passes every item on: the chain of no operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity;

impl<T> Operator<T> for Identity {
    type Out = T;
    type State = ();
    const PLAIN: bool = true;

    #[inline]
    fn init(&self) {}

    #[inline(always)]
    fn on_item(&self, (): &mut (), item: T, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        out(item, at);
    }

    #[inline]
    fn select(&self, items: Vec<T>) -> Vec<T> {
        items
    }
}

/// What `A` gives out goes into `B`. The state is both states; the compiler makes one loop of both.
///
/// `B` ends when `A` has completed: its input has ended or it is closed, and no deadline is left. At one and the same
/// time the downstream's timers fire first, so a watermark that jumps gives the same output as a slow clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Then<A, B>(pub(crate) A, pub(crate) B);

impl<A, B> Then<A, B> {
    /// `first`, then `second`.
    pub const fn new(first: A, second: B) -> Self {
        Self(first, second)
    }

    /// Ends `B` if `A` takes no more and has nothing left to come.
    #[inline(always)]
    fn end_if_drained<I>(
        &self,
        (a, b): &mut (A::State, B::State),
        at: Timestamp,
        out: &mut impl FnMut(B::Out, Timestamp),
    ) where
        A: Operator<I>,
        B: Operator<A::Out>,
    {
        if self.0.closed(a) && self.0.deadline(a).is_none() && !self.1.closed(b) {
            self.1.on_end(b, at, out);
        }
    }
}

/// Feeds `B` with what `A` gives out.
macro_rules! into_second {
    ($second:expr, $state:expr, $out:expr) => {
        &mut |item, at| {
            if !$second.closed($state) {
                $second.on_item($state, item, at, $out);
            }
        }
    };
}

impl<I, A: Operator<I>, B: Operator<A::Out>> Operator<I> for Then<A, B> {
    type Out = B::Out;
    type State = (A::State, B::State);
    const TIMED: bool = A::TIMED || B::TIMED;
    const PLAIN: bool = A::PLAIN && B::PLAIN;

    #[inline]
    fn init(&self) -> Self::State {
        (self.0.init(), self.1.init())
    }

    #[inline]
    fn on_start(&self, state: &mut Self::State, at: Timestamp, out: &mut impl FnMut(B::Out, Timestamp)) {
        let (a, b) = &mut *state;
        self.1.on_start(b, at, out);
        self.0.on_start(a, at, into_second!(self.1, b, out));
        self.end_if_drained(state, at, out);
    }

    #[inline(always)]
    fn on_item(&self, state: &mut Self::State, item: I, at: Timestamp, out: &mut impl FnMut(B::Out, Timestamp)) {
        let (a, b) = &mut *state;
        if self.0.closed(a) {
            return;
        }
        self.0.on_item(a, item, at, into_second!(self.1, b, out));
        self.end_if_drained(state, at, out);
    }

    #[inline]
    fn on_time(&self, state: &mut Self::State, now: Timestamp, out: &mut impl FnMut(B::Out, Timestamp)) {
        let (a, b) = &mut *state;
        // Intervals are half-open: an item at t comes after the timers of t.
        if self.1.deadline(b).is_some_and(|due| due <= now) {
            self.1.on_time(b, now, out);
        }
        if !self.1.closed(b) && self.0.deadline(a).is_some_and(|due| due <= now) {
            self.0.on_time(a, now, into_second!(self.1, b, out));
            self.end_if_drained(state, now, out);
        }
    }

    #[inline]
    fn on_end(&self, state: &mut Self::State, at: Timestamp, out: &mut impl FnMut(B::Out, Timestamp)) {
        let (a, b) = &mut *state;
        if self.0.closed(a) {
            return;
        }
        self.0.on_end(a, at, into_second!(self.1, b, out));
        if self.0.deadline(a).is_none() && !self.1.closed(b) {
            self.1.on_end(b, at, out);
        }
    }

    #[inline(always)]
    fn deadline(&self, (a, b): &Self::State) -> Option<Timestamp> {
        let second = self.1.deadline(b);
        if self.1.closed(b) {
            return second;
        }
        match (self.0.deadline(a), second) {
            (Some(first), Some(second)) => Some(first.min(second)),
            (first, second) => first.or(second),
        }
    }

    #[inline(always)]
    fn closed(&self, (a, b): &Self::State) -> bool {
        self.0.closed(a) || self.1.closed(b)
    }

    #[inline(always)]
    fn vacant(&self, (a, b): &Self::State) -> bool {
        self.0.vacant(a) && self.1.vacant(b)
    }

    #[inline(always)]
    fn full(&self, (a, b): &Self::State) -> bool {
        self.0.full(a) || self.1.full(b)
    }

    #[inline]
    fn select(&self, items: Vec<I>) -> Vec<B::Out> {
        self.1.select(self.0.select(items))
    }
}
