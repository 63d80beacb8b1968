//! A store that no runtime has open: its events, its dead letters and its rows, for tools. Feature `archive`.
//!
//! Promises: it reads what a runtime would read, and it writes what a runtime would write, each step in one commit. What is
//! damaged is an error, never a value. Knows what the journal's rows mean; it runs no handler and keeps no time of its own.
//!
//! ```
//! use millstream::{Clock, DeadLetterFilter, Draft, Replay, Runtime, archive::{Archive, LogFilter}, store::Memory};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Memory::new();
//! let runtime = Runtime::builder().store(store.clone()).build()?;
//! runtime.emit(Draft::json("order.placed", 7.into()))?.await?;
//! drop(runtime);
//!
//! let archive = Archive::new(store);
//! let mut log = archive.log(LogFilter::all().event("order.*".parse()?));
//! assert_eq!(log.next().await?.map(|entry| entry.event.name().to_string()), Some("order.placed".into()));
//! assert_eq!(archive.replay(&Replay::of(DeadLetterFilter::all()), &Clock::system()).await?.replayed, 0);
//! # Ok(()) }
//! ```

mod cloud;
mod import;
mod letters;
mod log;
mod rows;
mod stages;
mod time;

use std::sync::Arc;

use bytes::Bytes;

pub use self::{
    cloud::{CloudEvent, CloudEventError},
    import::{Import, ImportError, ImportReport, Imported},
    letters::{DamagedLetter, Letters},
    log::{LogCount, LogEntry, LogFilter, LogReader},
    rows::{Reading, Row, Standing, SubscriptionState},
    stages::{KeyState, StageState},
};
use crate::{
    event::Envelope,
    intake::{class_of, record},
    store::{CommitError, KeyRange, Op, PartitionId, Reader, Store, StoreError, Table},
};

/// A partition of a store, looked at and mended while no runtime has it.
///
/// Reading takes nothing from anybody. Whatever writes claims the partition, so a runtime that has it all the same loses it
/// and begins again with what the store says.
#[derive(Debug)]
pub struct Archive {
    store: Arc<dyn Store>,
    reader: Box<dyn Reader>,
    partition: PartitionId,
}

/// Why an archive cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It cannot be read or claimed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be written. What was committed before stays.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Rows that are read at a time.
const PAGE: usize = 1_024;
/// What one commit has at most, but for what is written together or not at all.
const COMMIT_BYTES: usize = 8 << 20;

impl Archive {
    /// The partition of a store that a runtime has by default: number 0.
    pub fn new(store: impl Store) -> Self {
        Self::of(Arc::new(store), PartitionId(0))
    }

    /// A partition of a store.
    pub fn of(store: Arc<dyn Store>, partition: PartitionId) -> Self {
        let reader = store.reader(partition);
        Self { store, reader, partition }
    }

    /// Reads the rows of a table page by page, in the order of their keys.
    async fn each(
        &self,
        table: Table,
        mut row: impl FnMut(Bytes, Bytes) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.each_of(table, KeyRange::all(), |key, value| row(key, value).map(|()| true)).await
    }

    /// The same for a range of keys, while `row` wants more.
    async fn each_of(
        &self,
        table: Table,
        mut range: KeyRange,
        mut row: impl FnMut(Bytes, Bytes) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        loop {
            let page = self.reader.scan(table, range.clone(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            range = range.after(last);
            let is_last = page.len() < PAGE;
            for (key, value) in page {
                if !row(key, value)? {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

fn corrupt(table: Table, why: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what: format!("a row of `{}` ({why})", table.0) }
}

/// Appends an event as the intake does.
fn append_op(event: &Envelope, bytes: Bytes) -> Op {
    Op::Append { class: class_of(event), records: vec![record(event, bytes)] }
}
