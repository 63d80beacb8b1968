//! What is in the store, what is on its way there, and who would be misled by a change.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use foldhash::fast::RandomState;
use futures_util::future::FutureExt as _;

use super::{StorageError, Writer, Writes, handle::Written, writes::Stale};
use crate::store::{KeyRange, Memory, PartitionId, Reader, Row, Store, StoreError, Tenure, tables};

/// The rows of a runtime. Whoever commits tells it what is on its way and what has landed.
pub(crate) struct Shelf {
    /// None once the runtime has let go of its store.
    reader: Mutex<Option<Arc<dyn Reader>>>,
    /// In a runtime that keeps its events in memory: written by whoever writes, at once.
    direct: Option<Arc<Tenure>>,
    state: Mutex<State>,
    max_value: usize,
}

#[derive(Debug, Default)]
struct State {
    /// What is on its way, by row: none for a row that goes; and with which batch.
    on_way: BTreeMap<Bytes, (Option<Bytes>, u64)>,
    /// The rows of each batch that is on its way.
    batches: BTreeMap<u64, Vec<Bytes>>,
    /// Rows that somebody has read who may write them.
    watched: HashMap<Bytes, Watched, RandomState>,
    changes: u64,
}

#[derive(Debug, Default)]
struct Watched {
    watchers: usize,
    /// The last change while it was watched.
    change: u64,
}

/// Rows of a page, by key; none for one that is not there any more.
type Overlay = BTreeMap<Bytes, Option<Bytes>>;

impl Shelf {
    /// What is kept in a store, and committed by the one who holds its partition.
    pub(crate) fn of(store: &dyn Store, partition: PartitionId, max_value: usize) -> Self {
        Self {
            reader: Mutex::new(Some(store.reader(partition).into())),
            direct: None,
            state: Mutex::default(),
            max_value,
        }
    }

    /// What is kept in memory, and gone with the runtime.
    pub(crate) fn in_memory(max_value: usize) -> Self {
        let (store, home) = (Memory::new(), PartitionId::default());
        let tenure = Tenure::begin(&store, home).now_or_never().and_then(Result::ok).map(Arc::new);
        Self { reader: Mutex::new(Some(store.reader(home).into())), direct: tenure, state: Mutex::default(), max_value }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> Result<Arc<dyn Reader>, StoreError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.as_ref().map(Arc::clone).ok_or(StoreError::Closed)
    }

