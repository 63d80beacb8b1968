//! Opens a file, makes sure that it is ours and that we know its format.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{Database, ReadableDatabase as _, StorageBackend, TableHandle as _, backends::FileBackend};

use super::{
    chunk::Damage,
    fault::{self, Fault, contain},
    frozen::Frozen,
    meter::{Meter, Seen},
    row,
    tables::{self, META},
};
use crate::store::{StoreError, plan::Held};

/// The format that this version writes.
pub(super) const FORMAT: u32 = 1;
/// Where the format is written.
const FORMAT_KEY: &[u8] = b"format";
/// What each redb file begins with.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// Where a file's header ends, and how long a file is at most that is being made.
const HEADER: u64 = 512;
const MAX_UNFINISHED: u64 = 16 << 20;

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) cache: usize,
    pub(super) quick_repair: u64,
    pub(super) check: u64,
}

/// Where the bytes are, and whether what can be read of them is on disk.
#[derive(Debug)]
pub(super) struct Source {
    place: Place,
    /// A sync has failed. The system may count as written what it has lost, and a later sync says nothing of that.
    is_doubtful: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    /// A file that is only looked at.
    Frozen(PathBuf),
    Backend(Arc<dyn StorageBackend>),
}

/// An open file.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) seen: Arc<Seen>,
}

impl Source {
    pub(super) fn file(path: PathBuf) -> Self {
        Self { place: Place::File(path), is_doubtful: Arc::default() }
    }

    /// A file that is only looked at.
    pub(super) fn frozen(path: PathBuf) -> Self {
        Self { place: Place::Frozen(path), is_doubtful: Arc::default() }
    }

    pub(super) fn backend(backend: impl StorageBackend) -> Self {
        Self { place: Place::Backend(Arc::new(backend)), is_doubtful: Arc::default() }
    }

    /// What to call it.
    pub(super) fn path(&self) -> &Path {
        match &self.place {
            Place::File(path) | Place::Frozen(path) => path,
            Place::Backend(_) => Path::new("(a storage backend)"),
        }
    }

    /// What those are told who want to write, where nobody may.
    pub(super) fn forbids(&self) -> Option<StoreError> {
        if let Place::Frozen(path) = &self.place { Some(StoreError::Frozen { path: path.clone() }) } else { None }
    }

    /// Opens it; makes it where there is none.
    pub(super) fn open(&self, settings: Settings) -> Result<Opened, StoreError> {
        let (backend, is_owner): (Arc<dyn StorageBackend>, _) = match &self.place {
            Place::File(path) => (Arc::new(backend(path)?), true),
            Place::Frozen(path) => (Arc::new(Frozen::open(path)?), true),
            Place::Backend(backend) => (Arc::clone(backend), false),
        };
        let (meter, seen) = Meter::new(backend, is_owner, Arc::clone(&self.is_doubtful));
        let opened = contain(|| {
            match recognise(&meter).map_err(redb::Error::Io)? {
                Kind::Redb => {}
                Kind::Unfinished => meter.set_len(0).map_err(redb::Error::Io)?,
                Kind::Foreign(what) => return Ok((None, Format::Foreign(what.into()))),
            }
            if self.is_doubtful.load(Ordering::Relaxed) {
                write_again(&meter).map_err(redb::Error::Io)?;
                self.is_doubtful.store(false, Ordering::Relaxed);
            }
            let bytes = meter.len().map_err(redb::Error::Io)?;
            let mut builder = Database::builder();
            builder.set_cache_size(settings.cache).set_check_integrity_on_open(bytes > 0 && bytes <= settings.check);
            let database = builder.create_with_backend(meter)?;
            let format = format(&database)?;
            Ok((Some(database), format))
        });
        // What redb says of an error after the first is only that there was one.
        let opened = opened.map_err(|fault| match seen.failure() {
            Some(kind) => fault::from_io(self.path(), kind.into()),
            None => fault::opening(self.path(), fault),
        });
        let (database, format) = opened?;
        let foreign = |what| StoreError::NotOurs { path: self.path().into(), what };
        match format {
            Format::Known => Ok(Opened { database: database.ok_or_else(|| foreign("it is none".into()))?, seen }),
            Format::Newer(found) => Err(StoreError::Newer { path: self.path().into(), found, known: FORMAT }),
            Format::Foreign(what) => Err(foreign(what)),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Place::Backend(backend) = &self.place {
            // Nobody is left to be told of a failure, and all that was acknowledged is on disk.
            let _ = backend.close();
        }
    }
}

fn backend(path: &Path) -> Result<FileBackend, StoreError> {
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
    let file = options.open(path).map_err(|error| fault::from_io(path, error))?;
    FileBackend::new(file).map_err(|error| fault::opening(path, error.into()))
}

/// Writes all that can be read once more, so that what is built upon it is on disk. If the machine stops meanwhile, there
/// is what was there, and any part of what was not synced: nothing that opening does not know how to repair.
fn write_again(backend: &dyn StorageBackend) -> io::Result<()> {
    let length = backend.len()?;
    let mut block = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let size = usize::try_from(length - at).map_or(block.len(), |left| left.min(block.len()));
        let block = &mut block[..size];
        backend.read(at, block)?;
        backend.write(at, block)?;
        at += size as u64;
    }
    backend.sync_data()
}

