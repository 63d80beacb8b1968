//! What the store says when a partition is claimed, and when a subscription is opened.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use millstream_operators::Timestamp;

use super::{
    FailedKey, HarmedStage, Names, Standing, dead_row,
    horizon::{DueKey, Horizon, parse_key, row_key},
    mark::{Endings, GIVEN_BACK, parse_mark},
    parse_failed,
};
use crate::{
    dead_letter::DeadLetter,
    epoch,
    event::Envelope,
    store::{FoundRow, KeyRange, Op, PartitionId, RowKey, Seq, Store, StoreError, Table, Tenure, tables},
};

/// All that is there when a partition is claimed.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) names: Names,
    /// How far each stage is.
    pub(crate) stage_cursors: HashMap<String, Seq>,
    pub(crate) dead: Dead,
    pub(crate) horizon: Horizon,
    /// Which of the delayed events of that nobody knew are in the store. The others never will be.
    pub(crate) landed: BTreeSet<DueKey>,
    /// The last reading of the clock that was written.
    pub(crate) last_now: Timestamp,
    /// Why that cannot be read.
    pub(crate) harmed_clock: Option<StoreError>,
    /// How earlier claims ended.
    pub(crate) endings: Endings,
}

/// The dead letters.
#[derive(Debug, Default)]
pub(crate) struct Dead {
    pub(crate) letters: Vec<DeadLetter>,
    pub(crate) harmed: Vec<HarmedRow>,
    /// The highest number that one has, whether it can be read or not.
    pub(crate) last: u64,
}

/// The key of a row that cannot be read, and why.
pub(crate) type HarmedRow = (Bytes, StoreError);

/// What a subscription has that left the log, in the order of class and place.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) rows: Vec<(FailedKey, Standing, Envelope)>,
    pub(crate) harmed: Vec<HarmedRow>,
}

/// The key of the clock's last reading.
pub(crate) const NOW: &[u8] = b"now";
/// Rows that are read at a time.
const PAGE: usize = 1_024;

pub(super) fn corrupt(table: Table, why: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what: format!("a row of `{}` ({why})", table.0) }
}

/// A claim that has come to nothing.
#[derive(Debug)]
pub(crate) struct Unclaimed {
    pub(crate) error: StoreError,
    /// Its fence, where the partition was claimed and could not be read.
    pub(crate) fence: Option<u64>,
}

/// Claims a partition and reads what is there. Of what may be a million it reads the first page alone.
///
/// Of `lost` it says which are there: delayed events that were on their way when the partition was lost. A store that
/// `is_doubted` has to take a write first.
pub(crate) async fn restore(
    store: &dyn Store,
    partition: PartitionId,
    lost: BTreeSet<DueKey>,
    is_doubted: bool,
) -> Result<(Tenure, Restored), Unclaimed> {
    let tenure = Tenure::begin(store, partition).await.map_err(|error| Unclaimed { error, fence: None })?;
    let restored = match read(&tenure, lost).await {
        Ok(restored) if is_doubted => prove(&tenure, &restored).await.map(|()| restored),
        restored => restored,
    };
    match restored {
        Ok(restored) => Ok((tenure, restored)),
        Err(error) => {
            // It has had nothing in hand, and says so if it can: whoever comes next may be another process.
            if let Ok(Some(op)) = pass_on(&tenure).await {
                drop(tenure.commit(vec![op]).await);
            }
            Err(Unclaimed { error, fence: Some(tenure.fence) })
        }
    }
}

async fn read(tenure: &Tenure, lost: BTreeSet<DueKey>) -> Result<Restored, StoreError> {
    let mut names = Names::read(tenure).await?;
    let stage_cursors = stage_cursors(tenure, &mut names).await?;
    let dead = dead(tenure).await?;
    let (last_now, harmed_clock) = clock(tenure).await?;
    let mut horizon = Horizon::default();
    horizon.forget();
    let (landed, endings) = (landed(tenure, lost).await?, endings(tenure).await?);
    Ok(Restored { names, stage_cursors, dead, horizon, landed, last_now, harmed_clock, endings })
}

/// Writes what is there already: the clock's last reading.
async fn prove(tenure: &Tenure, restored: &Restored) -> Result<(), StoreError> {
    let value = Bytes::copy_from_slice(&restored.last_now.as_nanos().to_be_bytes());
    let op = Op::Put { table: tables::ENGINE, key: Bytes::from_static(NOW), value };
    let landed = tenure.commit(vec![op]).await;
    landed.map(drop).map_err(|error| StoreError::Io { what: "a commit".to_owned(), source: Arc::new(error) })
}

