//! What tools do with a store: look at it, scrub it, copy it, make it smaller.
//!
//! All of it blocks the thread it runs on; in an asynchronous program, run it on one for blocking work.

mod backup;
mod compact;
mod inspect;
mod stats;
mod verify;

use redb::{ReadTransaction, ReadableTableMetadata as _, TableHandle as _};

pub use self::{
    compact::Compaction,
    inspect::{Inspector, TableRow},
    stats::{LogStats, PartitionStats, StoreStats, TableStats},
    verify::Verification,
};
use super::{
    Redb,
    fault::{Fault, contain},
    tables::{self, LOG, META, PARTITION, ROWS},
};
use crate::store::StoreError;

/// How far long work has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Chunks and rows that are done.
    pub done: u64,
    /// How many there are.
    pub total: u64,
}

/// How often progress is told: each so many chunks and rows.
const STRIDE: u64 = 1_024;

impl Redb {
    /// Works on one snapshot, however long it takes. A snapshot makes the file grow while others write.
    fn on_snapshot<T>(
        &self,
        what: &str,
        work: impl FnOnce(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let snapshot = self.owner.shared.snapshot().map_err(|fault| fault.reading(what))?;
        contain(|| work(&snapshot)).map_err(|fault| fault.reading(what))
    }
}

/// The names of all tables in the file, those of the store itself first.
fn names(snapshot: &ReadTransaction) -> Result<Vec<String>, Fault> {
    let mut names: Vec<String> = [META, PARTITION, LOG].map(str::to_owned).into();
    let rows = snapshot.list_tables()?.map(|table| table.name().to_owned());
    names.extend(rows.filter(|name| name.starts_with(ROWS)));
    Ok(names)
}

/// Counts what is to be done, and what is done.
struct Count<'a> {
    progress: Progress,
    tell: &'a mut dyn FnMut(Progress),
}

impl<'a> Count<'a> {
    fn new(snapshot: &ReadTransaction, names: &[String], tell: &'a mut dyn FnMut(Progress)) -> Result<Self, Fault> {
        let mut total = 0;
        for name in names {
            total += snapshot.open_table(tables::definition(name))?.len()?;
        }
        let progress = Progress { done: 0, total };
        tell(progress);
        Ok(Self { progress, tell })
    }

    fn add(&mut self) {
        self.progress.done += 1;
        if self.progress.done.is_multiple_of(STRIDE) || self.progress.done == self.progress.total {
            (self.tell)(self.progress);
        }
    }
}