/// What a file is before redb sees it.
enum Kind {
    /// There is something of redb in it, or nothing yet.
    Redb,
    /// The machine stopped while it was made.
    Unfinished,
    Foreign(&'static str),
}

fn recognise(backend: &dyn StorageBackend) -> io::Result<Kind> {
    let length = backend.len()?;
    if length == 0 {
        return Ok(Kind::Redb);
    }
    if length < MAGIC.len() as u64 {
        return Ok(Kind::Foreign("it is too short"));
    }
    let mut magic = [0; MAGIC.len()];
    backend.read(0, &mut magic)?;
    match magic {
        MAGIC => Ok(Kind::Redb),
        [0, ..] if magic == [0; MAGIC.len()] && is_unfinished(backend, length)? => Ok(Kind::Unfinished),
        _ => Ok(Kind::Foreign("it begins with something else")),
    }
}

/// redb names a file its own once its header is flushed, and writes nothing else before.
fn is_unfinished(backend: &dyn StorageBackend, length: u64) -> io::Result<bool> {
    let mut block = vec![0; 1 << 16];
    let mut at = HEADER;
    while at < length.min(MAX_UNFINISHED) {
        let part = usize::try_from(length - at).map_or(block.len(), |left| left.min(block.len()));
        backend.read(at, &mut block[..part])?;
        if block[..part].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += part as u64;
    }
    Ok(length <= MAX_UNFINISHED)
}

enum Format {
    Known,
    Newer(u32),
    Foreign(String),
}

/// Reads the format, and writes ours into a file that has none yet.
fn format(database: &Database) -> Result<Format, Fault> {
    let read = database.begin_read()?;
    let names: Vec<String> = read.list_tables()?.map(|table| table.name().to_owned()).collect();
    if names.is_empty() {
        drop(read);
        return create(database);
    }
    if !names.iter().any(|name| name == META) {
        return Ok(Format::Foreign("it is a redb file of another program".into()));
    }
    let table = match read.open_table(tables::definition(META)) {
        Ok(table) => table,
        Err(redb::TableError::TableTypeMismatch { .. }) => {
            return Ok(Format::Foreign("it is a redb file of another program".into()));
        }
        Err(error) => return Err(error.into()),
    };
    let damaged = |damage| Fault::damaged("its format", damage);
    let Some(row) = table.get(FORMAT_KEY)? else { return Err(damaged(Damage("the row is missing"))) };
    let held = row::decode(META, FORMAT_KEY, row.value()).map_err(damaged)?;
    let found = held.value[..].try_into().map(u32::from_le_bytes);
    match found.map_err(|_| damaged(Damage("the row is of an unknown kind")))? {
        FORMAT => Ok(Format::Known),
        found if found > FORMAT => Ok(Format::Newer(found)),
        found => Ok(Format::Foreign(format!("its format is {found}, which no version has written"))),
    }
}

fn create(database: &Database) -> Result<Format, Fault> {
    let write = database.begin_write()?;
    {
        let held = Held { value: FORMAT.to_le_bytes().to_vec().into(), until: None };
        let mut value = Vec::new();
        row::encode(META, FORMAT_KEY, &held, &mut value);
        write.open_table(tables::definition(META))?.insert(FORMAT_KEY, &value[..])?;
        write.open_table(tables::definition(tables::PARTITION))?;
        write.open_table(tables::definition(tables::LOG))?;
    }
    write.commit()?;
    Ok(Format::Known)
}
