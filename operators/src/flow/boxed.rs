//! Forms with a name: a flow in a box, a chain in a box.

use std::{any::Any, fmt, pin::Pin};

use futures_core::Stream;

use super::{Chain, Flow, Open, flow};
use crate::{Operator, Timestamp};

/// A flow of `T` from any source through any operators, with a name to write in a struct; still fluent.
///
/// One virtual call an item.
///
/// ```
/// use millstream_operators::{BoxFlow, flow};
///
/// struct Alarms {
///     levels: BoxFlow<'static, u32>,
/// }
///
/// # futures::executor::block_on(async {
/// let alarms = Alarms { levels: flow(futures::stream::iter([1, 5, 9])).filter(|x| *x > 4).boxed() };
/// assert_eq!(alarms.levels.map(|x| x + 1).collect::<Vec<_>>().await, [6, 10]);
/// # });
/// ```
pub type BoxFlow<'a, T> = Flow<Pin<Box<dyn Stream<Item = T> + Send + 'a>>>;

/// A chain from `In` to `Out` through any operators, with a name to write in a struct; still fluent.
///
/// One virtual call an item, about 3.4 ns. Its state is opaque: it cannot be saved.
///
/// ```
/// use millstream_operators::{BoxChain, chain};
///
/// struct Rules {
///     loud: BoxChain<u32, u32>,
/// }
///
/// let rules = Rules { loud: chain().filter(|x| *x > 4).take(1).boxed_chain() };
/// assert_eq!(rules.loud.run_now([1, 5, 9]), [5]);
/// ```
pub type BoxChain<In, Out> = Chain<In, BoxOperator<In, Out>>;

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Puts the flow in a box, so that its type has a name.
    pub fn boxed<'a>(self) -> BoxFlow<'a, O::Out>
    where
        Self: Send + 'a,
    {
        flow(Box::pin(self))
    }
}

impl<In, O: Operator<In>> Flow<Open<In>, O> {
    /// Puts the chain in a box, so that its type has a name.
    pub fn boxed_chain(self) -> BoxChain<In, O::Out>
    where
        O: Send + Sync + 'static,
        O::State: Send + 'static,
    {
        Flow { head: Open::new(), operator: BoxOperator(Box::new(self.operator)), run: () }
    }
}

/// The state of a [`BoxOperator`].
pub struct BoxState(Box<dyn Any + Send>);

impl BoxState {
    /// The state as the operator knows it. An operator that is handed another's state keeps to a fresh one.
    fn of<In, O: Operator<In, State: Send + 'static>>(&mut self, operator: &O) -> &mut O::State {
        if !self.0.is::<O::State>() {
            self.0 = Box::new(operator.init());
        }
        self.0.downcast_mut().expect("was replaced where it is another's")
    }
}

impl fmt::Debug for BoxState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxState")
    }
}

type Out<'a, T> = &'a mut dyn FnMut(T, Timestamp);

/// An operator behind a pointer.
trait Erased<In, T>: Send + Sync {
    fn init(&self) -> BoxState;
    fn timed(&self) -> bool;
    fn on_start(&self, state: &mut BoxState, at: Timestamp, out: Out<'_, T>);
    fn on_item(&self, state: &mut BoxState, item: In, at: Timestamp, out: Out<'_, T>);
    fn on_time(&self, state: &mut BoxState, now: Timestamp, out: Out<'_, T>);
    fn on_end(&self, state: &mut BoxState, at: Timestamp, out: Out<'_, T>);
    fn deadline(&self, state: &BoxState) -> Option<Timestamp>;
    fn closed(&self, state: &BoxState) -> bool;
    fn vacant(&self, state: &BoxState) -> bool;
    fn full(&self, state: &BoxState) -> bool;
}

impl<In, O> Erased<In, O::Out> for O
where
    O: Operator<In> + Send + Sync,
    O::State: Send + 'static,
{
    fn init(&self) -> BoxState {
        BoxState(Box::new(Operator::init(self)))
    }

    fn timed(&self) -> bool {
        O::TIMED
    }

    fn on_start(&self, state: &mut BoxState, at: Timestamp, out: Out<'_, O::Out>) {
        Operator::on_start(self, state.of(self), at, &mut |item, at| out(item, at));
    }

    fn on_item(&self, state: &mut BoxState, item: In, at: Timestamp, out: Out<'_, O::Out>) {
        Operator::on_item(self, state.of(self), item, at, &mut |item, at| out(item, at));
    }

    fn on_time(&self, state: &mut BoxState, now: Timestamp, out: Out<'_, O::Out>) {
        Operator::on_time(self, state.of(self), now, &mut |item, at| out(item, at));
    }

    fn on_end(&self, state: &mut BoxState, at: Timestamp, out: Out<'_, O::Out>) {
        Operator::on_end(self, state.of(self), at, &mut |item, at| out(item, at));
    }

    fn deadline(&self, state: &BoxState) -> Option<Timestamp> {
        state.0.downcast_ref().and_then(|state| Operator::deadline(self, state))
    }

    fn closed(&self, state: &BoxState) -> bool {
        state.0.downcast_ref().is_some_and(|state| Operator::closed(self, state))
    }

    fn vacant(&self, state: &BoxState) -> bool {
        state.0.downcast_ref().is_some_and(|state| Operator::vacant(self, state))
    }

    fn full(&self, state: &BoxState) -> bool {
        state.0.downcast_ref().is_some_and(|state| Operator::full(self, state))
    }
}

/// Any operator from `In` to `T`, with a name to write in a struct.
pub struct BoxOperator<In, T>(Box<dyn Erased<In, T>>);

impl<In, T> fmt::Debug for BoxOperator<In, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxOperator").field("timed", &self.0.timed()).finish_non_exhaustive()
    }
}

impl<In, T> Operator<In> for BoxOperator<In, T> {
    type Out = T;
    type State = BoxState;
    // What is in the box is not known to the type.
    const TIMED: bool = true;

    fn init(&self) -> BoxState {
        self.0.init()
    }

    fn on_start(&self, state: &mut BoxState, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        self.0.on_start(state, at, out);
    }

    fn on_item(&self, state: &mut BoxState, item: In, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        self.0.on_item(state, item, at, out);
    }

    fn on_time(&self, state: &mut BoxState, now: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        self.0.on_time(state, now, out);
    }

    fn on_end(&self, state: &mut BoxState, at: Timestamp, out: &mut impl FnMut(T, Timestamp)) {
        self.0.on_end(state, at, out);
    }

    fn deadline(&self, state: &BoxState) -> Option<Timestamp> {
        self.0.deadline(state)
    }

    fn closed(&self, state: &BoxState) -> bool {
        self.0.closed(state)
    }

    fn vacant(&self, state: &BoxState) -> bool {
        self.0.vacant(state)
    }

    fn full(&self, state: &BoxState) -> bool {
        self.0.full(state)
    }
}
