//! What a stage says of itself.

use millstream_operators::Timestamp;

use super::{StateKey, StageCounts};
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
