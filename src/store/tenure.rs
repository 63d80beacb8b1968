//! One claim of a partition, shared by all who write through it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::{
    Claim, CommitError, Committed, Op, Partition, PartitionId, Reader, Seq, Store, StoreError, StoreFuture, Table,
    tables,
};

/// The time during which a partition is held. It ends where a commit's outcome is unknown or another has claimed the
/// partition: then nobody who wrote through it may trust what he has in memory, and a new one begins with what the store
/// says.
#[derive(Debug)]
pub(crate) struct Tenure {
    partition: Mutex<Box<dyn Partition>>,
    reader: Box<dyn Reader>,
    /// The number of the claim; those before have smaller ones.
    pub(crate) fence: u64,
    /// Where the next record went when it began.
    pub(crate) end: Seq,
    /// What was committed by those who do not tell the dispatcher themselves.
    untold: Mutex<Vec<Untold>>,
}

/// What a commit has added, for whoever keeps the books.
#[derive(Debug)]
pub(crate) struct Untold {
    pub(crate) committed: Committed,
    /// The names of the records that it appended.
    pub(crate) names: Vec<Arc<str>>,
    /// The rows that it put into tables that somebody watches.
    pub(crate) puts: Vec<(Table, Bytes)>,
    /// The dead letters that it removed.
    pub(crate) gone: Vec<Bytes>,
}

impl Untold {
    fn of(batch: &[Op], committed: Committed, watched: &[Table]) -> Self {
        let (mut names, mut puts, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for op in batch {
            match op {
                Op::Append { records, .. } => names.extend(records.iter().map(|record| Arc::clone(&record.name))),
                Op::Put { table, key, .. } if watched.contains(table) => puts.push((*table, key.clone())),
                Op::Delete { table: tables::DEAD, key } => gone.push(key.clone()),
                _ => {}
            }
        }
        Self { committed, names, puts, gone }
    }
}

impl Tenure {
    /// Claims the partition.
    pub(crate) async fn begin(store: &dyn Store, partition: PartitionId) -> Result<Self, StoreError> {
        let Claim { partition: held, fence, end } = store.claim(partition).await?;
        let reader = store.reader(partition);
        Ok(Self { partition: Mutex::new(held), reader, fence, end, untold: Mutex::default() })
    }

    /// Reads what is committed.
    pub(crate) fn reader(&self) -> &dyn Reader {
        &*self.reader
    }

    /// As [`commit`](Self::commit), for those who do not tell the dispatcher what they have added.
    pub(crate) fn commit_untold(
        self: &Arc<Self>,
        batch: Vec<Op>,
    ) -> impl Future<Output = Result<Committed, CommitError>> + Send + 'static {
        const WATCHED: [Table; 2] = [tables::DEAD, tables::DELAYED];
        let untold = Untold::of(&batch, Committed::default(), &WATCHED);
        let (commit, tenure) = (self.commit(batch), Arc::clone(self));
        async move {
            let committed = commit.await?;
            if !untold.names.is_empty() || !untold.puts.is_empty() || !untold.gone.is_empty() {
                let untold = Untold { committed: committed.clone(), ..untold };
                tenure.untold.lock().unwrap_or_else(PoisonError::into_inner).push(untold);
            }
            Ok(committed)
        }
    }

    /// What was added since this was last asked.
    pub(crate) fn take_untold(&self) -> Vec<Untold> {
        std::mem::take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands a batch over, at once and in the order of the calls; the future says what became of it.
    pub(crate) fn commit(&self, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.partition.lock().unwrap_or_else(PoisonError::into_inner).commit(batch)
    }
}
