//! The tables of a file, and rows that are read with suspicion.
//!
//! redb does not verify what it reads, so a flipped bit in a key would make a row invisible. Whoever misses a row looks at
//! what lies on both sides of its place: a search for a key that was damaged, or that was led astray by one, ends beside it.

use std::{borrow::Cow, fmt, ops::Bound};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition};

use super::{chunk::Damage, fault::Fault, row, shape::Shape};
use crate::store::{PartitionId, Table, plan::Held};

/// The format, and the names of the tables.
pub(super) const META: &str = "meta";
/// What each partition looks like.
pub(super) const PARTITION: &str = "partition";
/// The chunks.
pub(super) const LOG: &str = "log";
/// What the name of a table of rows begins with in the file.
pub(super) const ROWS: &str = "t.";

pub(super) type Raw = &'static [u8];
pub(super) type ReadTable = ReadOnlyTable<Raw, Raw>;

pub(super) fn definition(name: &str) -> TableDefinition<'_, Raw, Raw> {
    TableDefinition::new(name)
}

/// What a table of rows is called in the file.
pub(super) fn name(table: Table) -> String {
    format!("{ROWS}{}", table.0)
}

/// Names a row for those who read an error.
pub(super) fn describe(table: &str, key: &[u8]) -> String {
    let Some((partition, key)) = row::parse_key(key) else { return format!("a row of table `{table}`") };
    format!("row {} of table `{table}`, partition {}", readable(key), partition.0)
}

/// A key as text, where it is some.
pub(super) fn readable(key: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => text.into(),
        _ => Hex(key).to_string().into(),
    }
}

/// Bytes that are no text.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Opens a table of rows; none where there is none yet.
pub(super) fn open(read: &ReadTransaction, table: Table) -> Result<Option<ReadTable>, Fault> {
    let name = name(table);
    match read.open_table(definition(&name)) {
        Ok(table) => Ok(Some(table)),
        Err(redb::TableError::TableDoesNotExist(_)) => {
            let meta = read.open_table(definition(META))?;
            match get(&meta, META, name.as_bytes())? {
                Some(_) => Err(Fault::damaged(format!("table `{}`", table.0), Damage("it is missing"))),
                None => Ok(None),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// A row, verified.
pub(super) fn get(table: &impl ReadableTable<Raw, Raw>, name: &str, key: &[u8]) -> Result<Option<Held>, Fault> {
    if let Some(row) = table.get(key)? {
        let held = row::decode(name, key, row.value());
        return held.map(Some).map_err(|damage| Fault::damaged(describe(name, key), damage));
    }
    absent(table, name, key)?;
    Ok(None)
}

/// Makes sure that a row that was not found is not there.
fn absent(table: &impl ReadableTable<Raw, Raw>, name: &str, key: &[u8]) -> Result<(), Fault> {
    let mut cursor = table.lower_bound(Bound::Included(key))?;
    let sides = [(cursor.peek_prev()?, true), (cursor.peek_next()?, false)];
    for (beside, is_before) in sides {
        let Some((beside, row)) = beside else { continue };
        if beside.value() == key || (beside.value() < key) != is_before {
            return Err(Fault::damaged(describe(name, beside.value()), Damage("it is out of order")));
        }
        verify(name, beside.value(), row.value())?;
    }
    Ok(())
}

/// Makes sure that a row is what was written.
pub(super) fn verify(name: &str, key: &[u8], row: &[u8]) -> Result<(), Fault> {
    row::parse(name, key, row).map(drop).map_err(|damage| Fault::damaged(describe(name, key), damage))
}

/// What a partition looks like; empty where there is none.
pub(super) fn shape(table: &impl ReadableTable<Raw, Raw>, partition: PartitionId) -> Result<Shape, Fault> {
    let key = partition.0.to_be_bytes();
    let Some(held) = get(table, PARTITION, &key)? else { return Ok(Shape::default()) };
    Shape::decode(&held.value).map_err(|damage| Fault::damaged(format!("partition {}", partition.0), damage))
}
