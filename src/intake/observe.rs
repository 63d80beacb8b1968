//! A look at every step, for the test kit's timeline.

use std::{fmt, sync::Arc, time::Duration};

use millstream_operators::Timestamp;

use crate::event::Envelope;

/// Something that happened to an event.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "testing"), expect(dead_code, reason = "only the test kit reads it"))]
pub(crate) struct Step {
    pub(crate) at: Timestamp,
    pub(crate) event: Arc<Envelope>,
    pub(crate) subscription: Option<Arc<str>>,
    pub(crate) what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "only the test kit reads it"))]
pub enum What {
    /// Accepted, from outside or from a handler.
    Emitted,
    /// Accepted, and queued at its due time.
    Delayed {
        /// The due time.
        due: Timestamp,
    },
    /// Given up before it was dispatched: `overflow`, `cancelled` or `loop`.
    Dropped {
        /// Why.
        reason: &'static str,
    },
    /// No subscription wanted it.
    Unrouted,
    /// An attempt began.
    Started {
        /// Which, from 1.
        attempt: u32,
    },
    /// A delivery ended well.
    Handled,
    /// An attempt failed and there will be another.
    Retrying {
        /// What went wrong.
        error: String,
        /// How long until the next attempt.
        delay: Duration,
    },
    /// A delivery was given up.
    Dead {
        /// Why.
        reason: String,
    },
}

/// Is told of every step, from inside the engine: it must be quick and must not call back.
pub(crate) trait Observer: Send + Sync + fmt::Debug {
    fn observe(&self, step: Step);
}
