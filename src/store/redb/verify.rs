//! Makes sure that a chunk is what was written, to the last record.

use super::{
    chunk::{self, Chunk, Damage},
    fault::Fault,
    lane,
};
use crate::store::{Class, PartitionId};

/// A chunk whose checksum, names and records are right, and whose it is.
pub(super) fn chunk<'a>(key: &[u8], value: &'a [u8]) -> Result<((PartitionId, Class), Chunk<'a>), Fault> {
    let Some((partition, class, first)) = chunk::parse_key(key) else {
        return Err(Fault::damaged("a chunk", Damage("its key is none")));
    };
    let damaged = |damage| Fault::damaged(lane::describe(partition, class, first), damage);
    let chunk = Chunk::parse(key, value).map_err(damaged)?;
    let mut next = first;
    for record in chunk.records().map_err(damaged)? {
        next = record.map_err(damaged)?.seq.next();
    }
    if next != chunk.end {
        return Err(damaged(Damage("its records end elsewhere")));
    }
    Ok(((partition, class), chunk))
}
