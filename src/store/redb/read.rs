//! Reads a partition from a snapshot that lasts no longer than the call.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable as _};

use super::{
    Owner,
    chunk::{self, Chunk},
    fault::{Fault, contain},
    lane, row,
    shape::LogShape,
    tables::{self, LOG, PARTITION, ReadTable},
};
use crate::store::{
    Class, Extent, FoundRow, KeyRange, LogExtent, Page, PartitionId, Reader, Row, Seq, StoreError, StoreFuture, Table,
    Wanted,
};

/// How many bytes of chunks that nobody wants are passed over in one call.
const MAX_PASSED: usize = 16 << 20;
/// Room is made for a chunk's records at once, as long as they are at least so long on average.
const LEAST_RESERVED: usize = 64;
/// And for no more than so many bytes: a reader may ask for all that there is.
const MOST_EXPECTED: usize = 4 << 20;

/// Reads a partition.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) owner: Arc<Owner>,
    pub(super) partition: PartitionId,
}

impl View {
    fn with<T>(&self, what: &str, read: impl FnOnce(&ReadTransaction) -> Result<T, Fault>) -> Result<T, StoreError> {
        contain(|| read(&self.owner.shared.snapshot()?)).map_err(|fault| fault.reading(what))
    }

    /// Where the partition ends.
    pub(super) fn end(&self) -> Result<Seq, StoreError> {
        self.with("reading a partition", |txn| {
            Ok(tables::shape(&txn.open_table(tables::definition(PARTITION))?, self.partition)?.next)
        })
    }

    fn get_now(&self, table: Table, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.with(table.0, |txn| {
            let Some(rows) = tables::open(txn, table)? else { return Ok(vec![None; keys.len()]) };
            let (name, mut place) = (tables::name(table), Vec::new());
            let values = keys.iter().map(|key| {
                row::key(self.partition, key, &mut place);
                Ok(tables::get(&rows, &name, &place)?.map(|held| held.value))
            });
            values.collect()
        })
    }

    fn scan_now(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.with(table.0, |txn| {
            let Some(rows) = tables::open(txn, table)? else { return Ok(Vec::new()) };
            scan(&rows, &tables::name(table), self.partition, range, limit)
        })
    }

