//! An event as a store keeps it: a fixed binary header, then its data as JSON, so that a log stays readable.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | format, 1 |
//! | 1 | class of urgency, 0 to 3 |
//! | 1 | which of the optional parts follow |
//! | 16 | id |
//! | 8 | when it was emitted, nanoseconds since 1970 |
//! | 4 | depth |
//! | 1 + n | name |
//! | 16 each | root, correlation, cause: the first two only where they are not the id |
//! | 4 | schema version |
//! | 2 + n each | key, tenant |
//! | 4 + n | what few events carry, as JSON: time, actor, source, aggregate, headers |
//! | the rest | the data, as JSON |
//!
//! Numbers are big-endian. A cancellation token and a due time are not kept: one lives in memory, the other beside the
//! record.

use std::cell::Cell;

use bytes::{Buf, BufMut, Bytes};
use millstream_operators::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Aggregate, Data, Envelope, EventId, EventName, Headers, Key, Lineage, More, Priority, Tenant, Way};

const FORMAT: u8 = 1;

/// The optional parts, a bit each.
mod part {
    pub(super) const ROOT: u8 = 1;
    pub(super) const CORRELATION: u8 = 2;
    pub(super) const CAUSE: u8 = 4;
    pub(super) const VERSION: u8 = 8;
    pub(super) const KEY: u8 = 16;
    pub(super) const TENANT: u8 = 32;
    pub(super) const MORE: u8 = 64;
}

