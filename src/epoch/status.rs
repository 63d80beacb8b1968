//! What a stage says of itself.

use bytes::Bytes;
use millstream_operators::Timestamp;

use super::{StageCounts, StateKey};
use crate::store::Seq;

/// A key whose timer could not be fired. Its state stays; its events go to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parked {
    /// Why.
    pub(crate) reason: String,
    /// When the timer was due.
    pub(crate) at: Timestamp,
    /// Whether an epoch has it that was cut.
    pub(super) is_cut: bool,
}

impl Parked {
    pub(super) fn encode(&self) -> Bytes {
        let mut row = Vec::from(self.at.as_nanos().to_be_bytes());
        row.extend_from_slice(self.reason.as_bytes());
        row.into()
    }

    pub(super) fn decode(row: &[u8]) -> Option<Self> {
        let (at, reason) = row.split_first_chunk::<8>()?;
        let reason = String::from_utf8(reason.to_vec()).ok()?;
        Some(Self { reason, at: Timestamp::from_nanos(u64::from_be_bytes(*at)), is_cut: true })
    }
}

/// A stage as it is now. What is not committed yet is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StageStatus {
    /// Why it does not go on, if it does not: somebody has to look at it.
    pub(crate) parked: Option<String>,
    /// Committed: all before it is done. The log may be trimmed up to it.
    pub(crate) cursor: Seq,
    /// All before it was taken, committed or not.
    pub(crate) taken_to: Seq,
    /// The last epoch that was committed.
    pub(crate) epoch: u64,
    /// With event time the watermark, else the last time of the clock at which all timers had fired.
    pub(crate) watermark: Timestamp,
    pub(crate) counts: StageCounts,
    /// Keys in memory.
    pub(crate) keys: usize,
    /// Their bytes, by estimate.
    pub(crate) bytes: usize,
    /// Of them, keys whose newest state is in a delta and in no row yet.
    pub(crate) dirty: usize,
    /// Epochs whose deltas are on disk: what a restart has to read.
    pub(crate) deltas: usize,
    /// Epochs that are being committed.
    pub(crate) in_flight: usize,
    /// Keys whose timers are not fired any more.
    pub(crate) parked_keys: Vec<(StateKey, Parked)>,
}
