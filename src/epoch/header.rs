//! What a stage knows of itself besides its states: one row, written with each epoch.

use bytes::Bytes;
use millstream_operators::Timestamp;
use serde::{Deserialize, Serialize};

use crate::stage::Since;

/// How far a stage has come in time. Never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reached {
    /// The latest time of the clock.
    pub(super) now: Timestamp,
    /// All that is due at this time or before has fired, and no item before it is taken: with event time the watermark.
    pub(super) watermark: Timestamp,
    /// The latest time of an item, with event time.
    pub(super) newest: Option<Timestamp>,
    /// When the last item was taken, by the clock: how long the input has been idle.
    pub(super) active: Timestamp,
}

/// What has happened since the stage began. Exact: it is written with the epoch that it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageCounts {
    /// Events taken from the log.
    pub taken: u64,
    /// Events of other names that it was shown and passed over. A stage whose pattern is one name is shown no other by the store.
    pub skipped: u64,
    /// Events given out.
    pub emitted: u64,
    /// Timers fired.
    pub fired: u64,
    /// Events that came when the watermark had passed them; one that is replayed and comes late again counts again.
    pub late: u64,
    /// Events that went to the dead letters, late ones among them where the policy says so.
    pub dead: u64,
}

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) epoch: u64,
    /// The first place that is not taken yet.
    pub(super) cursor: u64,
    pub(super) reached: Reached,
    pub(super) counts: StageCounts,
    /// What came before is not taken, as it was said when the stage began.
    #[serde(default, skip_serializing_if = "Since::is_unsaid")]
    pub(super) since: Since,
    /// Its other rows are being removed, and some may be gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_going: bool,
}

impl Header {
    pub(super) fn encode(&self) -> Bytes {
        #[expect(clippy::expect_used, reason = "numbers alone, into memory")]
        let bytes = rmp_serde::to_vec_named(self).expect("a header can be written");
        bytes.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }
}
