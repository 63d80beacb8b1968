//! All that a store holds, read through its own interface.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream::store::{CLASSES, Class, KeyRange, PageRecord, Reader, Seq, Store, StoreError, Table, Wanted};

use crate::{
    history::{AFTER, ELSEWHERE, HERE, TABLES},
    wait::{Hang, wait},
};

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The records of each class.
    pub logs: Vec<Vec<PageRecord>>,
    /// The records of each class of the partition that is sent to.
    pub sent: Vec<Vec<PageRecord>>,
    /// The rows of each table.
    pub tables: BTreeMap<Table, BTreeMap<Bytes, Bytes>>,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store says no.
    #[error("the store cannot be read: {0}")]
    Store(#[from] StoreError),
    /// The store says nothing.
    #[error(transparent)]
    Hang(#[from] Hang),
    /// The store says what cannot be.
    #[error("{0}")]
    Absurd(String),
}

/// How much is read at once: less than a workload writes, so that reading goes on from page to page.
const PAGE_BYTES: usize = 16_384;
const PAGE_ROWS: usize = 64;

impl Found {
    /// Reads all.
    ///
    /// # Errors
    /// [`ReadError`] if the store does not answer, or answers what no store may.
    pub fn read(store: &dyn Store) -> Result<Self, ReadError> {
        let reader = &*store.reader(HERE);
        let (logs, sent) = (read_logs(reader)?, read_logs(&*store.reader(ELSEWHERE))?);
        let tables =
            TABLES.iter().map(|table| Ok((*table, read_table(reader, *table)?))).collect::<Result<_, ReadError>>()?;
        Ok(Self { logs, sent, tables })
    }
}

impl Found {
    /// How it differs from what it should be, but for what was written to see that work goes on.
    pub fn differs(&self, reference: &Self) -> Option<String> {
        for (partition, logs, expected) in
            [(HERE, &self.logs, &reference.logs), (ELSEWHERE, &self.sent, &reference.sent)]
        {
            for (class, (log, expected)) in logs.iter().zip(expected).enumerate() {
                if !log.iter().filter(|record| record.bytes != AFTER).eq(expected) {
                    return Some(format!("the records of class {class} in {partition:?} are not what they were"));
                }
            }
        }
        let tables = self.tables.iter().zip(&reference.tables);
        let mut changed =
            tables.filter(|((_, rows), (_, expected))| !rows.iter().filter(|(key, _)| *key != AFTER).eq(*expected));
        changed.next().map(|((table, _), _)| format!("the rows of `{}` are not what they were", table.0))
    }
}

fn read_logs(reader: &dyn Reader) -> Result<Vec<Vec<PageRecord>>, ReadError> {
    (0..CLASSES).map(|class| read_log(reader, Class(class))).collect()
}

fn read_log(reader: &dyn Reader, class: Class) -> Result<Vec<PageRecord>, ReadError> {
    let (mut records, mut from) = (Vec::<PageRecord>::new(), Seq(0));
    let wanted = Wanted::default();
    loop {
        let page = match wait(reader.read(class, from, PAGE_BYTES, &wanted))? {
            Err(StoreError::Trimmed { first }) if first > from => {
                from = first;
                continue;
            }
            answer => answer?,
        };
        if page.next < from || (page.next == from && !page.is_end) {
            return Err(ReadError::Absurd(format!(
                "reading class {} from {} goes on at {}",
                class.0, from.0, page.next.0
            )));
        }
        from = page.next;
        records.extend(page.records);
        if page.is_end {
            return Ok(records);
        }
    }
}

fn read_table(reader: &dyn Reader, table: Table) -> Result<BTreeMap<Bytes, Bytes>, ReadError> {
    let (mut rows, mut range) = (BTreeMap::new(), KeyRange::all());
    loop {
        let page = wait(reader.scan(table, range.clone(), PAGE_ROWS))??;
        let Some((last, _)) = page.last() else { return Ok(rows) };
        if !page.is_sorted_by(|a, b| a.0 < b.0) || !range.contains(&page[0].0) {
            return Err(ReadError::Absurd(format!("rows of `{}` come out of order", table.0)));
        }
        range = range.after(last);
        let is_end = page.len() < PAGE_ROWS;
        rows.extend(page);
        if is_end {
            return Ok(rows);
        }
    }
}
