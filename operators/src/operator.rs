//! What an operator is: logic behind `&self`, state apart, time as an argument.

use crate::Timestamp;

/// A pure state machine over items of type `In`.
///
/// The logic (`&self`) holds closures and settings and never changes; all that an operator remembers is its
/// [`State`](Operator::State), plain data that can be saved, loaded and inspected. So one copy of the logic serves any
/// number of keys, and a test needs no clock: time is an argument of every call.
///
/// # What a driver promises
/// - Calls come in the order of time: `at` never falls.
/// - Before an item at `t`, every [`deadline`](Operator::deadline) up to and with `t` has fired, each at its own time.
/// - [`on_start`](Operator::on_start) comes once, first, for a fresh state; a state that was loaded gets none.
/// - After [`on_end`](Operator::on_end), or once [`closed`](Operator::closed) is true, no item follows. What then still
///   has a deadline is drained; with no deadline left, the operator has completed.
///
/// # What an operator promises
/// - A deadline rises after it has fired, unless an item moved it; a driver refuses to spin on one that stays.
/// - [`closed`](Operator::closed) never turns false again.
///
/// ```
/// use millstream_operators::{Operator, Timestamp, chain};
///
/// /// Doubles every item: the smallest operator.
/// struct Double;
///
/// impl Operator<u32> for Double {
///     type Out = u32;
///     type State = ();
///     fn init(&self) {}
///     fn on_item(&self, _: &mut (), item: u32, at: Timestamp, out: &mut impl FnMut(u32, Timestamp)) {
///         out(item * 2, at);
///     }
/// }
///
/// assert_eq!(chain().apply(Double).filter(|x| *x > 2).run_now([1, 2, 3]), [4, 6]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an operator over items of type `{In}`",
    label = "the chain carries `{In}` at this point"
)]
pub trait Operator<In> {
    /// What comes out.
    type Out;
    /// All that the operator remembers; plain data.
    type State;
    /// Whether the operator reads time or has deadlines: a driver then owns a clock.
    const TIMED: bool = false;
    /// Whether an item alone decides what becomes of it: no state, no time, at most one output an item, never closed.
    /// A driver may then take a whole chunk through one operator before the next sees it ([`select`](Operator::select)).
    const PLAIN: bool = false;

    /// A fresh state.
    fn init(&self) -> Self::State;

    /// The input begins.
    #[inline]
    fn on_start(&self, _state: &mut Self::State, _at: Timestamp, _out: &mut impl FnMut(Self::Out, Timestamp)) {}

    /// An item arrives.
    fn on_item(&self, state: &mut Self::State, item: In, at: Timestamp, out: &mut impl FnMut(Self::Out, Timestamp));

    /// The earliest deadline has come; `now` is that deadline, exactly.
    #[inline]
    fn on_time(&self, _state: &mut Self::State, _now: Timestamp, _out: &mut impl FnMut(Self::Out, Timestamp)) {}

    /// The input is over. Whoever keeps a deadline past this call also reports [`closed`](Operator::closed).
    #[inline]
    fn on_end(&self, _state: &mut Self::State, _at: Timestamp, _out: &mut impl FnMut(Self::Out, Timestamp)) {}

    /// When [`on_time`](Operator::on_time) is wanted next.
    #[inline]
    fn deadline(&self, _state: &Self::State) -> Option<Timestamp> {
        None
    }

    /// Whether no more input is taken.
    #[inline]
    fn closed(&self, _state: &Self::State) -> bool {
        false
    }

    /// Whether this state is the same as a fresh one, which gives nothing at its start nor at its end: a keyed driver
    /// may then forget the key.
    #[inline]
    fn vacant(&self, _state: &Self::State) -> bool {
        size_of::<Self::State>() == 0
    }

    /// Whether enough is waiting for a deadline that a driver that can hold back its input should. Advice: a driver
    /// that cannot wait goes on, and nothing is lost.
    #[inline]
    fn full(&self, _state: &Self::State) -> bool {
        false
    }

    /// Takes many items that share one time. The result is that of [`on_item`](Operator::on_item) on each.
    #[inline]
    fn on_chunk(
        &self,
        state: &mut Self::State,
        items: &mut Vec<In>,
        at: Timestamp,
        out: &mut impl FnMut(Self::Out, Timestamp),
    ) {
        for item in items.drain(..) {
            if self.closed(state) {
                break;
            }
            self.on_item(state, item, at, out);
        }
    }

    /// Takes a whole chunk through a [`PLAIN`](Operator::PLAIN) operator, in order. What is returned equals what
    /// [`on_item`](Operator::on_item) gives for each item.
    #[inline]
    fn select(&self, items: Vec<In>) -> Vec<Self::Out> {
        let mut state = self.init();
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            self.on_item(&mut state, item, Timestamp::EPOCH, &mut |item, _| out.push(item));
        }
        out
    }
}
