//! A key's state as bytes: what a row of `stage_state` and an entry of a delta hold.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | format, 2; 1 where operators that remember an item wrote it otherwise |
//! | 1 | which of the optional parts follow |
//! | 4 | the stage's version |
//! | 8 | what is due next, where something is |
//! | 4 | the largest depth of the events taken that have the last one's root |
//! | 16 + 8 + 4 (+ 16 each) | the last event taken: id, time, depth, and root, correlation, cause where they are others |
//! | 2, then 1 + n, 4 + n each | the chain's parts: label and value |
//! | 4, then 8, 8, 8, 2 + n, 4 + n each | items that wait for the watermark: time, place, record |
//!
//! Numbers are big-endian.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use millstream_operators::Timestamp;

use super::{
    border::Origin,
    moment::{Kind, Next},
};
use crate::{
    event::{EventId, Lineage},
    store::{PageRecord, Seq},
};

const FORMAT: u8 = 2;

/// The format of before: all is where it is in [`FORMAT`], but what an operator remembers of its items was written as it is or as
/// nothing, where it is a [list](millstream_operators::durable::Held) now.
const DATED: u8 = 1;

mod part {
    pub(super) const DUE: u8 = 1;
    pub(super) const DUE_IS_ITEM: u8 = 2;
    pub(super) const ORIGIN: u8 = 4;
    pub(super) const ROOT: u8 = 8;
    pub(super) const CORRELATION: u8 = 16;
    pub(super) const CAUSE: u8 = 32;
    pub(super) const STARTED: u8 = 64;
}

/// What is not the chain's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preface {
    pub(super) version: u32,
    pub(super) next: Option<Next>,
    pub(super) depth: u32,
    pub(super) origin: Option<Origin>,
    /// Whether the chain has seen its start.
    pub(super) is_started: bool,
}

/// A state as it was saved.
#[derive(Debug)]
pub(super) struct Saved<'a> {
    pub(super) preface: Preface,
    pub(super) parts: Vec<SavedPart<'a>>,
    pub(super) waiting: Vec<(Timestamp, PageRecord)>,
}

/// What an operator has saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SavedPart<'a> {
    pub(super) label: &'a str,
    pub(super) value: &'a [u8],
    /// Whether it is of the format of before.
    pub(super) is_dated: bool,
}

/// Bytes that are no state.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Preface {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Self { version, next, depth, origin, .. } = self;
        out.extend([FORMAT, self.flags()]);
        out.put_u32(*version);
        if let Some(next) = next {
            out.put_u64(next.at.as_nanos());
        }
        out.put_u32(*depth);
        if let Some(Origin { event, lineage, at }) = origin {
            out.put_u128(event.as_u128());
            out.put_u64(at.as_nanos());
            out.put_u32(lineage.depth);
            let others = [lineage.root, lineage.correlation].into_iter().filter(|id| id != event);
            others.chain(lineage.cause).for_each(|id| out.put_u128(id.as_u128()));
        }
    }

    fn flags(&self) -> u8 {
        let origin = self.origin.as_ref();
        let differs = |of: fn(&Lineage) -> EventId| origin.is_some_and(|origin| of(&origin.lineage) != origin.event);
        let table = [
            (part::DUE, self.next.is_some()),
            (part::DUE_IS_ITEM, self.next.is_some_and(|next| next.kind == Kind::Item)),
            (part::ORIGIN, origin.is_some()),
            (part::ROOT, differs(|lineage| lineage.root)),
            (part::CORRELATION, differs(|lineage| lineage.correlation)),
            (part::CAUSE, origin.is_some_and(|origin| origin.lineage.cause.is_some())),
            (part::STARTED, self.is_started),
        ];
        table.into_iter().filter(|(_, is_there)| *is_there).fold(0, |flags, (flag, _)| flags | flag)
    }

    /// What a saved state says is due next, without reading the rest.
    pub(super) fn read(rest: &mut &[u8]) -> Result<Self, Broken> {
        if !matches!(rest.try_get_u8(), Ok(FORMAT | DATED)) {
            return Err(Broken);
        }
        let flags = rest.try_get_u8().map_err(|_| Broken)?;
        let has = |flag| flags & flag != 0;
        let version = rest.try_get_u32().map_err(|_| Broken)?;
        let next = if has(part::DUE) {
            let kind = if has(part::DUE_IS_ITEM) { Kind::Item } else { Kind::Timer };
            Some(Next { at: time(rest)?, kind })
        } else {
            None
        };
        let depth = rest.try_get_u32().map_err(|_| Broken)?;
        let origin = if has(part::ORIGIN) { Some(origin(rest, has)?) } else { None };
        Ok(Self { version, next, depth, origin, is_started: has(part::STARTED) })
    }
}

fn origin(rest: &mut &[u8], has: impl Fn(u8) -> bool) -> Result<Origin, Broken> {
    let event = id(rest)?;
    let (at, depth) = (time(rest)?, rest.try_get_u32().map_err(|_| Broken)?);
    let root = if has(part::ROOT) { id(rest)? } else { event };
    let correlation = if has(part::CORRELATION) { id(rest)? } else { event };
    let cause = if has(part::CAUSE) { Some(id(rest)?) } else { None };
    Ok(Origin { event, at, lineage: Lineage { root, cause, correlation, depth, ..Lineage::root(event) } })
}

