//! What is kept of a partition's logs.

use super::{CLASSES, Class, Seq};

/// How far the logs of a partition reach, and what they take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// After the last record of the partition, whatever its class.
    pub end: Seq,
    /// The log of each class.
    pub logs: [LogExtent; CLASSES as usize],
}

/// What is kept of one log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogExtent {
    /// Reading from here on misses nothing that is kept, and is not answered by [`Trimmed`](super::StoreError::Trimmed).
    pub first: Seq,
    /// The bytes that its records take as they are stored, compressed where the store does that; tables are not counted.
    pub bytes: u64,
}

impl Extent {
    /// What is kept of a class.
    pub fn log(&self, class: Class) -> LogExtent {
        self.logs.get(usize::from(class.0)).copied().unwrap_or_default()
    }

    /// The bytes of all classes.
    pub fn bytes(&self) -> u64 {
        self.logs.iter().map(|log| log.bytes).sum()
    }
}
