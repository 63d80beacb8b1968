//! Copies a store while it is used.

use std::path::Path;

use redb::{Database, Durability, ReadTransaction};

use super::{Count, Progress, names};
use crate::store::{
    StoreError,
    redb::{
        Redb,
        fault::{self, Fault, contain},
        tables::{self, LOG},
        verify,
    },
};

/// How many bytes are copied at once.
const STEP: usize = 16 << 20;

impl Redb {
    /// Copies the store as it is now to a file that must not be there yet, while others read and write; the copy has no
    /// gaps and opens as a store. Each chunk and row is verified on the way. `progress` is told how far it has come.
    ///
    /// Blocks the thread. The file of the store grows while it runs, by what is written meanwhile.
    ///
    /// # Errors
    /// [`Corrupt`](StoreError::Corrupt) where something is damaged: a copy that pretends to be whole is not made.
    /// [`Io`](StoreError::Io), [`ReadOnly`](StoreError::ReadOnly) or [`Full`](StoreError::Full) where the copy cannot be
    /// written. What was made of it is removed.
    pub fn backup(&self, to: impl AsRef<Path>, mut progress: impl FnMut(Progress)) -> Result<(), StoreError> {
        let to = to.as_ref();
        // Never over what is there: it may be the last good copy.
        let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(to);
        let file = file.map_err(|error| fault::from_io(to, error))?;
        let copied = self.on_snapshot("the store", |snapshot| {
            Ok(contain(|| {
                let backend = redb::backends::FileBackend::new(file)?;
                let mut copy = Database::builder().create_with_backend(backend)?;
                copy_all(snapshot, &mut copy, &mut progress)?;
                copy.close()?;
                Ok(())
            }))
        });
        let copied = copied.and_then(|copied| copied.map_err(|fault| fault::opening(to, fault)));
        if copied.is_err() {
            // The error is what the caller has to know; what is left of the copy does not open.
            let _ = std::fs::remove_file(to);
        }
        copied
    }
}

fn copy_all(snapshot: &ReadTransaction, copy: &mut Database, progress: &mut dyn FnMut(Progress)) -> Result<(), Fault> {
    let names = names(snapshot)?;
    let mut count = Count::new(snapshot, &names, progress)?;
    for name in &names {
        let table = snapshot.open_table(tables::definition(name))?;
        let mut rows = table.range::<&[u8]>(..)?;
        loop {
            let mut write = copy.begin_write()?;
            write.set_durability(Durability::None).map_err(redb::Error::from)?;
            let is_done = copy_step(&write, name, &mut rows, &mut count)?;
            write.commit()?;
            if is_done {
                break;
            }
        }
    }
    // The first durable commit makes all those before it durable, and compacting begins with one. A file grows by doubling, so
    // without it up to half of the copy would be empty.
    while copy.compact()? {}
    Ok(())
}

fn copy_step(
    write: &redb::WriteTransaction,
    name: &str,
    rows: &mut redb::Range<'_, &'static [u8], &'static [u8]>,
    count: &mut Count<'_>,
) -> Result<bool, Fault> {
    let mut table = write.open_table(tables::definition(name))?;
    let mut bytes = 0;
    for entry in rows {
        let (key, value) = entry?;
        if name == LOG {
            verify::chunk(key.value(), value.value())?;
        } else {
            tables::verify(name, key.value(), value.value())?;
        }
        table.insert(key.value(), value.value())?;
        bytes += key.value().len() + value.value().len();
        count.add();
        if bytes >= STEP {
            return Ok(false);
        }
    }
    Ok(true)
}
