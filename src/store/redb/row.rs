//! A row of a table as it lies in the file.
//!
//! ```text
//! flags (bit 0: it expires), u64 nanoseconds of its expiry where it does, value, CRC32C of table, key and all before
//! ```
//! Numbers are little-endian. The key is the partition, big-endian, and the row's key.

use bytes::Bytes;
use millstream_operators::Timestamp;

use super::chunk::Damage;
use crate::store::{PartitionId, plan::Held};

const EXPIRES: u8 = 1;
const CRC: usize = 4;

/// The key of a row in the file.
pub(super) fn key(partition: PartitionId, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&partition.0.to_be_bytes());
    out.extend_from_slice(key);
}

/// Splits a key of the file.
pub(super) fn parse_key(key: &[u8]) -> Option<(PartitionId, &[u8])> {
    let (partition, key) = key.split_first_chunk()?;
    Some((PartitionId(u32::from_be_bytes(*partition)), key))
}

fn checksum(table: &str, key: &[u8], row: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(table.as_bytes()), key), row)
}

/// Writes a row's value.
pub(super) fn encode(table: &str, key: &[u8], held: &Held, out: &mut Vec<u8>) {
    out.clear();
    out.push(if held.until.is_some() { EXPIRES } else { 0 });
    out.extend(held.until.into_iter().flat_map(|until| until.as_nanos().to_le_bytes()));
    out.extend_from_slice(&held.value);
    out.extend_from_slice(&checksum(table, key, out).to_le_bytes());
}

/// Reads a row's value and verifies it.
pub(super) fn decode(table: &str, key: &[u8], row: &[u8]) -> Result<Held, Damage> {
    let (until, value) = parse(table, key, row)?;
    Ok(Held { value: Bytes::copy_from_slice(value), until })
}

/// Verifies a row and splits its value.
pub(super) fn parse<'a>(table: &str, key: &[u8], row: &'a [u8]) -> Result<(Option<Timestamp>, &'a [u8]), Damage> {
    let (signed, crc) = row.split_last_chunk::<CRC>().ok_or(Damage("the row is cut off"))?;
    if checksum(table, key, signed) != u32::from_le_bytes(*crc) {
        return Err(Damage("the checksum is wrong"));
    }
    match signed.split_first() {
        Some((0, value)) => Ok((None, value)),
        Some((&EXPIRES, rest)) => {
            let (until, value) = rest.split_first_chunk().ok_or(Damage("the row is cut off"))?;
            Ok((Some(Timestamp::from_nanos(u64::from_le_bytes(*until))), value))
        }
        _ => Err(Damage("the row is of an unknown kind")),
    }
}
