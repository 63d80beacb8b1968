//! One claim of a partition, shared by all who write through it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::{Claim, CommitError, Committed, Op, Partition, PartitionId, Reader, Seq, Store, StoreError};

/// The time during which a partition is held. It ends where a commit's outcome is unknown or another has claimed the
/// partition: then nobody who wrote through it may trust what he has in memory, and a new one begins with what the store
/// says.
#[derive(Debug)]
pub(crate) struct Tenure {
    partition: Mutex<Box<dyn Partition>>,
    reader: Box<dyn Reader>,
    /// Where the next record went when it began.
    pub(crate) end: Seq,
    lost: AtomicBool,
}

impl Tenure {
    /// Claims the partition.
    pub(crate) async fn begin(store: &dyn Store, partition: PartitionId) -> Result<Self, StoreError> {
        let Claim { partition: held, end, .. } = store.claim(partition).await?;
        let reader = store.reader(partition);
        Ok(Self { partition: Mutex::new(held), reader, end, lost: AtomicBool::new(false) })
    }

    /// Reads what is committed.
    pub(crate) fn reader(&self) -> &dyn Reader {
        &*self.reader
    }

    /// Whether it has ended.
    pub(crate) fn is_lost(&self) -> bool {
        // Acquire: whoever sees it lost sees what made it so.
        self.lost.load(Ordering::Acquire)
    }

    /// Hands a batch over, at once and in the order of the calls; the future says what became of it.
    pub(crate) fn commit(
        self: &Arc<Self>,
        batch: Vec<Op>,
    ) -> impl Future<Output = Result<Committed, CommitError>> + Send + 'static {
        let commit = self.partition.lock().unwrap_or_else(PoisonError::into_inner).commit(batch);
        let tenure = Arc::clone(self);
        async move {
            let committed = commit.await;
            if committed.as_ref().is_err_and(CommitError::is_loss) {
                tenure.lost.store(true, Ordering::Release);
            }
            committed
        }
    }
}
