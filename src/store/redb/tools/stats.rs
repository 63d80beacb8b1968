//! What is in a store, in numbers.

use redb::{ReadTransaction, ReadableTableMetadata as _};

use super::names;
use crate::store::{
    Class, PartitionId, Seq, StoreError,
    redb::{
        Redb,
        chunk::{self, Chunk, Damage},
        fault::Fault,
        file::FORMAT,
        lane,
        tables::{self, LOG, PARTITION, ROWS},
    },
};

/// What is in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// The format of the file.
    pub format: u32,
    /// How long the file is.
    pub file_bytes: u64,
    /// The tables of rows, by name.
    pub tables: Vec<TableStats>,
    /// The partitions, by number.
    pub partitions: Vec<PartitionStats>,
    /// The bytes of all chunks of all logs.
    pub log_bytes: u64,
}

/// A table, over all partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableStats {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStats {
    /// Its number.
    pub partition: PartitionId,
    /// The number of its last claim.
    pub fence: u64,
    /// After its last record.
    pub end: Seq,
    /// The logs of its classes that have had a record.
    pub logs: Vec<LogStats>,
}

/// The log of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStats {
    /// Which.
    pub class: Class,
    /// Its first and its last record; none where all are trimmed.
    pub span: Option<(Seq, Seq)>,
    /// How many chunks it has.
    pub chunks: u64,
    /// After the last record that was trimmed.
    pub trimmed: Seq,
}

impl Redb {
    /// Counts what is in the store. Blocks the thread, and reads the inner pages of every table.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let file_bytes = self.owner.shared.file_bytes()?;
        self.on_snapshot("the store", |snapshot| {
            let mut tables = Vec::new();
            for name in names(snapshot)? {
                let Some(short) = name.strip_prefix(ROWS) else { continue };
                let table = snapshot.open_table(tables::definition(&name))?;
                let (rows, bytes) = (table.len()?, table.stats()?.stored_bytes());
                tables.push(TableStats { name: short.to_owned(), rows, bytes });
            }
            let log_bytes = snapshot.open_table(tables::definition(LOG))?.stats()?.stored_bytes();
            Ok(StoreStats { format: FORMAT, file_bytes, tables, partitions: partitions(snapshot)?, log_bytes })
        })
    }
}

fn partitions(snapshot: &ReadTransaction) -> Result<Vec<PartitionStats>, Fault> {
    let (table, log) =
        (snapshot.open_table(tables::definition(PARTITION))?, snapshot.open_table(tables::definition(LOG))?);
    let mut found = Vec::new();
    for entry in table.range::<&[u8]>(..)? {
        let (key, _) = entry?;
        let partition = key.value().try_into().map(|key| PartitionId(u32::from_be_bytes(key)));
        let partition = partition.map_err(|_| Fault::damaged("a partition", Damage("its key is none")))?;
        let shape = tables::shape(&table, partition)?;
        let mut logs = Vec::new();
        for (class, of) in (0..).map(Class).zip(&shape.logs) {
            if of.span.is_none() && of.trimmed == Seq(0) {
                continue;
            }
            let span = of.span.map(|(first, last)| Ok::<_, Fault>((first, last_record(&log, partition, class, last)?)));
            logs.push(LogStats { class, span: span.transpose()?, chunks: of.chunks, trimmed: of.trimmed });
        }
        found.push(PartitionStats { partition, fence: shape.fence, end: shape.next, logs });
    }
    Ok(found)
}

fn last_record(log: &tables::ReadTable, partition: PartitionId, class: Class, chunk: Seq) -> Result<Seq, Fault> {
    let key = chunk::key(partition, class, chunk);
    let value = log.get(&key[..])?.ok_or_else(|| lane::missing(partition, class, chunk))?;
    let damaged = |damage| Fault::damaged(lane::describe(partition, class, chunk), damage);
    Ok(Seq(Chunk::parse(&key, value.value()).map_err(damaged)?.end.0.saturating_sub(1)))
}