    fn scan_each_now(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<FoundRow>, StoreError> {
        self.with(table.0, |txn| {
            let Some(rows) = tables::open(txn, table)? else { return Ok(Vec::new()) };
            scan_each(&rows, &tables::name(table), self.partition, range, limit)
        })
    }

    fn last_now(&self, table: Table, range: &KeyRange) -> Result<Option<Row>, StoreError> {
        self.with(table.0, |txn| {
            let Some(rows) = tables::open(txn, table)? else { return Ok(None) };
            last(&rows, &tables::name(table), self.partition, range)
        })
    }

    fn extent_now(&self) -> Result<Extent, StoreError> {
        self.with("reading a partition", |txn| {
            let shape = tables::shape(&txn.open_table(tables::definition(PARTITION))?, self.partition)?;
            let extent =
                |log: LogShape| LogExtent { first: log.span.map_or(log.trimmed, |(first, _)| first), bytes: log.bytes };
            Ok(Extent { end: shape.next, logs: shape.logs.map(extent) })
        })
    }

    fn read_now(&self, class: Class, from: Seq, max_bytes: usize, wanted: &Wanted) -> Result<Page, StoreError> {
        self.with("the log", |txn| {
            let shape = tables::shape(&txn.open_table(tables::definition(PARTITION))?, self.partition)?;
            let Some(log) = shape.logs.get(usize::from(class.0)) else {
                return Ok(Page { next: from, is_end: true, ..Page::default() });
            };
            if from < log.trimmed {
                let first = log.span.map_or(log.trimmed, |(first, _)| first);
                return Err(StoreError::Trimmed { first }.into());
            }
            let table = txn.open_table(tables::definition(LOG))?;
            let reading = Reading { partition: self.partition, class, log, end: shape.next, max_bytes, wanted };
            reading.page(&table, from)
        })
    }
}

/// Rows of a range, each verified, and so are those on both sides of them.
fn scan(
    rows: &ReadTable,
    name: &str,
    partition: PartitionId,
    range: &KeyRange,
    limit: usize,
) -> Result<Vec<Row>, Fault> {
    let mut start = Vec::new();
    row::key(partition, &range.start, &mut start);
    let mut cursor = rows.lower_bound(Bound::Included(&start[..]))?;
    let mut found = Vec::new();
    let disordered = |key: &[u8]| Fault::damaged(tables::describe(name, key), chunk::Damage("it is out of order"));
    if let Some((key, row)) = cursor.peek_prev()? {
        tables::verify(name, key.value(), row.value())?;
        if key.value() >= &start[..] {
            return Err(disordered(key.value()));
        }
    }
    let mut before = start;
    let mut is_first = true;
    while let Some((key, row)) = cursor.next()? {
        let key = key.value();
        let damaged = |damage| Fault::damaged(tables::describe(name, key), damage);
        let (_, value) = row::parse(name, key, row.value()).map_err(damaged)?;
        if key < &before[..] || (key == before && !is_first) {
            return Err(disordered(key));
        }
        let mine = row::parse_key(key).filter(|(of, key)| *of == partition && range.contains(key));
        let Some((_, mine)) = mine.filter(|_| found.len() < limit) else { break };
        found.push((Bytes::copy_from_slice(mine), Bytes::copy_from_slice(value)));
        key.clone_into(&mut before);
        is_first = false;
    }
    Ok(found)
}

/// Rows of a range, and the damaged ones among and beside them, each for itself.
fn scan_each(
    rows: &ReadTable,
    name: &str,
    partition: PartitionId,
    range: &KeyRange,
    limit: usize,
) -> Result<Vec<FoundRow>, Fault> {
    let mut start = Vec::new();
    row::key(partition, &range.start, &mut start);
    let mut cursor = rows.lower_bound(Bound::Included(&start[..]))?;
    // A damaged key may have led the search astray: it begins where all before is sound and lies before the range.
    while let Some((key, row)) = cursor.prev()? {
        if key.value() < &start[..] && tables::verify(name, key.value(), row.value()).is_ok() {
            break;
        }
    }
    let mut found: Vec<FoundRow> = Vec::new();
    let mut before = start.clone();
    while found.len() < limit
        && let Some((key, row)) = cursor.next()?
    {
        let key = key.value();
        let mine = row::parse_key(key).filter(|(of, key)| *of == partition && range.contains(key));
        let (_, value) = match row::parse(name, key, row.value()) {
            Ok(parsed) => parsed,
            Err(damage) => {
                let key_of = row::parse_key(key).map_or(key, |(_, key)| key);
                let fault = Fault::damaged(tables::describe(name, key), damage);
                found.push((Bytes::copy_from_slice(key_of), Err(fault.reading(name))));
                continue;
            }
        };
        match mine {
            _ if key < &start[..] => {}
            Some(_) if key < &before[..] => {
                return Err(Fault::damaged(tables::describe(name, key), chunk::Damage("it is out of order")));
            }
            Some((_, mine)) => {
                found.push((Bytes::copy_from_slice(mine), Ok(Bytes::copy_from_slice(value))));
                key.clone_into(&mut before);
            }
            None => break,
        }
    }
    Ok(found)
}

/// The last row of a range, verified, and so is the one behind it.
fn last(rows: &ReadTable, name: &str, partition: PartitionId, range: &KeyRange) -> Result<Option<Row>, Fault> {
    let mut bound = Vec::new();
    match (&range.end, partition.0.checked_add(1)) {
        (Some(end), _) => row::key(partition, end, &mut bound),
        (None, Some(next)) => row::key(PartitionId(next), b"", &mut bound),
        (None, None) => {}
    }
    let bound = if bound.is_empty() { None } else { Some(&bound[..]) };
    let mut cursor = match bound {
        Some(bound) => rows.lower_bound(Bound::Included(bound))?,
        None => rows.upper_bound(Bound::<&[u8]>::Unbounded)?,
    };
    let disordered = |key: &[u8]| Fault::damaged(tables::describe(name, key), chunk::Damage("it is out of order"));
    if let Some((key, row)) = cursor.peek_next()? {
        tables::verify(name, key.value(), row.value())?;
        if bound.is_some_and(|bound| key.value() < bound) {
            return Err(disordered(key.value()));
        }
    }
    let Some((key, row)) = cursor.peek_prev()? else { return Ok(None) };
    let (_, value) = row::parse(name, key.value(), row.value())
        .map_err(|damage| Fault::damaged(tables::describe(name, key.value()), damage))?;
    if bound.is_some_and(|bound| key.value() >= bound) {
        return Err(disordered(key.value()));
    }
    let mine = row::parse_key(key.value()).filter(|(of, key)| *of == partition && *key >= &range.start[..]);
    Ok(mine.map(|(_, key)| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))))
}

/// One call to read a log.
struct Reading<'a> {
    partition: PartitionId,
    class: Class,
    log: &'a LogShape,
    /// Where the partition ends.
    end: Seq,
    max_bytes: usize,
    wanted: &'a Wanted,
}

