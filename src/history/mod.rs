//! What was: events of the log in its order, events of an aggregate in its own, and states that are made of them.
//!
//! Promises: nothing is left out silently, for what was trimmed is an error; nothing comes twice; memory is bounded by pages.
//! Knows events and the store.

mod aggregate;
mod error;
mod merged;
mod projection;
mod query;
mod walk;

use std::{fmt, sync::Arc};

use tokio_util::sync::CancellationToken;

#[cfg(feature = "archive")]
pub(crate) use self::aggregate::APPEND;
pub use self::{
    aggregate::AggregateEvents,
    error::HistoryError,
    projection::Projection,
    query::{Events, History},
};
pub(crate) use self::{
    aggregate::{AggregateRows, OnceRow, once_row},
    merged::Merged,
};
use crate::store::{PartitionId, Store};

/// Where the past is kept.
#[derive(Clone)]
pub(crate) struct Library {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) partition: PartitionId,
    /// Cancelled when the runtime is stopped: then nobody waits for more.
    pub(crate) closed: CancellationToken,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library")
            .field("store", &self.store)
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}
