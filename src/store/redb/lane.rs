//! Writes the log of one class: fills the open chunk, seals what is full, removes what was trimmed.
//!
//! redb keeps a value in a power of two of pages, so a sealed chunk is made to end just below one. How much that is before
//! it is compressed is learnt from the chunks before.

use std::ops::Bound;

use redb::ReadableTable as _;

use super::{
    chunk::{self, Chunk, Draft, KEY, Press},
    fault::Fault,
    shape::LogShape,
    tables::Raw,
};
use crate::store::{Class, PartitionId, Record, Seq};

/// How large sealed chunks are: powers of two of redb's pages, less what redb and the key take.
const SIZES: [usize; 3] = [(32 << 10) - 96, (16 << 10) - 96, (8 << 10) - 96];
/// How full they are made to be, so that few are larger than they should.
const FILL: f64 = 0.95;
/// The open chunk is written again by each commit, so it stays small.
const MAX_OPEN: usize = 16 << 10;
/// No chunk is made longer than that, however well it is compressed.
const MAX_RAW: usize = 128 << 10;
/// What compression is expected to leave before anything was compressed.
const FIRST_RATIO: f64 = 0.7;

type LogTable<'txn> = redb::Table<'txn, Raw, Raw>;

/// The log of a class, as the committer holds it.
#[derive(Debug)]
pub(super) struct Lane {
    partition: PartitionId,
    class: Class,
    /// The last chunk, where it may be added to.
    open: Option<Draft>,
    /// The bytes that are stored of it.
    stored: u64,
    staged: Vec<(Seq, Record)>,
    staged_bytes: usize,
    trim: Option<Seq>,
    ratio: f64,
}

/// What writing needs again and again.
#[derive(Debug, Default)]
pub(super) struct Tools {
    pub(super) press: Press,
    pub(super) buffer: Vec<u8>,
}

impl Lane {
    /// Reads where a log goes on.
    pub(super) fn load(
        partition: PartitionId,
        class: Class,
        shape: &LogShape,
        table: &LogTable<'_>,
    ) -> Result<Self, Fault> {
        let (mut open, mut stored) = (None, 0);
        if let Some((_, last)) = shape.span {
            let key = chunk::key(partition, class, last);
            let value = table.get(&key[..])?.ok_or_else(|| missing(partition, class, last))?;
            let damaged = |damage| Fault::damaged(describe(partition, class, last), damage);
            let chunk = Chunk::parse(&key, value.value()).map_err(damaged)?;
            if chunk.is_open() && value.value().len() < MAX_OPEN {
                open = Some(chunk.reopen().map_err(damaged)?);
                stored = value.value().len() as u64;
            }
        }
        let (staged, trim) = (Vec::new(), None);
        Ok(Self { partition, class, open, stored, staged, staged_bytes: 0, trim, ratio: FIRST_RATIO })
    }

    /// Adds a record to what is written next.
    pub(super) fn stage(&mut self, seq: Seq, record: Record) {
        self.staged_bytes += chunk::weight(&record);
        self.staged.push((seq, record));
    }

    /// Trims when it is written next.
    pub(super) fn trim(&mut self, below: Seq) {
        self.trim = Some(self.trim.map_or(below, |trim| trim.max(below)));
    }

    /// Writes what was staged.
    pub(super) fn write(
        &mut self,
        shape: &mut LogShape,
        table: &mut LogTable<'_>,
        tools: &mut Tools,
    ) -> Result<(), Fault> {
        if !self.staged.is_empty() {
            self.fill(shape, table, tools)?;
        }
        if let Some(below) = self.trim.take() {
            self.drop_chunks(below, shape, table)?;
        }
        Ok(())
    }

    fn fill(&mut self, shape: &mut LogShape, table: &mut LogTable<'_>, tools: &mut Tools) -> Result<(), Fault> {
        let mut left = std::mem::take(&mut self.staged_bytes) + self.open.as_ref().map_or(0, Draft::len);
        let mut limit = self.limit(left);
        let mut staged = std::mem::take(&mut self.staged);
        for (seq, record) in staged.drain(..) {
            if self.open.as_ref().is_some_and(|open| !open.fits(seq)) {
                left -= self.seal(shape, table, tools)?;
                limit = self.limit(left);
            }
            self.open(seq, shape).push(seq, &record);
            if self.open.as_ref().is_some_and(|open| open.len() >= limit) {
                left -= self.seal(shape, table, tools)?;
                limit = self.limit(left);
            }
        }
        self.staged = staged;
        let most = self.raw(SIZES[SIZES.len() - 1]).min(MAX_OPEN);
        if self.open.as_ref().is_some_and(|open| open.len() >= most) {
            self.seal(shape, table, tools)?;
        }
        if let Some(open) = &self.open {
            let key = chunk::key(self.partition, self.class, open.first());
            open.encode(&key, &mut tools.buffer);
            table.insert(&key[..], &tools.buffer[..])?;
            let before = std::mem::replace(&mut self.stored, tools.buffer.len() as u64);
            shape.bytes = shape.bytes.saturating_sub(before) + self.stored;
        }
        Ok(())
    }

