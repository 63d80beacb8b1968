//! Events from elsewhere become events of the log.

use std::{collections::HashSet, mem, sync::Arc};

use bytes::Bytes;

use super::{Archive, ArchiveError, COMMIT_BYTES, CloudEvent, append_op, corrupt, log::LogFilter};
use crate::{
    event::{Envelope, aggregate_key},
    journal::{dead_row, parse_failed, pass_on, row_key},
    store::{CommitError, Op, StoreError, Tenure, tables},
};

/// Takes events in, as the intake of a runtime does: one that is there already is passed over, one that changes an aggregate
/// must make a version that nobody has made, and one that is delayed waits for its time.
///
/// What was added is in the store once a later call has committed it, at the latest [`finish`](Self::finish). A commit has
/// some thousand events; whoever is interrupted may begin again from the start.
///
/// # Ordering
/// Events lie in the log in the order in which they were added.
#[derive(Debug)]
pub struct Import<'a> {
    archive: &'a Archive,
    tenure: Arc<Tenure>,
    ids: HashSet<u128>,
    /// The versions of aggregates that the next commit makes.
    versions: HashSet<Bytes>,
    ops: Vec<Op>,
    bytes: usize,
    pending: ImportReport,
    report: ImportReport,
}

/// What has come of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// Events that are in the log now.
    pub imported: u64,
    /// Events that wait for their due time now.
    pub delayed: u64,
    /// Events that were there already.
    pub duplicates: u64,
}

/// What has come of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Imported {
    /// The next commit has it.
    Taken,
    /// It is there already.
    Duplicate,
}

/// Why an event cannot be taken in.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It cannot be stored.
    #[error("event {id} cannot be stored: {reason}")]
    NotStorable {
        /// Its id.
        id: crate::event::EventId,
        /// Why.
        reason: String,
    },
    /// Another event has made its aggregate's version.
    #[error("{kind} {aggregate} has version {version} already, made by another event")]
    Conflict {
        /// The aggregate's type.
        kind: String,
        /// Which one.
        aggregate: String,
        /// The version.
        version: u64,
    },
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        Self::Archive(error.into())
    }
}

impl From<CommitError> for ImportError {
    fn from(error: CommitError) -> Self {
        Self::Archive(error.into())
    }
}

impl Archive {
    /// Begins to take events in.
    ///
    /// Reads the ids of all events that are there, wherever they are: in the log, delayed, failed, dead, or of an aggregate.
    /// They stay in memory until the import ends, some 20 bytes each.
    ///
    /// # Errors
    /// Where the store cannot be claimed or read.
    pub async fn import(&self) -> Result<Import<'_>, ArchiveError> {
        let tenure = Arc::new(Tenure::begin(&*self.store, self.partition).await?);
        let ops = pass_on(&tenure).await?.into_iter().collect();
        let mut ids = HashSet::new();
        let mut log = self.log(LogFilter::all());
        while let Some(entry) = log.next().await? {
            ids.insert(entry.event.id.as_u128());
        }
        for table in [tables::DELAYED, tables::AGGREGATE, tables::FAILED, tables::DEAD] {
            self.each(table, |key, value| {
                let id = match table {
                    tables::FAILED => parse_failed(&key, value)?.2.id,
                    tables::DEAD => dead_row(value)?.event.id,
                    _ => Envelope::from_record(&value).map_err(|error| corrupt(table, error))?.id,
                };
                ids.insert(id.as_u128());
                Ok(())
            })
            .await?;
        }
        Ok(Import {
            archive: self,
            tenure,
            ids,
            versions: HashSet::new(),
            ops,
            bytes: 0,
            pending: ImportReport::default(),
            report: ImportReport::default(),
        })
    }
}

impl Import<'_> {
    /// Adds an event.
    ///
    /// # Errors
    /// Where it cannot be taken in, or what was added before cannot be committed. What was committed stays.
    pub async fn add(&mut self, event: CloudEvent) -> Result<Imported, ImportError> {
        let (event, due) = event.into_parts();
        if self.ids.contains(&event.id.as_u128()) {
            self.report.duplicates += 1;
            return Ok(Imported::Duplicate);
        }
        let not_storable =
            |error: serde_json::Error| ImportError::NotStorable { id: event.id, reason: error.to_string() };
        let bytes = event.to_record().map_err(not_storable)?;
        if self.bytes + 2 * bytes.len() > COMMIT_BYTES {
            self.commit().await?;
        }
        self.take_version(&event, &bytes).await?;
        self.bytes += bytes.len();
        self.ids.insert(event.id.as_u128());
        if let Some(due) = due {
            let key = row_key((due, event.id.as_u128()));
            self.ops.push(Op::Put { table: tables::DELAYED, key, value: bytes });
            self.pending.delayed += 1;
        } else {
            self.append(&event, bytes);
            self.pending.imported += 1;
        }
        Ok(Imported::Taken)
    }

    fn append(&mut self, event: &Envelope, bytes: Bytes) {
        match (self.ops.last_mut(), append_op(event, bytes)) {
            (Some(Op::Append { class: last, records }), Op::Append { class, records: more }) if *last == class => {
                records.extend(more);
            }
            (_, op) => self.ops.push(op),
        }
    }

    /// The row that must be new where an event changes an aggregate.
    async fn take_version(&mut self, event: &Envelope, bytes: &Bytes) -> Result<(), ImportError> {
        let Some(aggregate) = event.aggregate() else { return Ok(()) };
        let key = aggregate_key(event.tenant(), aggregate);
        let there = self.archive.reader.get(tables::AGGREGATE, std::slice::from_ref(&key)).await?;
        if there.iter().any(Option::is_some) || !self.versions.insert(key.clone()) {
            let (kind, aggregate, version) = (aggregate.kind.clone(), aggregate.id.clone(), aggregate.version);
            return Err(ImportError::Conflict { kind, aggregate, version });
        }
        self.bytes += bytes.len();
        self.ops.push(Op::PutNew { table: tables::AGGREGATE, key, value: bytes.clone(), life: None });
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), ImportError> {
        let (ops, pending) = (mem::take(&mut self.ops), mem::take(&mut self.pending));
        self.bytes = 0;
        self.versions.clear();
        if !ops.is_empty() {
            self.tenure.commit(ops).await?;
        }
        self.report.imported += pending.imported;
        self.report.delayed += pending.delayed;
        Ok(())
    }

    /// What has been committed so far.
    pub fn report(&self) -> ImportReport {
        self.report
    }

    /// Commits what is left.
    ///
    /// # Errors
    /// Where it cannot be committed. What was committed before stays.
    pub async fn finish(mut self) -> Result<ImportReport, ImportError> {
        self.commit().await?;
        Ok(self.report)
    }
}
