//! A client that knows the contract, and what the checks have in common.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use crate::{
    Timestamp,
    store::{
        Claim, Class, CommitError, Committed, KeyRange, Op, PageRecord, PartitionId, Record, Row, Seq, Store,
        StoreError, Table, Wanted,
    },
};

/// How often something is tried before it counts as broken.
const PATIENCE: usize = 10_000;
/// Where a client marks what it has committed.
const MARKS: Table = Table("marks");

pub(super) const HOME: PartitionId = PartitionId(0);
pub(super) const AWAY: PartitionId = PartitionId(7);
pub(super) const ROWS: Table = Table("rows");

/// A client of one partition.
pub(super) struct Driver {
    pub(super) store: Arc<dyn Store>,
    pub(super) partition: PartitionId,
    held: Option<Claim>,
    marks: u64,
}

impl Driver {
    pub(super) fn new(store: &Arc<dyn Store>, partition: PartitionId) -> Self {
        Self { store: Arc::clone(store), partition, held: None, marks: 0 }
    }

    /// Claims the partition, again and again.
    pub(super) async fn claim(&mut self) -> &mut Claim {
        for _ in 0..PATIENCE {
            if let Ok(claim) = self.store.claim(self.partition).await {
                return self.held.insert(claim);
            }
        }
        unreachable!("a store that can never be claimed");
    }

    fn mark(&mut self) -> Bytes {
        self.marks += 1;
        format!("{:p}-{}", self, self.marks).into()
    }

    /// Commits a batch for sure, or says why it is refused. Where it landed is none if only a look showed that it did.
    pub(super) async fn commit(&mut self, batch: Vec<Op>) -> Result<Option<Committed>, CommitError> {
        let key = self.mark();
        let mut marked = batch;
        marked.push(Op::Put { table: MARKS, key: key.clone(), value: Bytes::new() });
        for _ in 0..PATIENCE {
            if self.held.is_none() {
                self.claim().await;
                if self.get(MARKS, &[&key]).await[0].is_some() {
                    return Ok(None);
                }
            }
            let Some(held) = &mut self.held else { continue };
            match held.partition.commit(marked.clone()).await {
                Ok(committed) => return Ok(Some(committed)),
                Err(CommitError::Unknown { .. } | CommitError::Fenced) => self.held = None,
                Err(refusal) => return Err(refusal),
            }
        }
        unreachable!("a store that never commits");
    }

    /// The same, without a claim.
    pub(super) async fn append(&mut self, batch: Vec<Op>) -> Result<Option<Committed>, CommitError> {
        let key = self.mark();
        let mut marked = vec![Op::PutNew { table: MARKS, key, value: Bytes::new(), life: None }];
        marked.extend(batch);
        for _ in 0..PATIENCE {
            match self.store.append(self.partition, marked.clone()).await {
                Ok(committed) => return Ok(Some(committed)),
                Err(CommitError::Conflict { table: MARKS, .. }) => return Ok(None),
                Err(CommitError::Unknown { .. }) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        unreachable!("a store that never commits");
    }

    /// Commits what cannot be refused.
    pub(super) async fn sure(&mut self, batch: Vec<Op>) {
        self.commit(batch).await.expect("nothing speaks against the batch");
    }

    pub(super) async fn get(&self, table: Table, keys: &[&[u8]]) -> Vec<Option<Bytes>> {
        let keys: Vec<Bytes> = keys.iter().map(|key| Bytes::copy_from_slice(key)).collect();
        self.store.reader(self.partition).get(table, &keys).await.expect("rows are read")
    }

    pub(super) async fn scan(&self, table: Table, range: KeyRange, limit: usize) -> Vec<Row> {
        let reader = self.store.reader(self.partition);
        let rows = reader.scan(table, range.clone(), limit).await.expect("rows are read");
        let each = reader.scan_each(table, range, limit).await.expect("rows are read one by one");
        let each: Vec<_> = each.into_iter().map(|(key, value)| (key, value.expect("a row is sound"))).collect();
        assert_eq!(rows, each);
        rows
    }

    /// All records of a class.
    pub(super) async fn log(&self, class: Class) -> Vec<PageRecord> {
        self.read(class, Seq(0), 1 << 20, &Wanted::default()).await.expect("nothing was trimmed")
    }

    /// All records of a class from a place on that are wanted, page by page.
    pub(super) async fn read(
        &self,
        class: Class,
        from: Seq,
        max_bytes: usize,
        wanted: &Wanted,
    ) -> Result<Vec<PageRecord>, StoreError> {
        let reader = self.store.reader(self.partition);
        let (mut from, mut records) = (from, Vec::new());
        for _ in 0..PATIENCE {
            let page = reader.read(class, from, max_bytes, wanted).await?;
            assert!(page.next >= from, "a page never goes back");
            assert!(page.records.iter().all(|record| from <= record.seq && record.seq < page.next));
            from = page.next;
            records.extend(page.records.into_iter().filter(|record| is_wanted(record, wanted)));
            if page.is_end {
                return Ok(records);
            }
        }
        unreachable!("a log without an end");
    }

    /// Waits until a class has so many records.
    pub(super) async fn arrived(&self, class: Class, count: usize) -> Vec<PageRecord> {
        for _ in 0..PATIENCE {
            let log = self.log(class).await;
            if log.len() >= count {
                return log;
            }
            tokio::task::yield_now().await;
        }
        unreachable!("what was sent never arrives");
    }
}

fn is_wanted(record: &PageRecord, wanted: &Wanted) -> bool {
    wanted.names.as_ref().is_none_or(|names| names.contains(&record.name))
        && wanted.since.is_none_or(|since| record.time >= since)
        && wanted.until.is_none_or(|until| record.time < until)
        && wanted.below.is_none_or(|below| record.seq < below)
}

/// A record of a name, a time and a text.
pub(super) fn record(name: &str, millis: u64, text: impl Into<Bytes>) -> Record {
    Record { name: name.into(), time: Timestamp::from_millis(millis), bytes: text.into(), keys: Vec::new() }
}

/// A step that appends one record.
pub(super) fn append(class: Class, text: impl Into<Bytes>) -> Op {
    Op::Append { class, records: vec![record("note", 0, text)] }
}

pub(super) fn put(key: &'static str, value: &'static str) -> Op {
    Op::Put { table: ROWS, key: key.into(), value: value.into() }
}

pub(super) fn put_new(key: &'static str, value: &'static str) -> Op {
    Op::PutNew { table: ROWS, key: key.into(), value: value.into(), life: None }
}

/// What the records say.
pub(super) fn texts(records: &[PageRecord]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.bytes).into_owned()).collect()
}

/// Numbers as texts.
pub(super) fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

pub(super) fn named(names: &[&str]) -> Wanted {
    let names: BTreeSet<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
    Wanted { names: Some(names), ..Wanted::default() }
}
