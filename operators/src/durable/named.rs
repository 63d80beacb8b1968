//! An operator with a name.

use super::{Durable, Parts};
use crate::{Flow, Head, Operator, Then, Timestamp};

/// An operator whose saved state is found by a name: see [`named`](Flow::named).
#[derive(Clone, Copy, Debug)]
pub struct Named<O> {
    operator: O,
    name: &'static str,
}

impl<In, O: Operator<In>> Operator<In> for Named<O> {
    type Out = O::Out;
    type State = O::State;
    const TIMED: bool = O::TIMED;
    const PLAIN: bool = O::PLAIN;

    #[inline]
    fn init(&self) -> O::State {
        self.operator.init()
    }

    #[inline]
    fn on_start(&self, state: &mut O::State, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        self.operator.on_start(state, at, out);
    }

    #[inline(always)]
    fn on_item(&self, state: &mut O::State, item: In, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        self.operator.on_item(state, item, at, out);
    }

    #[inline]
    fn on_time(&self, state: &mut O::State, now: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        self.operator.on_time(state, now, out);
    }

    #[inline]
    fn on_end(&self, state: &mut O::State, at: Timestamp, out: &mut impl FnMut(O::Out, Timestamp)) {
        self.operator.on_end(state, at, out);
    }

    #[inline(always)]
    fn deadline(&self, state: &O::State) -> Option<Timestamp> {
        self.operator.deadline(state)
    }

    #[inline(always)]
    fn closed(&self, state: &O::State) -> bool {
        self.operator.closed(state)
    }

    #[inline(always)]
    fn vacant(&self, state: &O::State) -> bool {
        self.operator.vacant(state)
    }

    #[inline(always)]
    fn full(&self, state: &O::State) -> bool {
        self.operator.full(state)
    }

    #[inline]
    fn select(&self, items: Vec<In>) -> Vec<O::Out> {
        self.operator.select(items)
    }
}

impl<In, O: Durable<In>> Durable<In> for Named<O> {
    fn parts<P: Parts>(&self, state: &mut O::State, _: Option<&'static str>, parts: &mut P) -> Result<(), P::Error> {
        self.operator.parts(state, Some(self.name), parts)
    }
}

impl<S: Head, A: Operator<S::Item>, B: Operator<A::Out>> Flow<S, Then<A, B>> {
    /// Names the operator before it: its saved state is found by this name, however the chain around it changes. See
    /// [`durable`](crate::durable).
    ///
    /// ```
    /// use millstream_operators::chain;
    ///
    /// assert_eq!(chain().take(2).named("first two").run_now([1, 2, 3]), [1, 2]);
    /// ```
    pub fn named(self, name: &'static str) -> Flow<S, Then<A, Named<B>>> {
        let Then(before, operator) = self.operator;
        Flow { head: self.head, operator: Then::new(before, Named { operator, name }), run: self.run }
    }
}