impl Reading<'_> {
    fn page(&self, table: &ReadTable, from: Seq) -> Result<Page, Fault> {
        let mut page = Page { next: from, ..Page::default() };
        let Some((first, last)) = self.log.span else { return Ok(self.finish(page, self.end)) };
        let start = self.start(table, from.max(first))?;
        let begin = chunk::key(self.partition, self.class, start);
        let (mut bytes, mut passed) = (0, 0);
        let mut before = None;
        for entry in table.range(&begin[..]..)? {
            let (key, value) = entry?;
            let chunk = self.verify(key.value(), value.value(), before)?;
            if before.is_none() && chunk.first != start {
                return Err(lane::missing(self.partition, self.class, start));
            }
            before = Some(chunk.first);
            if chunk.end > from {
                passed += value.value().len();
                if !self.take(&chunk, from, &mut page, &mut bytes)? {
                    return Ok(page);
                }
            }
            if chunk.first == last {
                return Ok(self.finish(page, self.end));
            }
            if passed > MAX_PASSED.max(self.max_bytes) {
                return Ok(page);
            }
        }
        Err(lane::missing(self.partition, self.class, last))
    }

    /// How many records the page may have, if all are as long as those of a chunk.
    fn expected(&self, chunk: &Chunk<'_>) -> usize {
        let bytes = self.max_bytes.min(MOST_EXPECTED);
        let places = usize::try_from(self.end.0.saturating_sub(chunk.first.0)).unwrap_or(usize::MAX);
        chunk.expected(bytes).min(bytes / LEAST_RESERVED).min(places)
    }

    /// The end of the log, as far as the reader wants it.
    fn finish(&self, mut page: Page, end: Seq) -> Page {
        page.next = page.next.max(self.wanted.below.map_or(end, |below| below.min(end)));
        page.is_end = true;
        page
    }

    /// The chunk that holds `from`, or would.
    fn start(&self, table: &ReadTable, from: Seq) -> Result<Seq, Fault> {
        let at = chunk::key(self.partition, self.class, from);
        let mut cursor = table.upper_bound(Bound::Included(&at[..]))?;
        let found = cursor.peek_prev()?.and_then(|(key, _)| chunk::parse_key(key.value()));
        // A search that a damaged key has led astray may end behind what it is for.
        let mine = found
            .filter(|(partition, class, first)| (*partition, *class) == (self.partition, self.class) && *first <= from);
        mine.map(|(_, _, first)| first).ok_or_else(|| lane::missing(self.partition, self.class, from))
    }

    /// Makes sure that a chunk is what was written, and the one that follows the one before.
    fn verify<'v>(&self, key: &[u8], value: &'v [u8], before: Option<Seq>) -> Result<Chunk<'v>, Fault> {
        let Some((partition, class, first)) = chunk::parse_key(key) else {
            return Err(Fault::damaged("a chunk", chunk::Damage("its key is none")));
        };
        let describe = || lane::describe(partition, class, first);
        let chunk = Chunk::parse(key, value).map_err(|damage| Fault::damaged(describe(), damage))?;
        let is_mine = (partition, class) == (self.partition, self.class);
        if !is_mine || before.is_some_and(|before| chunk.before != Some(before)) {
            return Err(Fault::damaged(describe(), chunk::Damage("the chunk before it is missing")));
        }
        Ok(chunk)
    }

    /// Takes what is wanted of a chunk. False where the page is full or the reader goes no further.
    fn take(&self, chunk: &Chunk<'_>, from: Seq, page: &mut Page, bytes: &mut usize) -> Result<bool, Fault> {
        let damaged = |damage| Fault::damaged(lane::describe(self.partition, self.class, chunk.first), damage);
        if !chunk.may_hold(self.wanted).map_err(damaged)? && self.wanted.reaches(chunk.end) {
            page.next = chunk.end;
            return Ok(true);
        }
        if page.records.is_empty() {
            page.records.reserve(self.expected(chunk));
        }
        for record in chunk.records().map_err(damaged)? {
            let record = record.map_err(damaged)?;
            if record.seq < from {
                continue;
            }
            if !self.wanted.reaches(record.seq) {
                *page = self.finish(std::mem::take(page), record.seq);
                return Ok(false);
            }
            if *bytes > self.max_bytes {
                return Ok(false);
            }
            page.next = record.seq.next();
            if self.wanted.takes(&record.name, record.time) {
                *bytes += record.bytes.len();
                page.records.push(record);
            }
        }
        page.next = page.next.max(chunk.end);
        Ok(true)
    }
}

impl Reader for View {
    fn get<'a>(&'a self, table: Table, keys: &'a [Bytes]) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        Box::pin(async move { self.get_now(table, keys) })
    }

    fn scan(&self, table: Table, range: KeyRange, limit: usize) -> StoreFuture<'_, Result<Vec<Row>, StoreError>> {
        Box::pin(async move { self.scan_now(table, &range, limit) })
    }

    fn scan_each(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<FoundRow>, StoreError>> {
        Box::pin(async move { self.scan_each_now(table, &range, limit) })
    }

    fn last(&self, table: Table, range: KeyRange) -> StoreFuture<'_, Result<Option<Row>, StoreError>> {
        Box::pin(async move { self.last_now(table, &range) })
    }

    fn extent(&self) -> StoreFuture<'_, Result<Extent, StoreError>> {
        Box::pin(async move { self.extent_now() })
    }

    fn read<'a>(
        &'a self,
        class: Class,
        from: Seq,
        max_bytes: usize,
        wanted: &'a Wanted,
    ) -> StoreFuture<'a, Result<Page, StoreError>> {
        Box::pin(async move { self.read_now(class, from, max_bytes, wanted) })
    }
}