/// How far the stages are. One that has a header misses no beginning; one whose header cannot be read is damaged.
async fn stage_cursors(tenure: &Tenure, names: &mut Names) -> Result<HashMap<String, Seq>, StoreError> {
    let mut cursors = HashMap::new();
    for (name, cursor) in epoch::cursors(tenure.reader()).await? {
        match cursor {
            Ok(cursor) => {
                names.harmed_stages.remove(&name);
                cursors.insert(name, cursor);
            }
            Err((why, may_be_another)) => {
                names.harmed_stages.insert(name, HarmedStage { may_be_another, why });
            }
        }
    }
    Ok(cursors)
}

/// The clock's last reading that was written. Where it cannot be read, it is as if none was, and why.
async fn clock(tenure: &Tenure) -> Result<(Timestamp, Option<StoreError>), StoreError> {
    let row = tenure.reader().get(tables::ENGINE, &[Bytes::from_static(NOW)]).await;
    match row.and_then(last_now) {
        Ok(now) => Ok((now, None)),
        Err(why @ StoreError::Corrupt { .. }) => Ok((Timestamp::EPOCH, Some(why))),
        Err(error) => Err(error),
    }
}

/// The fence of the last claim that was given back. Where it cannot be read, it is as if none was.
async fn given_back(tenure: &Tenure) -> Result<Option<u64>, StoreError> {
    let fence = match tenure.reader().get(tables::ENGINE, &[Bytes::from_static(GIVEN_BACK)]).await {
        Err(error) if !matches!(error, StoreError::Corrupt { .. }) => return Err(error),
        fence => fence.unwrap_or_default().into_iter().flatten().next(),
    };
    Ok(fence.and_then(|fence| fence[..].try_into().ok()).map(u64::from_be_bytes))
}

/// For a claim that handles nothing, as a tool's: what says of it that it is given back, where the one before it was.
pub(crate) async fn pass_on(tenure: &Tenure) -> Result<Option<Op>, StoreError> {
    let before = given_back(tenure).await?;
    let was_given_back = before.map_or(tenure.fence == 1, |before| before + 1 >= tenure.fence);
    Ok(was_given_back.then(|| super::given_back_op(tenure.fence)))
}

/// How the claims before this one ended. What cannot be read of that is no reason to stop: it is there for care alone.
async fn endings(tenure: &Tenure) -> Result<Endings, StoreError> {
    let given_back = given_back(tenure).await?;
    let mut marks = Vec::new();
    for (key, value) in tenure.reader().scan_each(tables::ATTEMPT, KeyRange::all(), usize::MAX).await? {
        match value.and_then(|value| parse_mark(&key, &value)) {
            Ok(mark) => marks.push(mark),
            Err(error) => tracing::error!(%error, "an attempt that a process ended with cannot be read"),
        }
    }
    Ok(Endings { given_back, marks })
}

/// Those that are in the store, or that may be, for their rows cannot be read.
async fn landed(tenure: &Tenure, lost: BTreeSet<DueKey>) -> Result<BTreeSet<DueKey>, StoreError> {
    let keys: Vec<_> = lost.iter().copied().map(row_key).collect();
    match tenure.reader().get(tables::DELAYED, &keys).await {
        Ok(rows) => Ok(lost.into_iter().zip(rows).filter_map(|(key, row)| row.map(|_| key)).collect()),
        Err(StoreError::Corrupt { .. }) => Ok(lost),
        Err(error) => Err(error),
    }
}

/// The number of a dead letter, from its row's key. Nobody comes as far as the upper half: such a number is damage.
pub(crate) fn letter_number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes).filter(|number| *number <= u64::MAX / 2)
}

async fn dead(tenure: &Tenure) -> Result<Dead, StoreError> {
    let mut dead = Dead::default();
    for (key, value) in tenure.reader().scan_each(tables::DEAD, KeyRange::all(), usize::MAX).await? {
        dead.last = dead.last.max(letter_number(&key).unwrap_or_default());
        match value.and_then(dead_row) {
            Ok(letter) => dead.letters.push(letter),
            Err(why) => dead.harmed.push((key, why)),
        }
    }
    Ok(dead)
}

