//! What can go wrong, and whether to try again.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;

use super::{Seq, Table};

/// A cause that several may have to be told.
type Source = Arc<dyn std::error::Error + Send + Sync>;

/// Why a store cannot be opened, claimed or read. What is displayed is all of it, the system's words among it.
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
    #[error("the store failed: {what}: {}", whole(&**source))]
    Io {
        /// What was tried.
        what: String,
        /// What the system says. It is displayed, so it is not the [source](std::error::Error::source) once more.
        r#source: Source,
    },
    /// The store was closed, or has stopped after a failure.
    #[error("the store is closed: open it again")]
    Closed,
}

/// Why a batch is not known to be committed. What is displayed is all of it.
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
    #[error("the commit failed and may have landed or not: {}", whole(&**source))]
    Unknown {
        /// What the system says. It is displayed, so it is not the [source](std::error::Error::source) once more.
        r#source: Source,
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

/// A cause with those behind it, in one line. Some say what they are caused by themselves.
fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |error| error.source()) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text.extend([": ", &cause]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, io};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the cable is out")]
    struct Loose(#[source] io::Error);

    #[test]
    fn what_the_system_says_is_displayed_once_with_all_its_causes() {
        let cause = || Loose(io::Error::other("nobody answers"));
        let said = "the cable is out: nobody answers";
        let failed = StoreError::io("committing", cause());
        let unknown = CommitError::unknown(StoreError::io("committing", cause()));
        assert_eq!(failed.to_string(), format!("the store failed: committing: {said}"));
        let expected = format!("the commit failed and may have landed or not: the store failed: committing: {said}");
        assert_eq!(unknown.to_string(), expected);
        assert!(failed.source().is_none() && unknown.source().is_none());
    }
}
