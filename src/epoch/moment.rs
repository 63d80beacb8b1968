//! When a key wants to be stepped next, and the order of all those moments.

use millstream_operators::Timestamp;

use super::StateKey;

/// What is due: timers at one time come before items at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A deadline of the chain.
    Timer,
    /// An item that waits for the watermark.
    Item,
}

/// What a key waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Next {
    pub(super) at: Timestamp,
    pub(super) kind: Kind,
}

/// One entry of the index of all deadlines: by time, kind, key. Outputs come in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) next: Next,
    pub(super) key: StateKey,
}

/// How far the index is known, or time has come: up to and with a moment, or all moments of a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// Nothing yet.
    Nothing,
    /// Up to and with this one.
    Moment(Moment),
    /// All that is due at this time or before.
    Time(Timestamp),
}

impl Bound {
    pub(super) fn covers(&self, moment: &Moment) -> bool {
        match self {
            Self::Nothing => false,
            Self::Moment(last) => moment <= last,
            Self::Time(time) => moment.next.at <= *time,
        }
    }

    pub(super) fn covers_time(&self, time: Timestamp) -> bool {
        match self {
            Self::Nothing => false,
            Self::Moment(last) => time < last.next.at,
            Self::Time(known) => time <= *known,
        }
    }
}
