//! Opening files: to look at them, or to change them.

use std::{fs, path::Path, sync::Arc};

use millstream::{
    archive::Archive,
    store::{PartitionId, Redb},
};

use crate::failure::Failure;

/// Opens a file to look at it. Nothing changes it.
pub(crate) fn look(path: &Path) -> Result<Redb, Failure> {
    must_be_there(path)?;
    Ok(Redb::builder().open_frozen(path)?)
}

/// The same, checked as a whole or not, as somebody asks for it.
pub(crate) fn look_at(path: &Path, is_damaged: bool) -> Result<Redb, Failure> {
    if is_damaged { look_unchecked(path) } else { look(path) }
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

/// Opens a file to change it, and makes it where there is none.
pub(crate) fn change_or_make(path: &Path) -> Result<Redb, Failure> {
    if path.exists() { change(path) } else { Ok(Redb::open(path)?) }
}

/// A partition of an open file.
pub(crate) fn archive(store: &Redb, partition: u32) -> Archive {
    Archive::of(Arc::new(store.clone()), PartitionId(partition))
}

fn must_be_there(path: &Path) -> Result<(), Failure> {
    let found = fs::metadata(path).map_err(|error| Failure::io(path, &error))?;
    if found.is_file() && found.len() == 0 {
        // A runtime would make a store of it; a tool would only hide that something was lost.
        return Err(Failure::new("not_ours", format!("{} is empty: name another file", path.display())));
    }
    Ok(())
}