    /// How long the next chunk becomes before it is compressed, if so much is left to write.
    fn limit(&self, left: usize) -> usize {
        SIZES.into_iter().map(|size| self.raw(size)).find(|raw| *raw <= left).unwrap_or(MAX_RAW)
    }

    /// What fills a sealed chunk of a size.
    fn raw(&self, size: usize) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a size below 2 MiB, estimated"
        )]
        let raw = (size as f64 * FILL / self.ratio) as usize;
        raw.min(MAX_RAW)
    }

    fn open(&mut self, seq: Seq, shape: &mut LogShape) -> &mut Draft {
        self.open.get_or_insert_with(|| {
            let before = shape.span.map(|(_, last)| last);
            shape.span = Some((shape.span.map_or(seq, |(first, _)| first), seq));
            shape.chunks += 1;
            Draft::new(seq, before)
        })
    }

    /// Seals the open chunk and says how long it was before.
    fn seal(&mut self, shape: &mut LogShape, table: &mut LogTable<'_>, tools: &mut Tools) -> Result<usize, Fault> {
        let Some(open) = self.open.take() else { return Ok(0) };
        let key = chunk::key(self.partition, self.class, open.first());
        open.seal(&key, &mut tools.press, &mut tools.buffer);
        table.insert(&key[..], &tools.buffer[..])?;
        let before = std::mem::take(&mut self.stored);
        shape.bytes = shape.bytes.saturating_sub(before) + tools.buffer.len() as u64;
        #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes below 4 GiB")]
        let ratio = tools.buffer.len() as f64 / open.len() as f64;
        self.ratio = self.ratio.mul_add(0.8, 0.2 * ratio.clamp(0.02, 1.0));
        Ok(open.len())
    }

    fn drop_chunks(&mut self, below: Seq, shape: &mut LogShape, table: &mut LogTable<'_>) -> Result<(), Fault> {
        while let Some((first, last)) = shape.span.filter(|(first, _)| *first < below) {
            let key = chunk::key(self.partition, self.class, first);
            let next = if first == last { None } else { Some(self.next(first, table)?) };
            let end = match &self.open {
                Some(open) if open.first() == first => open.end(),
                _ => end(&key, table)?.or(next).ok_or_else(|| missing(self.partition, self.class, first))?,
            };
            if end > below {
                break;
            }
            let removed = table.remove(&key[..])?.map_or(0, |chunk| chunk.value().len() as u64);
            shape.bytes = shape.bytes.saturating_sub(removed);
            shape.trimmed = end;
            shape.chunks = shape.chunks.saturating_sub(1);
            shape.span = next.map(|next| (next, last));
            if self.open.take_if(|open| open.first() == first).is_some() {
                self.stored = 0;
            }
        }
        Ok(())
    }

    /// Where the chunk after this one begins.
    fn next(&self, first: Seq, table: &LogTable<'_>) -> Result<Seq, Fault> {
        let key = chunk::key(self.partition, self.class, first);
        let mut cursor = table.lower_bound(Bound::Excluded(&key[..]))?;
        let next = cursor.peek_next()?.and_then(|(key, _)| chunk::parse_key(key.value()));
        let next = next.filter(|(partition, class, _)| (*partition, *class) == (self.partition, self.class));
        next.map(|(_, _, next)| next).ok_or_else(|| missing(self.partition, self.class, first.next()))
    }
}

/// After the last record of a chunk; none where it is damaged.
fn end(key: &[u8; KEY], table: &LogTable<'_>) -> Result<Option<Seq>, Fault> {
    let value = table.get(&key[..])?;
    Ok(value.and_then(|value| Chunk::parse(key, value.value()).ok().map(|chunk| chunk.end)))
}

/// Names a chunk for those who read an error.
pub(super) fn describe(partition: PartitionId, class: Class, first: Seq) -> String {
    format!("the chunk at {} of class {}, partition {}", first.0, class.0, partition.0)
}

pub(super) fn missing(partition: PartitionId, class: Class, first: Seq) -> Fault {
    Fault::damaged(describe(partition, class, first), chunk::Damage("it is missing"))
}
