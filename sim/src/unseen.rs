//! Flipped bits as a store sees them that does not look at its checksums: what was flipped carries the right checksum
//! again, so nothing gives it away but its content.

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableHandle as _};

use crate::{disk::SimDisk, image::Image};

/// Rows of all tables, and chunks of the log.
type Raw = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// What a row's value ends with: the checksum of the table's name, the key and the value before it.
const ROW_CRC: usize = 4;
/// Where a chunk's checksum is: that of its key, and of all else in it.
const CHUNK_CRC: std::ops::Range<usize> = 52..56;
/// Where the records of a chunk begin at the earliest.
const CHUNK_HEAD: usize = 56;

/// Flips a bit of a row of `state` or of a chunk, chosen by a place of the file, and makes its checksum right again.
///
/// # Errors
/// What redb says of the file.
pub fn flip_unseen(image: &mut Image, at: u64, bit: u8) -> Result<(), redb::Error> {
    const STATE: Raw = TableDefinition::new("t.state");
    const LOG: Raw = TableDefinition::new("log");
    let disk = SimDisk::new(image.clone());
    let database = Database::builder().create_with_backend(disk.clone())?;
    let table = if at.is_multiple_of(2) { STATE } else { LOG };
    let rows: Vec<(Vec<u8>, Vec<u8>)> = {
        let table = database.begin_read()?.open_table(table)?;
        let rows = table.iter()?.map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())));
        rows.collect::<Result<_, _>>()?
    };
    let at = usize::try_from(at).unwrap_or_default();
    if let Some((key, mut value)) = (!rows.is_empty()).then(|| rows[at % rows.len()].clone()) {
        if table.name() == STATE.name() {
            let body = value.len() - ROW_CRC;
            value[1 + at % (body - 1)] ^= 1 << bit;
            let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(b"t.state"), &key), &value[..body]);
            value[body..].copy_from_slice(&crc.to_le_bytes());
        } else {
            let last = value.len() - 1;
            value[last.max(CHUNK_HEAD)] ^= 1 << bit;
            let head = crc32c::crc32c_append(crc32c::crc32c(&key), &value[..CHUNK_CRC.start]);
            let crc = crc32c::crc32c_append(head, &value[CHUNK_CRC.end..]);
            value[CHUNK_CRC].copy_from_slice(&crc.to_le_bytes());
        }
        let write = database.begin_write()?;
        write.open_table(table)?.insert(&key[..], &value[..])?;
        write.commit()?;
    }
    drop(database);
    *image = disk.content();
    Ok(())
}
