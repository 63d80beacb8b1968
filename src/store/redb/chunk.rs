//! A chunk: records of one log that lie side by side, with a header that says what is in it.
//!
//! ```text
//! 0   magic "MCHK"          16  after the last record's place   48  bytes of the names
//! 4   version, codec        24  the chunk before, or u64::MAX   52  CRC32C of key and all else
//! 6   how many names        32  earliest time                   56  names: u16 length, bytes
//! 8   how many records      40  latest time                         records, compressed or not
//! 12  bytes of the records
//! record: u32 places since the one before, u16 name, u64 time, u32 length, bytes
//! ```
//! Numbers are little-endian; times are nanoseconds since the Unix epoch. The key is partition, class and the first
//! record's place, big-endian.

use std::sync::Arc;

use bytes::Bytes;
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress, get_maximum_output_size};
use millstream_operators::Timestamp;

use crate::store::{Class, PageRecord, PartitionId, Record, Seq, Wanted};

pub(super) const KEY: usize = 13;
const HEAD: usize = 56;
const RECORD: usize = 18;
const CRC: std::ops::Range<usize> = 52..56;
const MAGIC: [u8; 4] = *b"MCHK";
const VERSION: u8 = 1;
const RAW: u8 = 0;
const LZ4: u8 = 1;
const NONE: u64 = u64::MAX;

/// What is wrong with a chunk or a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damage(pub(super) &'static str);

/// The key of a chunk.
pub(super) fn key(partition: PartitionId, class: Class, first: Seq) -> [u8; KEY] {
    let mut key = [0; KEY];
    key[..4].copy_from_slice(&partition.0.to_be_bytes());
    key[4] = class.0;
    key[5..].copy_from_slice(&first.0.to_be_bytes());
    key
}

/// What a key says.
pub(super) fn parse_key(key: &[u8]) -> Option<(PartitionId, Class, Seq)> {
    let key: &[u8; KEY] = key.try_into().ok()?;
    let (partition, first) = (key[..4].try_into().ok()?, key[5..].try_into().ok()?);
    Some((PartitionId(u32::from_be_bytes(partition)), Class(key[4]), Seq(u64::from_be_bytes(first))))
}

/// A chunk that is being filled.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    first: Seq,
    before: Option<Seq>,
    /// After the last record.
    end: Seq,
    count: u32,
    earliest: u64,
    latest: u64,
    names: Vec<Arc<str>>,
    body: Vec<u8>,
}

impl Draft {
    /// A chunk that begins at `first` and comes after the one that begins at `before`.
    pub(super) fn new(first: Seq, before: Option<Seq>) -> Self {
        let (names, body) = (Vec::new(), Vec::new());
        Self { first, before, end: first, count: 0, earliest: u64::MAX, latest: 0, names, body }
    }

    /// The first record's place.
    pub(super) fn first(&self) -> Seq {
        self.first
    }

    /// After the last record's.
    pub(super) fn end(&self) -> Seq {
        self.end
    }

    /// The bytes of its records.
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether a record at `seq` can be added: places are kept as distances.
    pub(super) fn fits(&self, seq: Seq) -> bool {
        u32::try_from(seq.0 - self.end.0).is_ok() && self.names.len() < usize::from(u16::MAX)
    }

    /// Adds a record. It must [fit](Self::fits), and lie after the last.
    pub(super) fn push(&mut self, seq: Seq, record: &Record) {
        let gap = u32::try_from(seq.0 - self.end.0).expect("the place fits");
        let length = u32::try_from(record.bytes.len()).expect("a batch is smaller than 4 GiB");
        let (name, time) = (self.name(&record.name), record.time.as_nanos());
        self.body.reserve(RECORD + record.bytes.len());
        self.body.extend_from_slice(&gap.to_le_bytes());
        self.body.extend_from_slice(&name.to_le_bytes());
        self.body.extend_from_slice(&time.to_le_bytes());
        self.body.extend_from_slice(&length.to_le_bytes());
        self.body.extend_from_slice(&record.bytes);
        (self.earliest, self.latest) = (self.earliest.min(time), self.latest.max(time));
        self.end = seq.next();
        self.count += 1;
    }

    fn name(&mut self, name: &Arc<str>) -> u16 {
        let known = self.names.iter().position(|known| Arc::ptr_eq(known, name) || known == name);
        let index = known.unwrap_or_else(|| {
            self.names.push(Arc::clone(name));
            self.names.len() - 1
        });
        u16::try_from(index).expect("a full chunk takes no more names")
    }

