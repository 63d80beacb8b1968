//! The events of one aggregate: rows of their own, which a trimmed log does not take along.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes};
use futures_core::Stream;
use futures_util::stream;
use millstream_operators::Timestamp;

use super::{HistoryError, Library};
use crate::{
    event::{Envelope, EventId, Tenant, scoped},
    store::{KeyRange, Reader, StoreError, tables},
};

/// Rows that are read at a time.
const PAGE: usize = 64;
/// What the idempotency keys of appends begin with. No text has this byte, so none of them is one of an emit.
pub(crate) const APPEND: u8 = u8::MAX;

/// The rows of one aggregate.
#[derive(Clone, Debug)]
pub(crate) struct AggregateRows {
    prefix: Bytes,
}

/// The events of an aggregate from a version on, in their order. After an error it goes on with what could not be read.
pub struct AggregateEvents {
    inner: Pin<Box<dyn Stream<Item = Result<Arc<Envelope>, HistoryError>> + Send>>,
}

/// What an append left under its idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OnceRow {
    pub(crate) id: EventId,
    /// The first and the last version that it made.
    pub(crate) versions: (u64, u64),
    /// Until when it keeps others out.
    pub(crate) until: Timestamp,
}

impl AggregateRows {
    pub(crate) fn of(tenant: Option<&Tenant>, kind: &str, id: &str) -> Self {
        Self { prefix: scoped(tenant, &[kind, id]).into() }
    }

    /// The key of its idempotency key.
    pub(crate) fn once_key(&self, key: &str) -> Bytes {
        [&[APPEND], &self.prefix[..], key.as_bytes()].concat().into()
    }

    /// Its last version.
    pub(crate) async fn version(&self, library: &Library) -> Result<Option<u64>, HistoryError> {
        let reader = library.store.reader(library.partition);
        let last = reader.last(tables::AGGREGATE, KeyRange::prefix(self.prefix.clone())).await?;
        last.map(|(key, _)| self.version_of(&key)).transpose()
    }

    fn version_of(&self, key: &Bytes) -> Result<u64, HistoryError> {
        let version = key.get(self.prefix.len()..).and_then(|version| version.try_into().ok());
        let corrupt = || StoreError::Corrupt { what: "the key of an aggregate's row".to_owned() };
        Ok(u64::from_be_bytes(version.ok_or_else(corrupt)?))
    }

    /// Its events from a version on.
    pub(crate) fn read(self, library: Result<Library, HistoryError>, from: u64) -> AggregateEvents {
        let all = KeyRange::prefix(self.prefix.clone());
        let start = [&self.prefix[..], &from.to_be_bytes()].concat().into();
        let reading = Reading {
            reader: library.map(|library| library.store.reader(library.partition)),
            range: Some(KeyRange { start, end: all.end }),
            read: VecDeque::new(),
        };
        let events = stream::unfold(reading, |mut reading| async move {
            let next = reading.next().await.transpose()?;
            Some((next, reading))
        });
        AggregateEvents { inner: Box::pin(events) }
    }
}

struct Reading {
    reader: Result<Box<dyn Reader>, HistoryError>,
    /// What is not read yet.
    range: Option<KeyRange>,
    read: VecDeque<Bytes>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Arc<Envelope>>, HistoryError> {
        if let Some(range) = self.range.clone().filter(|_| self.read.is_empty()) {
            let reader = match &self.reader {
                Ok(reader) => reader,
                Err(error) => {
                    self.range = None;
                    return Err(error.clone());
                }
            };
            let rows = reader.scan(tables::AGGREGATE, range.clone(), PAGE).await?;
            let last = rows.last().map(|(key, _)| key.clone()).filter(|_| rows.len() == PAGE);
            self.range = last.map(|last| range.after(&last));
            self.read.extend(rows.into_iter().map(|(_, record)| record));
        }
        let Some(record) = self.read.pop_front() else { return Ok(None) };
        let event = Envelope::from_record(&record)
            .map_err(|error| StoreError::Corrupt { what: format!("a row of `aggregate` ({error})") })?;
        Ok(Some(Arc::new(event)))
    }
}

impl OnceRow {
    pub(crate) fn to_bytes(self) -> Bytes {
        let mut out = Vec::with_capacity(40);
        out.put_u128(self.id.as_u128());
        out.put_u64(self.versions.0);
        out.put_u64(self.versions.1);
        out.put_u64(self.until.as_nanos());
        out.into()
    }

    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        (bytes.len() == 40).then_some(())?;
        let id = EventId::from_u128(bytes.get_u128())?;
        let versions = (bytes.get_u64(), bytes.get_u64());
        Some(Self { id, versions, until: Timestamp::from_nanos(bytes.get_u64()) })
    }
}

/// What is there under an idempotency key, expired or not.
pub(crate) async fn once_row(library: &Library, key: &Bytes) -> Result<Option<OnceRow>, HistoryError> {
    let reader = library.store.reader(library.partition);
    let rows = reader.get(tables::ONCE, std::slice::from_ref(key)).await?;
    let corrupt = || StoreError::Corrupt { what: format!("a row of `{}`", tables::ONCE.0) };
    let row = rows.into_iter().flatten().next().map(|row| OnceRow::from_bytes(&row).ok_or_else(corrupt));
    Ok(row.transpose()?)
}

impl Stream for AggregateEvents {
    type Item = Result<Arc<Envelope>, HistoryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for AggregateEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AggregateEvents").finish_non_exhaustive()
    }
}
