//! Looks into any table by its name.

use std::ops::Bound;

use bytes::Bytes;
use millstream_operators::Timestamp;
use redb::TableHandle as _;

use crate::store::{
    PartitionId, StoreError,
    redb::{
        Redb,
        fault::Fault,
        row,
        tables::{self, ROWS},
    },
};

/// Looks into the tables of a store, by names that are known only when the program runs. Reads, and changes nothing.
#[derive(Clone, Debug)]
pub struct Inspector {
    store: Redb,
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableRow {
    /// Whose it is.
    pub partition: PartitionId,
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// Until when it keeps others out; none for ever.
    pub until: Option<Timestamp>,
}

impl Redb {
    /// Looks into the tables. See [`Redb::reader`](crate::store::Store::reader) for the logs.
    pub fn inspector(&self) -> Inspector {
        Inspector { store: self.clone() }
    }
}

impl Inspector {
    /// The names of all tables.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn tables(&self) -> Result<Vec<String>, StoreError> {
        self.store.on_snapshot("the list of tables", |snapshot| {
            let names = snapshot.list_tables()?;
            Ok(names.filter_map(|table| table.name().strip_prefix(ROWS).map(str::to_owned)).collect())
        })
    }

    /// The first `limit` rows of a table that come after one, by partition and key; from the first where none is given.
    /// None where there is no such table.
    ///
    /// # Errors
    /// [`Corrupt`](StoreError::Corrupt) where a row is damaged.
    pub fn rows(
        &self,
        table: &str,
        after: Option<(PartitionId, &[u8])>,
        limit: usize,
    ) -> Result<Option<Vec<TableRow>>, StoreError> {
        let name = format!("{ROWS}{table}");
        self.store.on_snapshot(table, |snapshot| {
            let rows = match snapshot.open_table(tables::definition(&name)) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                opened => opened?,
            };
            let mut start = Vec::new();
            let start = match after {
                Some((partition, key)) => {
                    row::key(partition, key, &mut start);
                    Bound::Excluded(&start[..])
                }
                None => Bound::Unbounded,
            };
            let mut found = Vec::new();
            for entry in rows.range::<&[u8]>((start, Bound::Unbounded))?.take(limit) {
                let (key, value) = entry?;
                found.push(parse(&name, key.value(), value.value())?);
            }
            Ok(Some(found))
        })
    }
}

fn parse(name: &str, key: &[u8], value: &[u8]) -> Result<TableRow, Fault> {
    let damaged = |damage| Fault::damaged(tables::describe(name, key), damage);
    let held = row::decode(name, key, value).map_err(damaged)?;
    let (partition, key) =
        row::parse_key(key).ok_or_else(|| damaged(crate::store::redb::chunk::Damage("its key is none")))?;
    Ok(TableRow { partition, key: Bytes::copy_from_slice(key), value: held.value, until: held.until })
}
