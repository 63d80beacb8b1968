//! What goes wrong below, and what a caller is told of it.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use redb::DatabaseError;

use super::chunk::Damage;
use crate::store::{CommitError, StoreError};

/// A failure below the store.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// One row or chunk is not what was written.
    #[error("{what} ({damage})")]
    Damaged { what: String, damage: Damage },
    /// redb or the disk says no.
    #[error(transparent)]
    Redb(#[from] redb::Error),
    /// redb has panicked: it does where a file's structure is damaged.
    #[error("the file's structure ({0})")]
    Panicked(String),
    /// The store has stopped.
    #[error(transparent)]
    Stopped(#[from] StoreError),
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Redb(error.into())
            }
        }
    )*};
}
from_redb!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::CompactionError,
    redb::CursorError,
    DatabaseError
);

impl Fault {
    pub(super) fn damaged(what: impl Into<String>, damage: Damage) -> Self {
        Self::Damaged { what: what.into(), damage }
    }

    /// Whether one row or chunk is damaged, and all else may go on.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    fn kind(&self) -> Option<io::ErrorKind> {
        if let Self::Redb(redb::Error::Io(error)) = self { Some(error.kind()) } else { None }
    }

    /// Whether there is no room on the disk.
    pub(super) fn is_full(&self) -> bool {
        self.kind().is_some_and(is_full)
    }

    /// What a reader is told.
    pub(super) fn reading(self, what: &str) -> StoreError {
        match self {
            Self::Stopped(error) => error,
            Self::Damaged { .. } | Self::Panicked(_) => StoreError::Corrupt { what: self.to_string() },
            Self::Redb(redb::Error::Corrupted(how)) => StoreError::Corrupt { what: format!("{what} ({how})") },
            Self::Redb(redb::Error::DatabaseClosed) => StoreError::Closed,
            Self::Redb(_) if self.is_full() => StoreError::Full,
            Self::Redb(error) => StoreError::io(what, error),
        }
    }

    /// What those are told whose batch was on its way.
    pub(super) fn committing(self) -> Arc<dyn std::error::Error + Send + Sync> {
        Arc::new(self)
    }
}

/// Whether an error says that there is no room.
pub(super) fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// A batch that depends on what is damaged fails alone.
pub(super) fn refused(what: String) -> CommitError {
    CommitError::Corrupt { what }
}

/// Runs work on redb, which may panic where a file's structure is damaged.
pub(super) fn contain<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Fault::Panicked(text.unwrap_or_else(|| "it cannot be followed".into())))
    })
}

/// What the one who opens a file is told.
pub(super) fn opening(path: &Path, fault: Fault) -> StoreError {
    let what = || path.display().to_string();
    match fault {
        Fault::Redb(redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch) => {
            StoreError::InUse { path: path.into() }
        }
        Fault::Redb(redb::Error::UpgradeRequired(version)) => {
            StoreError::NotOurs { path: path.into(), what: format!("it is a redb file of version {version}") }
        }
        Fault::Redb(redb::Error::Io(error)) => from_io(path, error),
        Fault::Damaged { .. } | Fault::Panicked(_) => StoreError::Corrupt { what: format!("{}: {fault}", what()) },
        fault => fault.reading(&what()),
    }
}

/// The same, for what the system says.
pub(super) fn from_io(path: &Path, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly { path: path.into() }
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
            StoreError::Corrupt { what: format!("{}: {error}", path.display()) }
        }
        kind if is_full(kind) => StoreError::Full,
        _ => StoreError::io(format!("opening {}", path.display()), error),
    }
}