    /// The runtime lets go of its store.
    pub(crate) fn release(&self) {
        if !self.is_direct() {
            self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// Whether whoever writes commits himself.
    pub(crate) fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    pub(super) fn check(&self, value: &Bytes) -> Result<(), StorageError> {
        let (bytes, limit) = (value.len(), self.max_value);
        if bytes > limit { Err(StorageError::ValueTooLarge { bytes, limit }) } else { Ok(()) }
    }

    /// From now on it is known whether this row changes.
    pub(super) fn watch(&self, row: &Bytes) -> u64 {
        let mut state = self.lock();
        let watched = state.watched.entry(row.clone()).or_default();
        watched.watchers += 1;
        watched.change
    }

    pub(super) fn unwatch(&self, row: &Bytes) {
        let mut state = self.lock();
        let Some(watched) = state.watched.get_mut(row) else { return };
        watched.watchers -= 1;
        if watched.watchers == 0 {
            state.watched.remove(row);
        }
    }

    /// Whether a row is as it was when it was read.
    pub(super) fn is_fresh(&self, row: &Bytes, change: u64) -> bool {
        self.lock().watched.get(row).is_none_or(|watched| watched.change == change)
    }

    /// What is committed.
    pub(super) async fn committed(&self, row: &Bytes) -> Result<Option<Bytes>, StoreError> {
        let rows = self.reader()?.get(tables::STORAGE, std::slice::from_ref(row)).await?;
        Ok(rows.into_iter().next().flatten())
    }

    /// What is on its way, if anything is.
    #[expect(clippy::option_option, reason = "nothing is on its way, or that the row goes")]
    pub(super) fn on_way(&self, row: &Bytes) -> Option<Option<Bytes>> {
        self.lock().on_way.get(row).map(|(value, _)| value.clone())
    }

    /// What was written last, on its way or committed.
    pub(super) async fn latest(&self, row: &Bytes) -> Result<Option<Bytes>, StoreError> {
        // First what is on its way: what lands meanwhile is then in the store.
        match self.on_way(row) {
            Some(value) => Ok(value),
            None => self.committed(row).await,
        }
    }

    /// The rows of a range that are on their way.
    pub(super) fn on_way_in(&self, range: &KeyRange) -> Overlay {
        let state = self.lock();
        let rows = state.on_way.range(range.start.clone()..).take_while(|(row, _)| range.contains(row));
        rows.map(|(row, (value, _))| (row.clone(), value.clone())).collect()
    }

    /// The first rows of a range, by key, as they are with what lies over them.
    pub(super) async fn scan(
        &self,
        mut range: KeyRange,
        limit: usize,
        mut overlay: Overlay,
    ) -> Result<Vec<Row>, StoreError> {
        let (reader, mut found) = (self.reader()?, Vec::new());
        while found.len() < limit {
            let most = limit - found.len();
            let page = reader.scan(tables::STORAGE, range.clone(), most).await?;
            let is_last = page.len() < most;
            let last = page.last().map(|(row, _)| row.clone()).filter(|_| !is_last);
            // What lies over rows beyond this page waits for theirs.
            let beyond = last.as_ref().map_or_else(Overlay::new, |last| overlay.split_off(last));
            let over_last = last.as_ref().and_then(|last| beyond.get(last).cloned());
            let mut rows: Overlay = page.into_iter().map(|(row, value)| (row, Some(value))).collect();
            rows.append(&mut overlay);
            if let (Some(last), Some(value)) = (&last, over_last) {
                rows.insert(last.clone(), value);
            }
            found.extend(rows.into_iter().filter_map(|(row, value)| Some((row, value?))));
            let Some(last) = last else { break };
            overlay = beyond;
            overlay.remove(&last);
            range = range.after(&last);
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Something is on its way with a batch.
    pub(crate) fn sets_out(&self, writes: &Writes, batch: u64) {
        let mut state = self.lock();
        for (row, value) in writes.changes() {
            state.on_way.insert(row.clone(), (value.cloned(), batch));
            state.batches.entry(batch).or_default().push(row.clone());
            state.touch(row);
        }
    }

    /// A batch has landed: what is in the store lies over nothing any more.
    pub(crate) fn landed(&self, batch: u64) {
        let mut state = self.lock();
        for row in state.batches.remove(&batch).unwrap_or_default() {
            if state.on_way.get(&row).is_some_and(|(_, with)| *with == batch) {
                state.on_way.remove(&row);
            }
        }
    }

    /// Something is committed that was not on its way before.
    pub(crate) fn has_changed(&self, writes: &Writes) {
        let mut state = self.lock();
        writes.changes().for_each(|(row, _)| state.touch(row));
    }

    /// What was on its way is lost, or landed and nobody knows.
    pub(crate) fn lose(&self) {
        let mut state = self.lock();
        state.on_way.clear();
        state.batches.clear();
        state.touch_all();
    }

    /// What was lost may have landed since somebody read.
    pub(crate) fn doubt(&self) {
        self.lock().touch_all();
    }

    /// Writes at once where that may be done.
    pub(crate) fn write_direct(&self, writes: &Writes) -> Result<(), Stale> {
        let mut state = self.lock();
        if let Some(row) =
            writes.stale(|row, change| state.watched.get(row).is_none_or(|watched| watched.change == change))
        {
            return Err(row);
        }
        if let Some(tenure) = &self.direct {
            // A store in memory is ready at once, and refuses nothing of the kind.
            let _ = tenure.commit(writes.ops().collect()).now_or_never();
            writes.changes().for_each(|(row, _)| state.touch(row));
        }
        Ok(())
    }
}

impl Writer for Shelf {
    fn write(self: Arc<Self>, writes: Writes) -> Written {
        Box::pin(ready(Ok(self.write_direct(&writes))))
    }
}

impl State {
    fn touch_all(&mut self) {
        self.changes += 1;
        let change = self.changes;
        self.watched.values_mut().for_each(|watched| watched.change = change);
    }

    fn touch(&mut self, row: &Bytes) {
        if let Some(watched) = self.watched.get_mut(row) {
            self.changes += 1;
            watched.change = self.changes;
        }
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("is_direct", &self.is_direct()).finish_non_exhaustive()
    }
}
