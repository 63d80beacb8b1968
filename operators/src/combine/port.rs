//! How several streams become one stream of ports.

use futures_core::Stream;

use crate::{Flow, Identity, Operator, Then, flow};

/// How many items in a row come from one port while others are ready too.
pub(crate) const BURST: u32 = 32;

/// Which ports are polled, and in what order.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The port that is polled first whenever all were found waiting.
    pub(super) home: usize,
    /// How many items a port may be ahead of the last one.
    pub(super) lead: u64,
    pub(super) turn: Turn,
    /// The port that is dropped once it has given an item.
    pub(super) once: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// All ports at once.
    All,
    /// One port after another, each until it ends.
    InOrder,
    /// All until the first says something; then that one alone.
    FirstToSpeak,
}

impl Plan {
    pub(super) const ALL: Self = Self { home: 0, lead: u64::MAX, turn: Turn::All, once: None };
    /// The first port after the others, so that it finds them up to date.
    pub(super) const FIRST_LAST: Self = Self { home: 1, ..Self::ALL };
    /// An input and a signal, of which the first item is wanted.
    pub(super) const ONE_SIGNAL: Self = Self { once: Some(1), ..Self::FIRST_LAST };
    pub(super) const IN_ORDER: Self = Self { turn: Turn::InOrder, ..Self::ALL };
    pub(super) const FIRST_TO_SPEAK: Self = Self { turn: Turn::FirstToSpeak, ..Self::ALL };
    /// Ports in step: none more than 1,024 items ahead.
    pub(super) const IN_STEP: Self = Self { lead: 1_024, ..Self::ALL };
}

/// Streams that can be taken together: a tuple of two to eight, of any item types, or a `Vec` of any number of one type.
///
/// There is no need to implement it.
pub trait IntoPorts {
    /// An item with the port that it came through.
    type Port;
    /// All streams as one.
    type Source: Stream<Item = Self::Port>;
    /// How many streams.
    fn ports(&self) -> usize;
    #[doc(hidden)]
    fn into_source(self, plan: Plan) -> Self::Source;
}

/// A flow on ports.
pub(crate) type On<P, O> = Flow<<P as IntoPorts>::Source, Then<Identity, O>>;

pub(super) fn on<P: IntoPorts, O: Operator<P::Port>>(inputs: P, plan: Plan, operator: O) -> On<P, O> {
    flow(inputs.into_source(plan)).apply(operator)
}