    /// Writes the chunk as it is, to be read and continued.
    pub(super) fn encode(&self, key: &[u8; KEY], out: &mut Vec<u8>) {
        self.head(RAW, out);
        out.extend_from_slice(&self.body);
        sign(key, out);
    }

    /// Writes the chunk compressed, where that makes it smaller.
    pub(super) fn seal(&self, key: &[u8; KEY], press: &mut Press, out: &mut Vec<u8>) {
        self.head(LZ4, out);
        let begin = out.len();
        out.resize(begin + get_maximum_output_size(self.body.len()), 0);
        match compress_into_with_table(&self.body, &mut out[begin..], &mut press.0) {
            Ok(length) if length < self.body.len() => {
                out.truncate(begin + length);
                sign(key, out);
            }
            _ => self.encode(key, out),
        }
    }

    fn head(&self, codec: u8, out: &mut Vec<u8>) {
        out.clear();
        out.resize(HEAD, 0);
        for name in &self.names {
            let length = u16::try_from(name.len()).expect("a record's name was checked");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        let of_names = u32::try_from(out.len() - HEAD).expect("a chunk's names are fewer than its records");
        let names = u16::try_from(self.names.len()).expect("a full chunk takes no more names");
        let raw = u32::try_from(self.body.len()).expect("a batch is smaller than 4 GiB");
        out[..4].copy_from_slice(&MAGIC);
        out[4] = VERSION;
        out[5] = codec;
        out[6..8].copy_from_slice(&names.to_le_bytes());
        out[8..12].copy_from_slice(&self.count.to_le_bytes());
        out[12..16].copy_from_slice(&raw.to_le_bytes());
        out[16..24].copy_from_slice(&self.end.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.before.map_or(NONE, |seq| seq.0).to_le_bytes());
        out[32..40].copy_from_slice(&self.earliest.to_le_bytes());
        out[40..48].copy_from_slice(&self.latest.to_le_bytes());
        out[48..52].copy_from_slice(&of_names.to_le_bytes());
    }
}

/// What compression needs again and again.
pub(super) struct Press(CompressTable);

impl Default for Press {
    fn default() -> Self {
        Self(CompressTable::large())
    }
}

impl std::fmt::Debug for Press {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Press").finish_non_exhaustive()
    }
}

