//! What lies between redb and the disk: it sees what redb does, and stops it after a failure.
//!
//! After the first error nothing is written any more, not even by a handle that closes: so what is on disk is what was there
//! when it failed.

use std::{
    io,
    ops::Bound,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use redb::{BackendError, StorageBackend};

/// What was seen of a file.
#[derive(Debug, Default)]
pub(super) struct Seen {
    bytes: AtomicU64,
    is_stopped: AtomicBool,
    failure: Mutex<Option<io::ErrorKind>>,
}

impl Seen {
    /// How long the file is.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The first failure.
    pub(super) fn failure(&self) -> Option<io::ErrorKind> {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is written from here on.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.kind());
        }
        result
    }

    fn write<T>(&self, write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.is_stopped.load(Ordering::Relaxed) || self.failure().is_some() {
            return Err(io::Error::other("the store has stopped after a failure"));
        }
        self.note(write())
    }
}

/// A backend that is watched.
#[derive(Debug)]
pub(super) struct Meter {
    inner: Arc<dyn StorageBackend>,
    seen: Arc<Seen>,
    /// Whether this is the only one who uses the backend: then it locks and closes it.
    is_owner: bool,
    /// Set where a sync fails: what can be read then need not be on disk, nor ever come there.
    is_doubtful: Arc<AtomicBool>,
}

impl Meter {
    pub(super) fn new(
        inner: Arc<dyn StorageBackend>,
        is_owner: bool,
        is_doubtful: Arc<AtomicBool>,
    ) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        (Self { inner, seen: Arc::clone(&seen), is_owner, is_doubtful }, seen)
    }

    fn owned<T>(&self, lock: impl FnOnce() -> Result<T, BackendError>) -> Result<T, BackendError> {
        if self.is_owner { lock() } else { Err(BackendError::Unsupported) }
    }
}

impl StorageBackend for Meter {
    fn len(&self) -> io::Result<u64> {
        let bytes = self.seen.note(self.inner.len())?;
        self.seen.bytes.store(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.seen.write(|| self.inner.set_len(len))?;
        self.seen.bytes.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.seen.write(|| self.inner.sync_data().inspect_err(|_| self.is_doubtful.store(true, Ordering::Relaxed)))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.seen.write(|| self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        if self.is_owner { self.inner.close() } else { Ok(()) }
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.owned(|| self.inner.try_lock_range(start, end))
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.owned(|| self.inner.try_lock_shared_range(start, end))
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.owned(|| self.inner.lock_range(start, end))
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.owned(|| self.inner.lock_shared_range(start, end))
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.owned(|| self.inner.unlock_range(start, end))
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.owned(|| self.inner.query_lock_range(start, end))
    }
}
