//! Why something is not read or written.

use crate::store::StoreError;

/// Why a value of a [`Storage`](super::Storage) was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The key is longer than keys may be.
    #[error("the key has {bytes} bytes, at most {limit} are allowed")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The most that are allowed.
        limit: usize,
    },
    /// The value is larger than `max_value_size`.
    #[error("the value has {bytes} bytes, `max_value_size` is {limit}")]
    ValueTooLarge {
        /// Its size.
        bytes: usize,
        /// `max_value_size`.
        limit: usize,
    },
    /// The value has no JSON form, or the bytes that are there are no JSON of the type that was asked for.
    #[error("the value of `{key}` is not what was asked for")]
    Json {
        /// The key, as text.
        key: String,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
    /// The handler has ended, and its outcome is written without this. Use [`Runtime::storage`](crate::Runtime::storage) in work
    /// that outlives a handler.
    #[error("the handler has ended, so nothing can be written with its outcome")]
    Ended,
    /// The runtime was shut down. Nothing was written.
    #[error("the runtime is stopped, and nothing was written")]
    Closed,
    /// The store cannot take it. Nothing was written.
    #[error("the store cannot take it, and nothing was written: {reason}")]
    Refused {
        /// What the store said.
        reason: String,
    },
    /// The store failed on the way: it may be written or not.
    #[error("it may be written or not: {reason}")]
    Unknown {
        /// What the store said.
        reason: String,
    },
    /// The store cannot be read.
    #[error("the storage cannot be read")]
    Store(#[from] StoreError),
}
