//! The store in one file, on redb.
//!
//! ```text
//! append, commit -> queue -> committer (one thread) -> group -> lanes, rows -> redb -> meter -> file
//! get, scan, read ---------------------------------- a snapshot of redb ----^
//! ```
//! Logs lie in chunks, rows in a table each, and each chunk and row carries a checksum that every read verifies.

mod chunk;
mod committer;
mod fault;
mod file;
mod frozen;
mod group;
mod lane;
mod meter;
mod partition;
mod queue;
mod read;
mod row;
mod shape;
mod tables;
mod tools;
mod verify;

use std::{
    fmt,
    future::ready,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
    thread::{self, JoinHandle},
};

use ::redb::{ReadTransaction, ReadableDatabase as _, StorageBackend};

pub use self::tools::{
    Compaction, Inspector, LogStats, PartitionStats, Progress, StoreStats, TableRow, TableStats, Verification,
};
use self::{
    committer::Committer,
    fault::{Fault, contain, from_io},
    file::{Opened, Settings, Source},
    partition::Held,
    queue::{Granted, Job, Permit, Queue},
    read::View,
};
use super::{
    Claim, CommitError, Committed, Occupancy, Occupants, Op, PartitionId, Reader, Seq, Store, StoreError, StoreFuture,
    check::{self, Author},
    ticket::ticket,
    watch::Watch,
};

/// A store in one file. Each handle is of the same one; the file is closed when the last handle, reader and partition is
/// dropped, after all that was handed over.
///
/// One thread writes. Batches that are handed over while it flushes share the next commit, so the more wait, the cheaper
/// each is; nothing waits for company. A batch is on disk, flushed, before it is acknowledged. Reads run on the thread of the
/// caller and are ready at once.
///
/// Rows and chunks are verified by each read: what is not what was written is [`StoreError::Corrupt`].
///
/// # Blocking
/// Handing over a batch waits, on its thread, while 65,536 batches or 256 MiB are waiting already; in a waker that the writing thread
/// calls it never does. Dropping the last handle
/// waits for the commit that is on its way.
///
/// ```
/// use millstream::{Timestamp, store::{Class, Op, PartitionId, Record, Redb, Store, Wanted}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("events.redb");
/// let store = Redb::open(&path)?;
/// let record = Record { name: "order.placed".into(), time: Timestamp::EPOCH, bytes: "7".into(), keys: Vec::new() };
/// store.append(PartitionId(0), vec![Op::Append { class: Class(0), records: vec![record] }]).await?;
/// drop(store);
///
/// let reader = Redb::open(&path)?.reader(PartitionId(0));
/// let page = reader.read(Class(0), Default::default(), 1_000, &Wanted::default()).await?;
/// assert_eq!(page.records[0].bytes, "7");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Redb {
    owner: Arc<Owner>,
}

/// Opens a [`Redb`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it opens a store"]
pub struct RedbBuilder {
    settings: Settings,
}

/// What all handles share with the committer.
struct Shared {
    source: Source,
    settings: Settings,
    queue: Queue,
    watch: Arc<Watch>,
    database: RwLock<Option<Opened>>,
}

/// What the handles share: with the last of them the committer ends.
struct Owner {
    shared: Arc<Shared>,
    occupants: Occupants,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl Redb {
    /// Opens a file with the [defaults](RedbBuilder); makes it where there is none. Its folder must be there.
    ///
    /// # Errors
    /// [`NotOurs`](StoreError::NotOurs), [`Newer`](StoreError::Newer), [`InUse`](StoreError::InUse),
    /// [`ReadOnly`](StoreError::ReadOnly), [`Corrupt`](StoreError::Corrupt), [`Full`](StoreError::Full), or
    /// [`Io`](StoreError::Io) for all else that the system says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::builder().open(path)
    }

    /// Opens a file with other settings than the defaults.
    pub fn builder() -> RedbBuilder {
        RedbBuilder::default()
    }
}

impl Default for RedbBuilder {
    fn default() -> Self {
        Self { settings: Settings { cache: 64 << 20, quick_repair: 256_000_000, check: 64_000_000 } }
    }
}

impl RedbBuilder {
    /// How many bytes of the file are kept in memory. Default: 64 MiB.
    pub fn cache(mut self, bytes: usize) -> Self {
        self.settings.cache = bytes;
        self
    }

    /// From which size of the file on, in bytes, each commit also writes what makes opening after a crash quick. It costs a
    /// second flush; without it, opening after a crash reads the whole file. Default: 256 MB.
    pub fn quick_repair(mut self, bytes: u64) -> Self {
        self.settings.quick_repair = bytes;
        self
    }

    /// Up to which size the whole file is checked each time it is opened, in bytes. Larger ones are checked where they are
    /// read. Default: 64 MB.
    pub fn check(mut self, bytes: u64) -> Self {
        self.settings.check = bytes;
        self
    }