thread_local! {
    /// Where records are written before their length is known.
    static DESK: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A desk that had to become larger is not kept.
const MAX_DESK: usize = 64 << 10;

/// Why bytes are no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no event: {what}")]
pub struct RecordError {
    what: String,
}

impl RecordError {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

/// What few events carry, as it is written.
#[derive(Default, Serialize, Deserialize)]
struct Rare {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aggregate: Option<Aggregate>,
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    headers: Headers,
}

impl Rare {
    fn of(more: &More) -> Option<Self> {
        let More { time, actor, source, aggregate, headers, .. } = more.clone();
        let is_any =
            time.is_some() || actor.is_some() || source.is_some() || aggregate.is_some() || !headers.is_empty();
        is_any.then_some(Self { time, actor, source, aggregate, headers })
    }

    fn into_more(self) -> Box<More> {
        let Self { time, actor, source, aggregate, headers } = self;
        Box::new(More { time, actor, source, aggregate, headers, ..More::default() })
    }
}

impl Envelope {
    /// The event as a store keeps it.
    ///
    /// # Errors
    /// What serde says, for data that has no JSON form.
    pub fn to_record(&self) -> serde_json::Result<Bytes> {
        // Whoever serializes may emit: then the inner one finds it gone and takes one of its own.
        let mut desk = DESK.try_with(Cell::take).unwrap_or_default();
        desk.clear();
        let written = self.write_record(&mut desk).map(|()| Bytes::copy_from_slice(&desk));
        if desk.capacity() <= MAX_DESK {
            let _ = DESK.try_with(|place| place.set(desk));
        }
        written
    }

    fn write_record(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let rare = self.more.as_deref().and_then(Rare::of);
        #[expect(clippy::cast_possible_truncation, reason = "there are four classes, and names have 255 bytes at most")]
        {
            out.extend([FORMAT, self.priority.class() as u8, self.parts(rare.is_some())]);
            out.put_u128(self.id.as_u128());
            out.put_u64(self.emitted.as_nanos());
            out.put_u32(self.lineage.depth);
            out.put_u8(self.name.as_str().len() as u8);
        }
        out.put_slice(self.name.as_str().as_bytes());
        self.put_lineage(out);
        if let Some(version) = self.version {
            out.put_u32(version);
        }
        for text in [self.key.as_ref().map(Key::as_str), self.tenant.as_ref().map(Tenant::as_str)].into_iter().flatten()
        {
            put_text(out, text)?;
        }
        if let Some(rare) = rare {
            let json = serde_json::to_vec(&rare)?;
            out.put_u32(u32::try_from(json.len()).map_err(|_| too_long("the headers"))?);
            out.put_slice(&json);
        }
        self.data.write_json(out)
    }

    fn parts(&self, has_rare: bool) -> u8 {
        let lineage = &self.lineage;
        let table = [
            (part::ROOT, lineage.root != self.id),
            (part::CORRELATION, lineage.correlation != self.id),
            (part::CAUSE, lineage.cause.is_some()),
            (part::VERSION, self.version.is_some()),
            (part::KEY, self.key.is_some()),
            (part::TENANT, self.tenant.is_some()),
            (part::MORE, has_rare),
        ];
        table.into_iter().filter(|(_, is_there)| *is_there).fold(0, |parts, (part, _)| parts | part)
    }

    fn put_lineage(&self, out: &mut Vec<u8>) {
        let Lineage { root, correlation, cause, .. } = self.lineage;
        let others = [root, correlation].into_iter().filter(|id| *id != self.id);
        others.chain(cause).for_each(|id| out.put_u128(id.as_u128()));
    }

    /// The event that a record keeps. Its data is read only when somebody asks for it.
    ///
    /// # Errors
    /// [`RecordError`] where the bytes are none that [`to_record`](Self::to_record) writes.
    pub fn from_record(record: &Bytes) -> Result<Self, RecordError> {
        let mut rest = Rest(record.clone());
        match rest.u8()? {
            FORMAT => {}
            other => return Err(RecordError::new(format!("format {other}, known is {FORMAT}"))),
        }
        let class = usize::from(rest.u8()?);
        let priority = *Priority::ALL.get(class).ok_or_else(|| RecordError::new(format!("class {class}")))?;
        let parts = rest.u8()?;
        let has = |part| parts & part != 0;
        let id = rest.id()?;
        let (emitted, depth) = (Timestamp::from_nanos(rest.u64()?), rest.u32()?);
        let length = rest.u8()?.into();
        let name = EventName::unchecked(rest.text(length)?.as_ref());
        let root = if has(part::ROOT) { rest.id()? } else { id };
        let correlation = if has(part::CORRELATION) { rest.id()? } else { id };
        let cause = if has(part::CAUSE) { Some(rest.id()?) } else { None };
        let version = if has(part::VERSION) { Some(rest.u32()?) } else { None };
        let key = if has(part::KEY) { Some(Key::from(rest.short_text()?.as_ref())) } else { None };
        let tenant = if has(part::TENANT) { Some(Tenant::from(rest.short_text()?.as_ref())) } else { None };
        let more = if has(part::MORE) { Some(rest.rare()?.into_more()) } else { None };
        let lineage = Lineage { root, cause, correlation, depth, way: Way::Emitted };
        Ok(Self { id, name, version, priority, key, tenant, emitted, lineage, data: Data::raw(rest.0), more })
    }
}

fn too_long(what: &str) -> serde_json::Error {
    serde::ser::Error::custom(format!("{what} of an event that is stored may have 65,535 bytes at most"))
}

fn put_text(out: &mut Vec<u8>, text: &str) -> serde_json::Result<()> {
    out.put_u16(u16::try_from(text.len()).map_err(|_| too_long("the key or tenant"))?);
    out.put_slice(text.as_bytes());
    Ok(())
}

/// What is not read yet.
struct Rest(Bytes);

/// A text within a record.
struct Text(Bytes);

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        // Checked when it was made.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Rest {
    fn need(&self, bytes: usize) -> Result<(), RecordError> {
        if self.0.remaining() >= bytes { Ok(()) } else { Err(RecordError::new("they end too early")) }
    }

    fn u8(&mut self) -> Result<u8, RecordError> {
        self.need(1).map(|()| self.0.get_u8())
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.need(4).map(|()| self.0.get_u32())
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.need(8).map(|()| self.0.get_u64())
    }

    fn id(&mut self) -> Result<EventId, RecordError> {
        self.need(16)?;
        EventId::from_u128(self.0.get_u128()).ok_or_else(|| RecordError::new("an id without its random half"))
    }

    fn text(&mut self, length: usize) -> Result<Text, RecordError> {
        self.need(length)?;
        let bytes = self.0.split_to(length);
        std::str::from_utf8(&bytes).map_err(|_| RecordError::new("a text that is not UTF-8"))?;
        Ok(Text(bytes))
    }

    fn short_text(&mut self) -> Result<Text, RecordError> {
        self.need(2)?;
        let length = self.0.get_u16().into();
        self.text(length)
    }

    fn rare(&mut self) -> Result<Rare, RecordError> {
        let length = self.u32()? as usize;
        self.need(length)?;
        serde_json::from_slice(&self.0.split_to(length)).map_err(|error| RecordError::new(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::event::{Draft, IdSource};

    fn envelope(draft: Draft, depth: u32) -> Envelope {
        let ids = IdSource::new(7);
        let [root, correlation, cause, id] = [1, 2, 3, 4].map(|ms| ids.next(Timestamp::from_millis(ms)));
        let lineage = match depth {
            0 => Lineage::root(id),
            _ => Lineage { root, cause: Some(cause), correlation, depth, way: Way::Emitted },
        };
        Envelope::new(draft, id, Timestamp::from_millis(5), lineage)
    }

    fn full() -> Envelope {
        let draft = Draft::json("order.placed", json!({"id": 7, "lines": ["ä", 1.5, null]}))
            .version(3)
            .key("7")
            .tenant("acme")
            .priority(Priority::High)
            .time(Timestamp::from_secs(1))
            .actor("ann")
            .source("shop")
            .aggregate("order", "7", 2)
            .header("traceparent", "00-1-2-3");
        envelope(draft, 4)
    }

    #[test]
    fn an_event_goes_there_and_back() {
        for event in [full(), envelope(Draft::json("x", json!(null)), 0)] {
            let back = Envelope::from_record(&event.to_record().unwrap()).unwrap();
            assert_eq!(serde_json::to_value(&back).unwrap(), serde_json::to_value(&event).unwrap());
            assert_eq!((back.emitted, back.lineage.root), (event.emitted, event.lineage.root));
        }
    }

    #[test]
    fn bytes_that_end_too_early_are_an_error() {
        let record = full().to_record().unwrap();
        let data = record.len() - serde_json::to_vec(&full().data.to_json().unwrap()).unwrap().len();
        for length in 0..data {
            assert!(Envelope::from_record(&record.slice(..length)).is_err(), "{length} of {}", record.len());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let _ = Envelope::from_record(&bytes.into());
        }

        #[test]
        fn no_change_of_a_byte_makes_the_decoder_panic(at in 0_usize..200, byte: u8) {
            let mut record = full().to_record().unwrap().to_vec();
            let at = at % record.len();
            record[at] = byte;
            if let Ok(event) = Envelope::from_record(&record.into()) {
                let _ = event.data.to_json();
            }
        }
    }
}
