//! Why the past cannot be read.

use crate::store::{Seq, StoreError};

/// Why the past cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The runtime keeps its events in memory.
    #[error("a runtime without a store has no history: give the builder a `store`")]
    NeedsStore,
    /// The runtime was shut down.
    #[error("the runtime is stopped")]
    Closed,
    /// Events that were asked for are not in the log any more. Reading on goes on behind them.
    #[error("events before place {} were trimmed before they were read", first.0)]
    Trimmed {
        /// The first place that is kept, in the class of urgency that was read.
        first: Seq,
    },
    /// The store cannot be read.
    #[error("the history cannot be read")]
    Store(#[from] StoreError),
}
