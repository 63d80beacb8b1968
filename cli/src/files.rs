//! Opening files: to look at them, or to change them.

use std::{fs, path::Path, sync::Arc};

use millstream::{
    archive::Archive,
    store::{PartitionId, Redb},
};

use crate::failure::Failure;

const READS_ON: &str = "`--damaged` reads what can still be read";
const WRITES_ON: &str = "`--damaged` changes it all the same, so copy it first";

/// Opens a file to look at it. Nothing changes it.
pub(crate) fn look(path: &Path) -> Result<Redb, Failure> {
    must_be_there(path)?;
    Ok(Redb::builder().open_frozen(path)?)
}

/// The same, checked as a whole or not, as somebody asks for it.
pub(crate) fn look_at(path: &Path, is_damaged: bool) -> Result<Redb, Failure> {
    if is_damaged { look_unchecked(path) } else { look(path).map_err(|failure| failure.and_if_damaged(READS_ON)) }
}

/// The same, without checking the whole file first: for those who look for what is damaged.
pub(crate) fn look_unchecked(path: &Path) -> Result<Redb, Failure> {
    must_be_there(path)?;
    Ok(Redb::builder().check(0).open_frozen(path)?)
}

/// The same, and checks the whole file first, however long it is.
pub(crate) fn look_checked(path: &Path) -> Result<Redb, Failure> {
    must_be_there(path)?;
    Ok(Redb::builder().check(u64::MAX).open_frozen(path)?)
}

/// Opens a file that is there, to change it.
pub(crate) fn change(path: &Path) -> Result<Redb, Failure> {
    must_be_there(path)?;
    Ok(Redb::open(path)?)
}

/// The same, checked first or not, as somebody asks for it.
pub(crate) fn change_at(path: &Path, is_damaged: bool) -> Result<Redb, Failure> {
    if !is_damaged {
        return change(path).map_err(|failure| failure.and_if_damaged(WRITES_ON));
    }
    must_be_there(path)?;
    Ok(Redb::builder().check(0).open(path)?)
}

/// Opens a file to change it, and makes it where there is none.
pub(crate) fn change_or_make(path: &Path) -> Result<Redb, Failure> {
    if path.exists() { change(path) } else { Ok(Redb::open(path)?) }
}

/// A partition of an open file. The first one is there in every file, with nothing in it if need be.
pub(crate) fn archive(store: &Redb, partition: u32) -> Result<Archive, Failure> {
    if partition > 0 {
        let known: Vec<u32> = store.stats()?.partitions.iter().map(|known| known.partition.0).collect();
        if !known.contains(&partition) {
            let known = known.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            return Err(Failure::new("missing", format!("there is no partition {partition}; there are: {known}")));
        }
    }
    Ok(archive_or_new(store, partition))
}

/// The same, whether anything is in it or not.
pub(crate) fn archive_or_new(store: &Redb, partition: u32) -> Archive {
    Archive::of(Arc::new(store.clone()), PartitionId(partition))
}

fn must_be_there(path: &Path) -> Result<(), Failure> {
    let found = fs::metadata(path).map_err(|error| Failure::io(path, &error))?;
    // A runtime would make a store of an empty one; a tool would only hide that something was lost. A pipe would keep whoever
    // opens it waiting.
    let what = match (found.is_file(), found.is_dir()) {
        (true, _) if found.len() > 0 => return Ok(()),
        (true, _) => "is empty",
        (_, true) => "is a folder",
        _ => "is no file",
    };
    Err(Failure::new("not_ours", format!("{} {what}: name another file", path.display())))
}
