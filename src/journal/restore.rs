//! What the store says when a partition is claimed, and when a subscription is opened.

use std::collections::HashMap;

use bytes::Bytes;
use millstream_operators::Timestamp;

use super::{
    Cursor, FailedKey, Standing, Subscribed, cursor_key, dead_row,
    horizon::{DueKey, Horizon, parse_key},
    mark::{Endings, GIVEN_BACK, parse_mark},
    parse_failed,
};
use crate::{
    dead_letter::DeadLetter,
    epoch,
    event::Envelope,
    queue::CLASSES,
    store::{Class, KeyRange, PartitionId, Seq, Store, StoreError, Table, Tenure, tables},
};

/// A subscription that the store knows.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) row: Subscribed,
    pub(crate) cursors: [Cursor; CLASSES],
}

/// All that is there when a partition is claimed.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) tenure: Tenure,
    pub(crate) known: HashMap<String, Known>,
    /// Where those begin that are not known.
    pub(crate) starts: HashMap<String, Seq>,
    /// How far each stage is.
    pub(crate) stage_cursors: HashMap<String, Seq>,
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) horizon: Horizon,
    /// The last reading of the clock that was written.
    pub(crate) last_now: Timestamp,
    /// How earlier claims ended.
    pub(crate) endings: Endings,
}

/// What a subscription has that left the log, in the order of class and place.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) rows: Vec<(FailedKey, Standing, Envelope)>,
}

/// The key of the clock's last reading.
pub(crate) const NOW: &[u8] = b"now";
/// Rows that are read at a time.
const PAGE: usize = 1_024;

async fn scan(tenure: &Tenure, table: Table, mut range: KeyRange) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let mut rows = Vec::new();
    loop {
        let page = tenure.reader().scan(table, range.clone(), PAGE).await?;
        let is_last = page.len() < PAGE;
        rows.extend(page);
        match rows.last() {
            Some((key, _)) if !is_last => range = range.after(key),
            _ => return Ok(rows),
        }
    }
}

fn corrupt(table: Table, why: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what: format!("a row of `{}` ({why})", table.0) }
}

/// Claims a partition and reads what is there. Of what may be a million it reads the first page alone.
pub(crate) async fn restore(store: &dyn Store, partition: PartitionId) -> Result<Restored, StoreError> {
    let tenure = Tenure::begin(store, partition).await?;
    let mut known = HashMap::new();
    for (name, value) in scan(&tenure, tables::SUBSCRIPTION, KeyRange::all()).await? {
        let row: Subscribed = serde_json::from_slice(&value).map_err(|error| corrupt(tables::SUBSCRIPTION, error))?;
        let cursors = cursors(&tenure, row.id).await?;
        known.insert(String::from_utf8_lossy(&name).into_owned(), Known { row, cursors });
    }
    let mut starts = HashMap::new();
    for (name, seq) in scan(&tenure, tables::START, KeyRange::all()).await? {
        let seq = seq[..].try_into().map_err(|_| corrupt(tables::START, "it is no place"))?;
        starts.insert(String::from_utf8_lossy(&name).into_owned(), Seq(u64::from_be_bytes(seq)).next());
    }
    let stage_cursors = epoch::cursors(tenure.reader()).await?.into_iter().collect();
    let dead = scan(&tenure, tables::DEAD, KeyRange::all()).await?;
    let dead = dead.into_iter().map(|(_, value)| dead_row(value)).collect::<Result<_, _>>()?;
    let now = tenure.reader().get(tables::ENGINE, &[Bytes::from_static(NOW)]).await?;
    let mut horizon = Horizon::default();
    horizon.forget();
    let endings = endings(&tenure).await?;
    Ok(Restored { tenure, known, starts, stage_cursors, dead, horizon, last_now: last_now(now)?, endings })
}

/// How the claims before this one ended. What cannot be read of that is no reason to stop: it is there for care alone.
async fn endings(tenure: &Tenure) -> Result<Endings, StoreError> {
    let forgive = |error: StoreError| {
        tracing::error!(%error, "attempts that earlier processes ended with are not known");
        if matches!(error, StoreError::Corrupt { .. }) { Ok(Endings::default()) } else { Err(error) }
    };
    let read = async {
        let fence = tenure.reader().get(tables::ENGINE, &[Bytes::from_static(GIVEN_BACK)]).await?;
        let fence = fence.into_iter().flatten().next().and_then(|fence| fence[..].try_into().ok());
        let marks = scan(tenure, tables::ATTEMPT, KeyRange::all()).await?;
        let marks = marks.iter().map(|(key, value)| parse_mark(key, value)).collect::<Result<_, _>>()?;
        Ok(Endings { given_back: fence.map(u64::from_be_bytes), marks })
    };
    read.await.or_else(forgive)
}

/// The clock's last reading that was written.
pub(crate) fn last_now(row: Vec<Option<Bytes>>) -> Result<Timestamp, StoreError> {
    let Some(now) = row.into_iter().flatten().next() else { return Ok(Timestamp::EPOCH) };
    let now = now[..].try_into().map_err(|_| corrupt(tables::ENGINE, "it is no time"))?;
    Ok(Timestamp::from_nanos(u64::from_be_bytes(now)))
}

async fn cursors(tenure: &Tenure, id: u32) -> Result<[Cursor; CLASSES], StoreError> {
    #[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
    let keys: Vec<_> = (0..CLASSES).map(|class| cursor_key(id, Class(class as u8))).collect();
    let mut cursors: [Cursor; CLASSES] = std::array::from_fn(|_| Cursor::default());
    for (cursor, value) in cursors.iter_mut().zip(tenure.reader().get(tables::CURSOR, &keys).await?) {
        if let Some(value) = value {
            *cursor = Cursor::from_bytes(&value).map_err(|error| corrupt(tables::CURSOR, error))?;
        }
    }
    Ok(cursors)
}

/// Reads what a subscription has that left the log.
pub(crate) async fn open(tenure: &Tenure, id: u32) -> Result<Opened, StoreError> {
    let rows = scan(tenure, tables::FAILED, KeyRange::prefix(id.to_be_bytes().to_vec())).await?;
    let rows = rows.into_iter().map(|(key, value)| parse_failed(&key, value)).collect::<Result<_, _>>()?;
    Ok(Opened { rows })
}

/// The first rows that a subscription has that left the log, by key.
pub(crate) async fn failed_of(tenure: &Tenure, id: u32) -> Result<Vec<Bytes>, StoreError> {
    let rows = tenure.reader().scan(tables::FAILED, KeyRange::prefix(id.to_be_bytes().to_vec()), PAGE).await?;
    Ok(rows.into_iter().map(|(key, _)| key).collect())
}

/// The first attempts of a subscription that earlier processes ended with, by key.
pub(crate) async fn marks_of(tenure: &Tenure, id: u32) -> Result<Vec<Bytes>, StoreError> {
    let rows = tenure.reader().scan(tables::ATTEMPT, KeyRange::prefix(id.to_be_bytes().to_vec()), PAGE).await?;
    Ok(rows.into_iter().map(|(key, _)| key).collect())
}

/// The next delayed events, and whether there are no more.
pub(crate) async fn next_due(tenure: &Tenure, from: Bytes) -> Result<(Vec<DueKey>, bool), StoreError> {
    let rows = tenure.reader().scan(tables::DELAYED, KeyRange::all().after(&from), PAGE).await?;
    let is_all = rows.len() < PAGE;
    let keys = rows.iter().map(|(key, _)| parse_key(key).ok_or_else(|| corrupt(tables::DELAYED, "its key is none")));
    Ok((keys.collect::<Result<_, _>>()?, is_all))
}