/// The clock's last reading that was written.
pub(crate) fn last_now(row: Vec<Option<Bytes>>) -> Result<Timestamp, StoreError> {
    let Some(now) = row.into_iter().flatten().next() else { return Ok(Timestamp::EPOCH) };
    let now = now[..].try_into().map_err(|_| corrupt(tables::ENGINE, "it is no time"))?;
    Ok(Timestamp::from_nanos(u64::from_be_bytes(now)))
}

/// Reads what a subscription has that left the log.
pub(crate) async fn open(tenure: &Tenure, id: u32) -> Result<Opened, StoreError> {
    let mut opened = Opened::default();
    let own = KeyRange::prefix(id.to_be_bytes().to_vec());
    for (key, value) in tenure.reader().scan_each(tables::FAILED, own, usize::MAX).await? {
        match value.and_then(|value| parse_failed(&key, value)) {
            Ok(row) => opened.rows.push(row),
            Err(why) => opened.harmed.push((key, why)),
        }
    }
    Ok(opened)
}

/// The rows of deliveries that subscriptions have in a table, of those that can be read and of those that cannot.
pub(crate) async fn rows_of(tenure: &Tenure, table: Table, ids: &[u32]) -> Result<Vec<RowKey>, StoreError> {
    let mut keys = Vec::new();
    for id in ids {
        let own = KeyRange::prefix(id.to_be_bytes().to_vec());
        let rows = tenure.reader().scan_each(table, own.clone(), usize::MAX).await?;
        let rows = rows.into_iter().map(|(key, _)| key).filter(|key| own.contains(key));
        keys.extend(rows.map(|key| RowKey { table, key }));
    }
    Ok(keys)
}

/// The next delayed events.
#[derive(Debug, Default)]
pub(crate) struct NextDue {
    pub(crate) keys: Vec<DueKey>,
    /// Whether there are no more.
    pub(crate) is_all: bool,
    /// Why one is not here, where rows cannot be read.
    pub(crate) harm: Option<StoreError>,
}

impl NextDue {
    fn of(rows: impl IntoIterator<Item = FoundRow>, is_all: bool) -> Self {
        let mut next = Self { is_all, ..Self::default() };
        for (key, value) in rows {
            let key = value.and_then(|_| parse_key(&key).ok_or_else(|| corrupt(tables::DELAYED, "its key is none")));
            match key {
                Ok(key) => next.keys.push(key),
                Err(why) => drop(next.harm.get_or_insert(why)),
            }
        }
        next
    }
}

/// The next delayed events behind a row.
pub(crate) async fn next_due(tenure: &Tenure, from: Bytes) -> Result<NextDue, StoreError> {
    let range = KeyRange::all().after(&from);
    match tenure.reader().scan(tables::DELAYED, range.clone(), PAGE).await {
        Ok(rows) => {
            let is_all = rows.len() < PAGE;
            Ok(NextDue::of(rows.into_iter().map(|(key, value)| (key, Ok(value))), is_all))
        }
        Err(StoreError::Corrupt { .. }) => next_sound(tenure, range).await,
        Err(error) => Err(error),
    }
}

/// The next of them beside rows that cannot be read: so many more are looked at that one can.
async fn next_sound(tenure: &Tenure, range: KeyRange) -> Result<NextDue, StoreError> {
    let mut limit = PAGE;
    loop {
        let rows = tenure.reader().scan_each(tables::DELAYED, range.clone(), limit).await?;
        let is_all = rows.len() < limit;
        let next = NextDue::of(rows, is_all);
        if is_all || !next.keys.is_empty() {
            return Ok(next);
        }
        limit = limit.saturating_mul(8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    #[tokio::test]
    async fn of_what_was_on_its_way_only_what_has_landed_is_remembered() {
        let (store, home) = (Memory::new(), PartitionId::default());
        let keys = [3, 1, 2].map(|id| (Timestamp::from_millis(id), u128::from(id)));
        let mut claim = store.claim(home).await.unwrap();
        let op = Op::Put { table: tables::DELAYED, key: row_key(keys[0]), value: Bytes::new() };
        claim.partition.commit(vec![op]).await.unwrap();
        let (_, restored) = restore(&store, home, BTreeSet::from(keys), true).await.unwrap();
        assert_eq!(restored.landed, BTreeSet::from([keys[0]]));
    }
}
