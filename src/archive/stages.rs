//! Operator stages: how far each is, and the states of its keys.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_operators::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{Archive, ArchiveError, corrupt};
use crate::{
    epoch::{
        StageCounts, StateKey,
        show::{self, DELTAS, HEADERS, STATES, ShownState},
    },
    event::{Key, Tenant},
    store::{StoreError, Table},
};

/// What is known of an operator stage while nobody runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StageState {
    /// Its name.
    pub stage: String,
    /// The version of its states.
    pub version: u32,
    /// The last epoch that it has committed.
    pub epoch: u64,
    /// All before this place of the log is taken.
    pub place: u64,
    /// What it has done since it began.
    pub counts: StageCounts,
}

/// The state of a key of a stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct KeyState {
    /// Whose it is.
    pub tenant: Option<Tenant>,
    /// The key.
    pub key: Key,
    /// The stage's version that wrote it.
    pub version: u32,
    /// When it acts by itself, in nanoseconds.
    pub due_ns: Option<Timestamp>,
    /// How many events wait in it for the watermark.
    pub waiting: usize,
    /// Its operators' states by name: as JSON, or the hexadecimal digits of their `MessagePack` where that cannot be.
    pub parts: BTreeMap<String, Value>,
}

/// The states that are newer than their rows, as the last epochs have left them; none for a key that was forgotten.
type Newer = BTreeMap<StateKey, Option<Bytes>>;

impl Archive {
    /// The stages that the store knows, by name.
    ///
    /// # Errors
    /// Where the rows cannot be read.
    pub async fn stages(&self) -> Result<Vec<StageState>, ArchiveError> {
        let mut stages = Vec::new();
        self.each(HEADERS, |key, value| {
            let shown = show::stage(&key, &value).ok_or_else(|| corrupt(HEADERS, "it is no stage"))?;
            let show::ShownStage { name, version, epoch, place, counts } = shown;
            stages.push(StageState { stage: name, version, epoch, place, counts });
            Ok(())
        })
        .await?;
        Ok(stages)
    }

    /// The states of a stage's keys as they were committed last; `tell` is told each of them, until it says `false`.
    ///
    /// What the last epochs have changed is kept in memory meanwhile, all else is read page by page.
    ///
    /// # Errors
    /// Where the rows cannot be read.
    pub async fn states(&self, stage: &str, mut tell: impl FnMut(KeyState) -> bool) -> Result<(), ArchiveError> {
        let mut newer = Newer::new();
        // In the order of their epochs: the last one that names a key has its newest state.
        self.each_of(DELTAS, show::range(stage), |_, chunk| {
            newer.extend(show::changes(chunk).ok_or_else(|| corrupt(DELTAS, "it is no change of states"))?);
            Ok(true)
        })
        .await?;
        let mut goes_on = true;
        self.each_of(STATES, show::range(stage), |row, value| {
            let key = show::key_of(stage, &row).ok_or_else(|| corrupt(STATES, "its key is none"))?;
            let value = newer.remove(&key).unwrap_or(Some(value));
            goes_on = one(STATES, key, value, &mut tell)?;
            Ok(goes_on)
        })
        .await?;
        for (key, value) in newer {
            if !goes_on {
                break;
            }
            goes_on = one(DELTAS, key, value, &mut tell)?;
        }
        Ok(())
    }
}

fn one(
    table: Table,
    key: StateKey,
    value: Option<Bytes>,
    tell: &mut impl FnMut(KeyState) -> bool,
) -> Result<bool, StoreError> {
    let Some(value) = value else { return Ok(true) };
    let shown = show::state(key, &value).ok_or_else(|| corrupt(table, "it is no state"))?;
    let ShownState { key, version, due, waiting, parts } = shown;
    Ok(tell(KeyState { tenant: key.tenant(), key: key.key(), version, due_ns: due, waiting, parts }))
}
