//! What is said where a command cannot do what it was asked to.

use std::{fmt, io, path::Path};

use millstream::{
    archive::{ArchiveError, ImportError},
    store::{CommitError, StoreError},
};
use serde::Serialize;

/// Why a command has stopped, and what to do about it.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    /// For programs.
    kind: &'static str,
    message: String,
    /// What is damaged, where that is why.
    #[serde(skip)]
    damaged: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), damaged: None }
    }

    /// What the system says of a file.
    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::BrokenPipe => CLOSED_PIPE,
            io::ErrorKind::NotFound => "missing",
            io::ErrorKind::AlreadyExists => "exists",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "not_permitted",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => "full",
            _ => "io",
        };
        let advice = if kind == "full" { ": make room, then try again" } else { "" };
        Self::new(kind, format!("{}: {error}{advice}", path.display()))
    }

    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.kind == CLOSED_PIPE
    }

    /// Whether bytes that were read are not those that were written.
    pub(crate) fn is_damage(&self) -> bool {
        self.damaged.is_some()
    }

    /// What is damaged, for whoever looks for that; where nothing is, the failure itself.
    pub(crate) fn into_damaged(self) -> Result<String, Self> {
        match self.damaged {
            Some(what) => Ok(what),
            None => Err(self),
        }
    }

    /// The same, with what it was about in front.
    pub(crate) fn about(self, what: impl fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// The same, with what is to be known beside it.
    pub(crate) fn and(self, more: impl fmt::Display) -> Self {
        Self { message: format!("{}; {more}", self.message), ..self }
    }

    /// The same, with what is to be known where something is damaged.
    pub(crate) fn and_if_damaged(self, more: impl fmt::Display) -> Self {
        if self.is_damage() { self.and(more) } else { self }
    }
}

const CLOSED_PIPE: &str = "closed_pipe";

/// What to do about a file that somebody else has open.
const IN_USE: &str = "stop the runtime that has it, or the other command, and try again; a runtime that must go on can copy it with \
                      `Redb::backup`, and the copy can be looked at";

/// An error with its sources, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}

/// Whether a file or its folder is not there.
fn is_missing(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::NotOurs { .. } => "not_ours",
            StoreError::Newer { .. } => "newer",
            StoreError::InUse { .. } => "in_use",
            StoreError::ReadOnly { .. } | StoreError::Frozen { .. } => "read_only",
            StoreError::Corrupt { .. } => "corrupt",
            StoreError::Full => "full",
            StoreError::Io { source, .. } if is_missing(&**source) => "missing",
            _ => "io",
        };
        let message = chain(&error);
        let damaged = if let StoreError::Corrupt { what } = error { Some(what) } else { None };
        let failure = Self { kind, message, damaged };
        // The store knows nobody but processes; here it is known who they are.
        if kind == "in_use" { failure.and(IN_USE) } else { failure }
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        match &error {
            CommitError::Full => Self::from(StoreError::Full),
            CommitError::Corrupt { what } => Self::from(StoreError::Corrupt { what: what.clone() }),
            CommitError::Fenced => Self::new("in_use", chain(&error)),
            CommitError::Unknown { .. } => Self::new("io", chain(&error)),
            _ => Self::new("refused", chain(&error)),
        }
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Store(error) => error.into(),
            ArchiveError::Commit(error) => error.into(),
            other => Self::new("io", chain(&other)),
        }
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Archive(error) => error.into(),
            other => Self::new("bad_input", chain(&other)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
