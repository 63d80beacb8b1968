//! What can go wrong, and whether to try again.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;

use super::{Seq, Table};

/// A cause that several may have to be told.
type Source = Arc<dyn std::error::Error + Send + Sync>;

/// Why a store cannot be opened, claimed or read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file is something else.
    #[error("{} is not a millstream file: {what}; name another file, or a path where none is yet", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file was written by a newer version.
    #[error("{} has format {found}, this version knows formats up to {known}: use a newer version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// Another process has the file open, or this one has it open twice.
    #[error("{} is open already: one process at a time may have it open, and only once", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file or its folder cannot be written.
    #[error("{} cannot be written: give this user the right to write it", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The file was opened to be looked at.
    #[error("{} was opened to be looked at: open it to write", path.display())]
    Frozen {
        /// The file.
        path: PathBuf,
    },
    /// Bytes that were read are not those that were written.
    #[error("{what} is damaged: restore a backup, or run `verify` to see what else is")]
    Corrupt {
        /// Which row or chunk.
        what: String,
    },
    /// Records were trimmed that were asked for.
    #[error("records before {} are trimmed", first.0)]
    Trimmed {
        /// The first that is still there.
        first: Seq,
    },
    /// Another has claimed the partition.
    #[error("the partition was claimed by another: claim it again")]
    Fenced,
    /// The disk is full.
    #[error("the disk is full: make room, then open the store again")]
    Full,
    /// The disk or the system says no.
    #[error("the store failed: {what}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system says.
        #[source]
        source: Source,
    },
    /// The store was closed, or has stopped after a failure.
    #[error("the store is closed: open it again")]
    Closed,
}

/// Why a batch is not known to be committed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Another has claimed the partition. Never try again with this claim.
    #[error("the partition was claimed by another")]
    Fenced,
    /// There is no room on the disk. Nothing of the batch is written.
    #[error("the disk is full")]
    Full,
    /// A row that must be new is there already. Nothing of the batch is written.
    #[error("a row of `{}` is there already", table.0)]
    Conflict {
        /// Its table.
        table: Table,
        /// Its key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// The batch is larger than a commit may be. Nothing of it is written.
    #[error("the batch has {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// The batch asks for what is not allowed. Nothing of it is written.
    #[error("the batch is not allowed: {reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
    /// Something that the batch depends on is damaged. Nothing of it is written.
    #[error("{what} is damaged: run `verify` to see what else is")]
    Corrupt {
        /// Which row or chunk.
        what: String,
    },
    /// The commit failed on its way: it may be on disk or not. Claim again and look.
    #[error("the commit failed and may have landed or not")]
    Unknown {
        /// What the system says.
        #[source]
        source: Source,
    },
}

impl StoreError {
    /// Wraps what the system says.
    pub fn io(what: impl Into<String>, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Io { what: what.into(), source: Arc::new(source) }
    }
}

impl CommitError {
    /// Whether the claim is lost with it: nothing more can be committed before the partition is claimed again.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Fenced | Self::Full | Self::Unknown { .. })
    }

    /// Wraps what the system says.
    pub fn unknown(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unknown { source: Arc::new(source) }
    }
}