    /// Opens a file; makes it where there is none. Its folder must be there.
    ///
    /// # Errors
    /// As [`Redb::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Redb, StoreError> {
        Redb::start(Source::file(PathBuf::from(path.as_ref())), self.settings)
    }

    /// Opens a file to look at it: it must be there, and stays as it is, byte for byte. What has to be repaired after a crash
    /// is repaired in memory. Several may look at a file at once, in several processes, and nobody may have it open otherwise.
    ///
    /// # Errors
    /// As [`Redb::open`]. Whoever claims a partition or compacts the store is told that it is
    /// [`Frozen`](StoreError::Frozen), and batches are [`Invalid`](CommitError::Invalid).
    pub fn open_frozen(self, path: impl AsRef<Path>) -> Result<Redb, StoreError> {
        Redb::start(Source::frozen(PathBuf::from(path.as_ref())), self.settings)
    }

    /// Opens what a backend holds: a simulated disk, say. It is used again where the store is opened again after a failure, and
    /// closed with the store; whoever gives it takes care that nobody else uses it.
    ///
    /// # Errors
    /// As [`Redb::open`].
    pub fn open_on(self, backend: impl StorageBackend) -> Result<Redb, StoreError> {
        Redb::start(Source::backend(backend), self.settings)
    }
}

impl Redb {
    fn start(source: Source, settings: Settings) -> Result<Self, StoreError> {
        let opened = source.open(settings)?;
        let shared = Arc::new(Shared {
            source,
            settings,
            queue: Queue::default(),
            watch: Arc::default(),
            database: RwLock::new(Some(opened)),
        });
        let committer = Committer::new(Arc::clone(&shared));
        let thread = thread::Builder::new().name("millstream-store".into()).spawn(|| committer.run());
        let thread = thread.map_err(|error| from_io(shared.source.path(), error))?;
        Ok(Self {
            owner: Arc::new(Owner { shared, occupants: Occupants::default(), committer: Mutex::new(Some(thread)) }),
        })
    }
}

impl Shared {
    fn database(&self) -> RwLockReadGuard<'_, Option<Opened>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is committed now. Whoever holds it makes the file grow.
    fn snapshot(&self) -> Result<ReadTransaction, Fault> {
        let guard = self.database();
        let opened = guard.as_ref().ok_or(StoreError::Closed)?;
        contain(|| Ok(opened.database.begin_read()?))
    }

    fn file_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.database().as_ref().ok_or(StoreError::Closed)?.seen.bytes())
    }

    /// Waits for those who read, and gives them another file, or none.
    fn set(&self, opened: Option<Opened>) -> Option<Opened> {
        let mut place = self.database.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, opened)
    }
}

impl Owner {
    fn hand_over(
        &self,
        partition: PartitionId,
        permit: Option<Permit>,
        ops: Vec<Op>,
        author: Author,
    ) -> StoreFuture<'static, Result<Committed, CommitError>> {
        if let Some(error) = self.shared.source.forbids() {
            return Box::pin(ready(Err(CommitError::Invalid { reason: error.to_string() })));
        }
        let bytes = match check::batch(&ops, author) {
            Ok(bytes) => bytes,
            Err(refusal) => return Box::pin(ready(Err(refusal))),
        };
        let (settle, pending) = ticket();
        self.shared.queue.push(Job::Batch { partition, permit, ops, bytes, settle });
        Box::pin(async move { pending.await.unwrap_or_else(|| Err(CommitError::unknown(StoreError::Closed))) })
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.queue.close();
        let thread = self.committer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // The committer itself may drop the last handle, with the task that it wakes: then it ends by itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            // A panic in it was answered with `Unknown`, and is not the business of who drops the handle.
            let _ = thread.join();
        }
    }
}

impl Store for Redb {
    fn append(&self, partition: PartitionId, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.owner.hand_over(partition, None, batch, Author::Anyone)
    }

    fn claim(&self, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        if let Some(error) = self.owner.shared.source.forbids() {
            return Box::pin(ready(Err(error)));
        }
        let (settle, pending) = ticket();
        self.owner.shared.queue.push(Job::Claim { partition, settle });
        let view = View { owner: Arc::clone(&self.owner), partition };
        Box::pin(async move {
            let Granted { permit, end } = pending.await.unwrap_or(Err(StoreError::Closed))?;
            Ok(Claim { partition: Box::new(Held { view, permit }), fence: permit.fence, end })
        })
    }

    fn occupy(&self, partition: PartitionId, holder: &str) -> Result<Occupancy, Arc<str>> {
        self.owner.occupants.occupy(partition, holder)
    }

    fn appended(&self, partition: PartitionId, seq: Seq) -> StoreFuture<'static, Result<(), StoreError>> {
        let watch = &self.owner.shared.watch;
        let wait = watch.appended(partition, seq);
        if !watch.knows(partition) {
            match (View { owner: Arc::clone(&self.owner), partition }).end() {
                Ok(end) => watch.advance(partition, end),
                Err(error) => return Box::pin(ready(Err(error))),
            }
        }
        Box::pin(wait)
    }

    fn reader(&self, partition: PartitionId) -> Box<dyn Reader> {
        Box::new(View { owner: Arc::clone(&self.owner), partition })
    }
}

impl fmt::Debug for Redb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redb").field("path", &self.owner.shared.source.path()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("path", &self.shared.source.path()).finish_non_exhaustive()
    }
}
