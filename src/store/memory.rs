//! A store in memory: for tests, and for runs that need not survive.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::ready,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{
    CLASSES, Claim, Class, CommitError, Committed, Extent, KeyRange, LogExtent, Occupancy, Occupants, Op, Page,
    PageRecord, Partition, PartitionId, Reader, Row, RowKey, Seq, Store, StoreError, StoreFuture, Table, Wanted,
    check::{self, Author},
    plan::{Ground, Held, Plan, is_expired},
    watch::Watch,
};

/// How many rows are looked at for one that is written to a table whose rows expire.
const SWEPT: usize = 4;

/// Partitions in memory. Each handle is of the same ones, so a new claim on a clone is what a restart is elsewhere; with the
/// last handle they are gone.
///
/// All is done when a call returns: its futures are ready at once. [`Op::Trim`] removes exactly what lies below, and
/// [`Op::Send`] arrives at once.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    parts: Mutex<HashMap<PartitionId, Part>>,
    watch: Arc<Watch>,
    occupants: Occupants,
}

#[derive(Debug, Default)]
struct Part {
    fence: u64,
    next: Seq,
    logs: [Log; CLASSES as usize],
    tables: HashMap<Table, Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    rows: BTreeMap<Bytes, Held>,
    /// Where the search for expired rows goes on.
    swept: Bytes,
}

#[derive(Debug, Default)]
struct Log {
    records: VecDeque<PageRecord>,
    /// What they take.
    bytes: u64,
    /// After the last record that was trimmed.
    trimmed: Seq,
}

impl Memory {
    /// A store with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<PartitionId, Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, partition: PartitionId, fence: Option<u64>, batch: Vec<Op>) -> Result<Committed, CommitError> {
        let author = if fence.is_some() { Author::Holder } else { Author::Anyone };
        check::batch(&batch, author)?;
        let mut moved = Vec::new();
        let committed = {
            let mut parts = self.lock();
            let part = parts.entry(partition).or_default();
            if fence.is_some_and(|fence| fence != part.fence) {
                return Err(CommitError::Fenced);
            }
            let mut plan = Plan::draw(batch, part.next, part)?;
            let sends = std::mem::take(&mut plan.sends);
            let committed = part.apply(plan);
            moved.push((partition, part.next));
            for (to, class, records) in sends {
                let part = parts.entry(to).or_default();
                let plan = Plan::draw(vec![Op::Append { class, records }], part.next, part)?;
                part.apply(plan);
                moved.push((to, part.next));
            }
            committed
        };
        for (partition, end) in moved {
            self.watch.advance(partition, end);
        }
        Ok(committed)
    }

    fn read<T>(&self, partition: PartitionId, read: impl FnOnce(&Part) -> T) -> T {
        read(self.lock().entry(partition).or_default())
    }
}

impl Ground for Part {
    fn row(&mut self, row: &RowKey) -> Result<Option<Held>, CommitError> {
        Ok(self.tables.get(&row.table).and_then(|table| table.rows.get(&row.key)).cloned())
    }
}

impl Part {
    fn apply(&mut self, plan: Plan) -> Committed {
        for (row, held) in plan.rows {
            let rows = &mut self.tables.entry(row.table).or_default().rows;
            match held {
                Some(held) => drop(rows.insert(row.key, held)),
                None => drop(rows.remove(&row.key)),
            }
        }
        for (class, seq, record) in plan.records {
            let record = PageRecord { seq, name: record.name, time: record.time, bytes: record.bytes };
            self.logs[usize::from(class.0)].push(record);
        }
        for (class, below) in plan.trims {
            self.logs[usize::from(class.0)].trim(below);
        }
        for (table, now) in plan.expiring {
            self.tables.entry(table).or_default().sweep(now);
        }
        let begin = std::mem::replace(&mut self.next, plan.end);
        Committed { appended: plan.appended, begin, end: plan.end }
    }
}

impl Rows {
    fn sweep(&mut self, now: millstream_operators::Timestamp) {
        let range = (Bound::Excluded(self.swept.clone()), Bound::Unbounded);
        let seen: Vec<(Bytes, bool)> = self
            .rows
            .range::<Bytes, _>(range)
            .take(SWEPT)
            .map(|(key, held)| (key.clone(), is_expired(held.until, Some(now))))
            .collect();
        self.swept = if seen.len() < SWEPT { Bytes::new() } else { seen[SWEPT - 1].0.clone() };
        for (key, _) in seen.into_iter().filter(|(_, is_expired)| *is_expired) {
            self.rows.remove(&key);
        }
    }
}

/// What a record takes.
fn weight(record: &PageRecord) -> u64 {
    (record.name.len() + record.bytes.len()) as u64
}

impl Log {
    fn push(&mut self, record: PageRecord) {
        self.bytes += weight(&record);
        self.records.push_back(record);
    }

    fn trim(&mut self, below: Seq) {
        let trimmed = self.records.partition_point(|record| record.seq < below);
        for record in self.records.drain(..trimmed) {
            self.bytes -= weight(&record);
            self.trimmed = record.seq.next();
        }
    }

