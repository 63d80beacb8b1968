//! Why a stage cannot be stepped.

use crate::store::{CommitError, StoreError};

/// Why a stage cannot be stepped now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StageError {
    /// An epoch is not known to be committed. All that was in memory is dropped: restore the stage, with a new claim where
    /// this one is lost.
    #[error("an epoch was not committed")]
    Commit(#[source] CommitError),
    /// The store cannot be read. Nothing is lost: step again later, or restore with a new claim.
    #[error("the store cannot be read")]
    Read(#[source] StoreError),
    /// The stage has not been restored.
    #[error("the stage is not restored")]
    Blank,
}
