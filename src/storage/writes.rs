//! What is to be written together, and what was read for it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;

use super::Shelf;
use crate::store::{KeyRange, Op, tables};

/// Rows that are written together or not at all.
pub(crate) struct Writes {
    shelf: Arc<Shelf>,
    rows: BTreeMap<Bytes, Touched>,
}

/// What was done to a row.
#[derive(Debug, Default)]
struct Touched {
    /// The change that was the last one when it was read.
    read: Option<u64>,
    /// What it becomes; none inside for a row that goes.
    #[expect(clippy::option_option, reason = "it stays, or it goes")]
    write: Option<Option<Bytes>>,
}

/// A row that was read and is to be written has been written by another in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value of the storage that was read and is to be written has been written by another in between")]
pub(crate) struct Stale;

impl Writes {
    pub(crate) fn new(shelf: &Arc<Shelf>) -> Self {
        Self { shelf: Arc::clone(shelf), rows: BTreeMap::new() }
    }

    pub(crate) fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// Whether nothing would be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.values().all(|touched| touched.write.is_none())
    }

    /// Whether it depends on what was read.
    pub(crate) fn is_conditional(&self) -> bool {
        self.rows.values().any(|touched| touched.read.is_some())
    }

    /// What a row becomes; none where it stays.
    #[expect(clippy::option_option, reason = "it stays, or it goes")]
    pub(super) fn written(&self, row: &Bytes) -> Option<Option<Bytes>> {
        self.rows.get(row)?.write.clone()
    }

    /// The row is read now, if it was not before.
    pub(super) fn reads(&mut self, row: &Bytes) {
        let touched = self.rows.entry(row.clone()).or_default();
        if touched.read.is_none() {
            touched.read = Some(self.shelf.watch(row));
        }
    }

    pub(super) fn set(&mut self, row: Bytes, value: Option<Bytes>) {
        self.rows.entry(row).or_default().write = Some(value);
    }

    /// What rows of a range become.
    pub(super) fn written_in(&self, range: &KeyRange) -> BTreeMap<Bytes, Option<Bytes>> {
        let rows = self.rows.range(range.start.clone()..).take_while(|(row, _)| range.contains(row));
        rows.filter_map(|(row, touched)| Some((row.clone(), touched.write.clone()?))).collect()
    }

    /// The rows that change, and what they become.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&Bytes, Option<&Bytes>)> {
        self.rows.iter().filter_map(|(row, touched)| Some((row, touched.write.as_ref()?.as_ref())))
    }

    /// The same as steps of a batch.
    pub(crate) fn ops(&self) -> impl Iterator<Item = Op> {
        self.changes().map(|(row, value)| match value.cloned() {
            Some(value) => Op::Put { table: tables::STORAGE, key: row.clone(), value },
            None => Op::Delete { table: tables::STORAGE, key: row.clone() },
        })
    }

    /// The bytes of all values.
    pub(crate) fn size(&self) -> usize {
        self.changes().map(|(row, value)| row.len() + value.map_or(0, Bytes::len)).sum()
    }

    /// Whether a row that is to be written was read and is not fresh any more.
    pub(super) fn stale(&self, is_fresh: impl Fn(&Bytes, u64) -> bool) -> Option<Stale> {
        let both = self.rows.iter().filter(|(_, touched)| touched.write.is_some());
        let mut read = both.filter_map(|(row, touched)| Some((row, touched.read?)));
        read.any(|(row, change)| !is_fresh(row, change)).then_some(Stale)
    }

    /// Makes sure that nobody has written what was read and is to be written.
    pub(crate) fn check(&self) -> Result<(), Stale> {
        self.stale(|row, change| self.shelf.is_fresh(row, change)).map_or(Ok(()), Err)
    }

    /// Adds what another one writes, after this.
    pub(crate) fn absorb(&mut self, mut later: Self) {
        for (row, mut touched) in std::mem::take(&mut later.rows) {
            let mine = self.rows.entry(row.clone()).or_default();
            match (mine.read, touched.read.take()) {
                (None, read) => mine.read = read,
                (Some(_), Some(_)) => self.shelf.unwatch(&row),
                (Some(_), None) => {}
            }
            mine.write = touched.write.or(mine.write.take());
        }
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        for (row, _) in self.rows.iter().filter(|(_, touched)| touched.read.is_some()) {
            self.shelf.unwatch(row);
        }
    }
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writes").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}