    fn extent(&self) -> LogExtent {
        let first = self.records.front().map_or(self.trimmed, |record| record.seq);
        LogExtent { first, bytes: self.bytes }
    }

    fn read(&self, from: Seq, max_bytes: usize, wanted: &Wanted, end: Seq) -> Result<Page, StoreError> {
        if from < self.trimmed {
            let first = self.records.front().map_or(self.trimmed, |record| record.seq);
            return Err(StoreError::Trimmed { first });
        }
        let begin = self.records.partition_point(|record| record.seq < from);
        let (mut page, mut bytes) = (Page { next: from, ..Page::default() }, 0);
        for record in self.records.range(begin..).take_while(|record| wanted.reaches(record.seq)) {
            if bytes > max_bytes {
                return Ok(page);
            }
            page.next = record.seq.next();
            if wanted.takes(&record.name, record.time) {
                bytes += record.bytes.len();
                page.records.push(record.clone());
            }
        }
        page.next = page.next.max(wanted.below.map_or(end, |below| below.min(end)));
        page.is_end = true;
        Ok(page)
    }
}

impl Store for Memory {
    fn append(&self, partition: PartitionId, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        Box::pin(ready(self.shared.commit(partition, None, batch)))
    }

    fn claim(&self, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        let (fence, end) = {
            let mut parts = self.shared.lock();
            let part = parts.entry(partition).or_default();
            part.fence += 1;
            (part.fence, part.next)
        };
        let held = MemoryPartition { shared: Arc::clone(&self.shared), partition, fence };
        Box::pin(ready(Ok(Claim { partition: Box::new(held), fence, end })))
    }

    fn occupy(&self, partition: PartitionId, holder: &str) -> Result<Occupancy, Arc<str>> {
        self.shared.occupants.occupy(partition, holder)
    }

    fn appended(&self, partition: PartitionId, seq: Seq) -> StoreFuture<'static, Result<(), StoreError>> {
        Box::pin(self.shared.watch.appended(partition, seq))
    }

    fn reader(&self, partition: PartitionId) -> Box<dyn Reader> {
        Box::new(MemoryPartition { shared: Arc::clone(&self.shared), partition, fence: 0 })
    }
}

/// A partition in memory, claimed or only read.
#[derive(Debug)]
struct MemoryPartition {
    shared: Arc<Shared>,
    partition: PartitionId,
    fence: u64,
}

impl Reader for MemoryPartition {
    fn get<'a>(&'a self, table: Table, keys: &'a [Bytes]) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        let values = self.shared.read(self.partition, |part| {
            let rows = part.tables.get(&table).map(|table| &table.rows);
            keys.iter().map(|key| rows?.get(key).map(|held| held.value.clone())).collect()
        });
        Box::pin(ready(Ok(values)))
    }

    fn scan(&self, table: Table, range: KeyRange, limit: usize) -> StoreFuture<'_, Result<Vec<Row>, StoreError>> {
        let rows = self.shared.read(self.partition, |part| {
            let rows = part.tables.get(&table).map(|table| &table.rows);
            let rows = rows.into_iter().flat_map(|rows| rows.range(range.start.clone()..));
            rows.take_while(|(key, _)| range.contains(key))
                .take(limit)
                .map(|(key, held)| (key.clone(), held.value.clone()))
                .collect()
        });
        Box::pin(ready(Ok(rows)))
    }

    fn last(&self, table: Table, range: KeyRange) -> StoreFuture<'_, Result<Option<Row>, StoreError>> {
        let row = self.shared.read(self.partition, |part| {
            let rows = &part.tables.get(&table)?.rows;
            let end = range.end.map_or(Bound::Unbounded, Bound::Excluded);
            let before = rows.range((Bound::Unbounded, end)).next_back();
            before.filter(|(key, _)| **key >= range.start).map(|(key, held)| (key.clone(), held.value.clone()))
        });
        Box::pin(ready(Ok(row)))
    }

    fn extent(&self) -> StoreFuture<'_, Result<Extent, StoreError>> {
        let extent = self.shared.read(self.partition, |part| Extent {
            end: part.next,
            logs: std::array::from_fn(|class| part.logs[class].extent()),
        });
        Box::pin(ready(Ok(extent)))
    }

    fn read<'a>(
        &'a self,
        class: Class,
        from: Seq,
        max_bytes: usize,
        wanted: &'a Wanted,
    ) -> StoreFuture<'a, Result<Page, StoreError>> {
        let page = self.shared.read(self.partition, |part| match part.logs.get(usize::from(class.0)) {
            Some(log) => log.read(from, max_bytes, wanted, part.next),
            None => Ok(Page { next: from, is_end: true, ..Page::default() }),
        });
        Box::pin(ready(page))
    }
}

impl Partition for MemoryPartition {
    fn commit(&mut self, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        Box::pin(ready(self.shared.commit(self.partition, Some(self.fence), batch)))
    }

    fn release(self: Box<Self>) -> StoreFuture<'static, Result<(), StoreError>> {
        Box::pin(ready(Ok(())))
    }
}