/// Writes the items that wait, after the parts.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a name has 255 bytes at most, a record and their number under 2^32"
)]
pub(super) fn write_waiting<'a>(
    out: &mut Vec<u8>,
    waiting: impl ExactSizeIterator<Item = (Timestamp, &'a PageRecord)>,
) {
    out.put_u32(waiting.len() as u32);
    for (at, PageRecord { seq, name, time, bytes }) in waiting {
        for number in [at.as_nanos(), seq.0, time.as_nanos()] {
            out.put_u64(number);
        }
        out.put_u16(name.len() as u16);
        out.put_slice(name.as_bytes());
        out.put_u32(bytes.len() as u32);
        out.put_slice(bytes);
    }
}

impl<'a> Saved<'a> {
    pub(super) fn read(mut rest: &'a [u8]) -> Result<Self, Broken> {
        let is_dated = rest.first() == Some(&DATED);
        let preface = Preface::read(&mut rest)?;
        let count = rest.try_get_u16().map_err(|_| Broken)?;
        let mut parts = Vec::with_capacity(count.into());
        for _ in 0..count {
            let length = rest.try_get_u8().map_err(|_| Broken)?;
            let label = text(&mut rest, length.into())?;
            let length = rest.try_get_u32().map_err(|_| Broken)?;
            parts.push(SavedPart { label, value: split(&mut rest, length as usize)?, is_dated });
        }
        let mut waiting = Vec::new();
        for _ in 0..rest.try_get_u32().map_err(|_| Broken)? {
            waiting.push(record(&mut rest)?);
        }
        if rest.is_empty() { Ok(Self { preface, parts, waiting }) } else { Err(Broken) }
    }
}

fn record(rest: &mut &[u8]) -> Result<(Timestamp, PageRecord), Broken> {
    let at = time(rest)?;
    let seq = Seq(rest.try_get_u64().map_err(|_| Broken)?);
    let came = time(rest)?;
    let length = rest.try_get_u16().map_err(|_| Broken)?;
    let name = Arc::from(text(rest, length.into())?);
    let length = rest.try_get_u32().map_err(|_| Broken)?;
    let bytes = Bytes::copy_from_slice(split(rest, length as usize)?);
    Ok((at, PageRecord { seq, name, time: came, bytes }))
}

fn time(rest: &mut &[u8]) -> Result<Timestamp, Broken> {
    rest.try_get_u64().map(Timestamp::from_nanos).map_err(|_| Broken)
}

fn id(rest: &mut &[u8]) -> Result<EventId, Broken> {
    rest.try_get_u128().ok().and_then(EventId::from_u128).ok_or(Broken)
}

fn split<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Broken> {
    let (part, after) = rest.split_at_checked(length).ok_or(Broken)?;
    *rest = after;
    Ok(part)
}

fn text<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a str, Broken> {
    std::str::from_utf8(split(rest, length)?).map_err(|_| Broken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::IdSource;

    fn sample() -> Vec<u8> {
        let ids = IdSource::new(3);
        let [event, root, cause] = [1, 2, 3].map(|ms| ids.next(Timestamp::from_millis(ms)));
        let lineage = Lineage { root, cause: Some(cause), depth: 4, ..Lineage::root(event) };
        let origin = Some(Origin { event, lineage, at: Timestamp::from_secs(9) });
        let next = Some(Next { at: Timestamp::from_secs(7), kind: Kind::Item });
        let mut out = Vec::new();
        Preface { version: 3, next, depth: 5, origin, is_started: true }.write(&mut out);
        out.put_u16(1);
        out.put_slice(b"\x01a\0\0\0\x02xy");
        let (seq, name, time, bytes) = (Seq(8), "order".into(), Timestamp::from_secs(6), Bytes::from_static(b"{}"));
        let record = PageRecord { seq, name, time, bytes };
        write_waiting(&mut out, [(Timestamp::from_secs(7), &record)].into_iter());
        out
    }

    #[test]
    fn a_state_goes_there_and_back() {
        let bytes = sample();
        let saved = Saved::read(&bytes).unwrap();
        let Preface { version, next, depth, origin, is_started } = saved.preface;
        let mut again = Vec::new();
        Preface { version, next, depth, origin, is_started }.write(&mut again);
        assert!(is_started);
        assert_eq!(again[..], bytes[..again.len()]);
        let part = SavedPart { label: "a", value: b"xy", is_dated: false };
        assert_eq!((version, depth, saved.parts), (3, 5, vec![part]));
        assert_eq!((saved.waiting[0].1.seq, &*saved.waiting[0].1.name), (Seq(8), "order"));
        assert_eq!(origin.map(|origin| origin.lineage.depth), Some(4));
    }

    #[test]
    fn bytes_that_end_too_early_or_too_late_are_broken() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(Saved::read(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Saved::read(&[&bytes[..], b"x"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_the_decoder_panic(at in 0_usize..200, byte: u8) {
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Saved::read(&bytes);
        }
    }
}