fn sign(key: &[u8; KEY], out: &mut [u8]) {
    let crc = checksum(key, out);
    out[CRC].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(key: &[u8], chunk: &[u8]) -> u32 {
    let head = crc32c::crc32c_append(crc32c::crc32c(key), &chunk[..CRC.start]);
    crc32c::crc32c_append(head, &chunk[CRC.end..])
}

/// A chunk whose checksum is right.
#[derive(Debug, Clone)]
pub(super) struct Chunk<'a> {
    pub(super) first: Seq,
    /// After the last record.
    pub(super) end: Seq,
    /// Where the chunk before it begins.
    pub(super) before: Option<Seq>,
    pub(super) count: u32,
    pub(super) earliest: Timestamp,
    pub(super) latest: Timestamp,
    codec: u8,
    raw: usize,
    names: &'a [u8],
    body: &'a [u8],
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Damage> {
    let part = bytes.get(at..at + N).and_then(|part| part.try_into().ok());
    part.ok_or(Damage("the chunk is cut off"))
}

impl<'a> Chunk<'a> {
    /// Reads a chunk's header and verifies all of it.
    pub(super) fn parse(key: &[u8], bytes: &'a [u8]) -> Result<Self, Damage> {
        let (_, _, first) = parse_key(key).ok_or(Damage("the key is not one of a chunk"))?;
        if bytes.len() < HEAD || bytes[..4] != MAGIC {
            return Err(Damage("there is no chunk"));
        }
        if checksum(key, bytes) != u32::from_le_bytes(number(bytes, CRC.start)?) {
            return Err(Damage("the checksum is wrong"));
        }
        if bytes[4] != VERSION || bytes[5] > LZ4 {
            return Err(Damage("the chunk is of an unknown kind"));
        }
        let of_names = usize::try_from(u32::from_le_bytes(number(bytes, 48)?)).unwrap_or(usize::MAX);
        let names = bytes[HEAD..].get(..of_names).ok_or(Damage("the names are cut off"))?;
        let before = u64::from_le_bytes(number(bytes, 24)?);
        Ok(Self {
            first,
            end: Seq(u64::from_le_bytes(number(bytes, 16)?)),
            before: (before != NONE).then_some(Seq(before)),
            count: u32::from_le_bytes(number(bytes, 8)?),
            earliest: Timestamp::from_nanos(u64::from_le_bytes(number(bytes, 32)?)),
            latest: Timestamp::from_nanos(u64::from_le_bytes(number(bytes, 40)?)),
            codec: bytes[5],
            raw: usize::try_from(u32::from_le_bytes(number(bytes, 12)?)).unwrap_or(usize::MAX),
            names,
            body: &bytes[HEAD + of_names..],
        })
    }

    /// Whether it may be added to.
    pub(super) fn is_open(&self) -> bool {
        self.codec == RAW
    }

    /// How many records so many bytes hold if they are all as long as those in it, and those of one chunk more.
    pub(super) fn expected(&self, bytes: usize) -> usize {
        let count = usize::try_from(self.count).unwrap_or_default();
        count.saturating_mul(bytes) / self.raw.max(1) + count
    }

    /// Whether a record in it may be wanted.
    pub(super) fn may_hold(&self, wanted: &Wanted) -> Result<bool, Damage> {
        let in_time = wanted.since.is_none_or(|since| self.latest >= since)
            && wanted.until.is_none_or(|until| self.earliest < until);
        let Some(names) = wanted.names.as_ref().filter(|_| in_time) else { return Ok(in_time) };
        Ok(self.names()?.iter().any(|name| names.contains(*name)))
    }

    /// The names in it.
    pub(super) fn names(&self) -> Result<Vec<&'a str>, Damage> {
        let (mut names, mut rest) = (Vec::new(), self.names);
        while !rest.is_empty() {
            let length = usize::from(u16::from_le_bytes(number(rest, 0)?));
            let name = rest.get(2..2 + length).ok_or(Damage("a name is cut off"))?;
            names.push(str::from_utf8(name).map_err(|_| Damage("a name is no text"))?);
            rest = &rest[2 + length..];
        }
        Ok(names)
    }

    fn body(&self) -> Result<Bytes, Damage> {
        if self.codec == RAW {
            return Ok(Bytes::copy_from_slice(self.body));
        }
        let body = decompress(self.body, self.raw).map_err(|_| Damage("the records cannot be decompressed"))?;
        if body.len() == self.raw { Ok(body.into()) } else { Err(Damage("the records are cut off")) }
    }

    /// The records in it.
    pub(super) fn records(&self) -> Result<Records, Damage> {
        let names = self.names()?.into_iter().map(Arc::from).collect();
        Ok(Records { names, body: self.body()?, at: 0, next: self.first, left: self.count })
    }

    /// The chunk as it was when it was written, to go on from there.
    pub(super) fn reopen(&self) -> Result<Draft, Damage> {
        let names = self.names()?.into_iter().map(Arc::from).collect();
        Ok(Draft {
            first: self.first,
            before: self.before,
            end: self.end,
            count: self.count,
            earliest: self.earliest.as_nanos(),
            latest: self.latest.as_nanos(),
            names,
            body: self.body()?.into(),
        })
    }
}

/// The records of a chunk, one after the other.
#[derive(Debug)]
pub(super) struct Records {
    names: Vec<Arc<str>>,
    body: Bytes,
    at: usize,
    next: Seq,
    left: u32,
}

impl Records {
    fn record(&mut self) -> Result<PageRecord, Damage> {
        let cut = Damage("a record is cut off");
        let head: &[u8; RECORD] =
            self.body.get(self.at..self.at + RECORD).and_then(|head| head.try_into().ok()).ok_or(cut)?;
        let gap = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let name = u16::from_le_bytes([head[4], head[5]]);
        let time = u64::from_le_bytes(number(head, 6)?);
        let length = u32::from_le_bytes([head[14], head[15], head[16], head[17]]);
        let begin = self.at + RECORD;
        let end = begin + usize::try_from(length).map_err(|_| cut)?;
        if end > self.body.len() {
            return Err(cut);
        }
        self.at = end;
        let seq = Seq(self.next.0 + u64::from(gap));
        self.next = seq.next();
        let name = self.names.get(usize::from(name)).ok_or(Damage("a record's name is missing"))?;
        let (name, time) = (Arc::clone(name), Timestamp::from_nanos(time));
        Ok(PageRecord { seq, name, time, bytes: self.body.slice(begin..end) })
    }
}

impl Iterator for Records {
    type Item = Result<PageRecord, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = self.record();
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

/// How many bytes a record takes in a chunk.
pub(super) fn weight(record: &Record) -> usize {
    RECORD + record.bytes.len()
}
