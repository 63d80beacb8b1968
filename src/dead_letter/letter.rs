//! One dead letter.

use std::{borrow::Cow, fmt, sync::Arc};

use millstream_middleware::{Classify, ErrorKind};
use millstream_operators::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    event::{Envelope, Key, Tenant},
    stage::HandlerError,
};

/// A delivery that was given up, or an event that could not be delivered at all.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Counts dead letters of this runtime, from 1.
    pub number: u64,
    /// The event, as it was.
    pub event: Arc<Envelope>,
    /// The subscription that did not handle it; none where the event was given up before any got it.
    pub subscription: Option<String>,
    /// Why it was given up.
    pub death: Death,
    /// How many attempts were made.
    pub attempts: u32,
    /// What went wrong in each, the last one last. Of more than 32, the first and the last ones.
    pub failures: Vec<Failure>,
    /// When it was given up.
    pub died_at: Timestamp,
    /// Where its event lies in the log, in a durable runtime.
    #[serde(skip)]
    pub(crate) place: Option<u64>,
    /// When a stage is to take it once more, where a tool has asked for that.
    #[serde(skip)]
    pub(crate) asked: Option<Timestamp>,
    /// Whether its key is halted behind it.
    #[serde(skip)]
    pub(crate) halts: bool,
}

/// Why a delivery or an event was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Death {
    /// The error is one that no other attempt can mend.
    Permanent,
    /// All attempts that the policy allows have failed.
    Exhausted,
    /// The tenant may have no more deliveries waiting for a retry.
    RetryQuota,
    /// The subscription held its whole share of the queue.
    Saturated,
    /// No subscription wanted it, and the policy is to keep such events.
    Unrouted,
    /// It came to a stage when the watermark had passed it.
    Late,
    /// Its key is parked in a stage, for one of its timers panicked.
    Parked,
    /// It waited behind a key that was halted, and its subscription was taken back.
    Halted,
    /// The process ended during its attempts, more often than [`max_crashes`](crate::Builder::max_crashes) allows.
    Crashed,
    /// It was returned too deep, as one more than its root may cause, or as one more delayed event than `delayed_size`.
    Loop,
}

/// One attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When it failed.
    pub at: Timestamp,
    /// The kind of error.
    pub kind: ErrorKind,
    /// Its code, where it has one.
    pub code: Option<String>,
    /// Its message and those of its sources, joined by `: `; of a longer one, the first 8 KiB.
    pub message: String,
}

/// What is kept of a message or a code, in bytes: all failures of a delivery are written with each.
const MOST_TEXT: usize = 8 << 10;

/// A text that is not longer than what is kept.
fn clip(mut text: String) -> String {
    if text.len() > MOST_TEXT {
        text.truncate(text.floor_char_boundary(MOST_TEXT));
        text.push('…');
    }
    text
}

impl Failure {
    pub(crate) fn of(error: &HandlerError, attempt: u32, at: Timestamp) -> Self {
        let code = Classify::code(error).map(Cow::into_owned).map(clip);
        Self { attempt, at, kind: error.kind(), code, message: clip(error.chain()) }
    }
}

impl DeadLetter {
    /// Why, in one line: the last error's message, else the reason.
    pub fn reason(&self) -> String {
        self.failures.last().map_or_else(|| self.death.to_string(), |failure| failure.message.clone())
    }

    /// The key of a subscription that is halted behind it.
    pub(crate) fn halted(&self, subscription: &str) -> Option<(Option<Tenant>, Key)> {
        let is_its = self.halts && self.subscription.as_deref() == Some(subscription);
        self.event.key.clone().filter(|_| is_its).map(|key| (self.event.tenant.clone(), key))
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Permanent => "permanent",
            Self::Exhausted => "exhausted",
            Self::RetryQuota => "retry_quota",
            Self::Saturated => "saturated",
            Self::Unrouted => "unrouted",
            Self::Halted => "halted",
            Self::Crashed => "crashed",
            Self::Loop => "loop",
            Self::Late => "late",
            Self::Parked => "parked",
        })
    }
}
