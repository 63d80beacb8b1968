//! Makes a file smaller.

use crate::store::{
    StoreError,
    redb::{Redb, queue::Job},
    ticket::ticket,
};

/// What compacting has changed in a file that is open. Closing it adds what makes opening it quick, some pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compaction {
    /// How long the file was, in bytes.
    pub before: u64,
    /// How long it is.
    pub after: u64,
}

impl Redb {
    /// Gives back to the system what the file does not need any more. A file never becomes smaller by itself.
    ///
    /// Nobody reads or writes while it runs: whoever tries waits, on his thread. So it is for a store that is not in use, or
    /// for a quiet hour.
    ///
    /// # Errors
    /// [`Io`](StoreError::Io) where the disk says no, or a snapshot is held, by a backup for one.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop it.
    pub async fn compact(&self) -> Result<Compaction, StoreError> {
        if let Some(error) = self.owner.shared.source.forbids() {
            return Err(error);
        }
        let (settle, pending) = ticket();
        self.owner.shared.queue.push(Job::Tool(Box::new(move |committer| {
            let compacted = committer.exclusively(|opened| {
                let before = opened.seen.bytes();
                while opened.database.compact()? {}
                Ok(Compaction { before, after: opened.seen.bytes() })
            });
            settle.settle(compacted);
        })));
        pending.await.unwrap_or(Err(StoreError::Closed))
    }
}
