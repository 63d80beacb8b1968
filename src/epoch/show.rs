//! What a stage has on disk, for those who look at a store that no runtime has open.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_operators::Timestamp;
use serde_json::Value;

use super::{
    StageCounts, StateKey,
    delta::read,
    header::Header,
    rows::{self, Rows},
    value::Saved,
};
use crate::store::{KeyRange, Table};

/// The stages.
pub(crate) const HEADERS: Table = rows::HEADERS;
/// The states as they were when they were last written back.
pub(crate) const STATES: Table = rows::STATES;
/// What the last epochs have changed.
pub(crate) const DELTAS: Table = rows::DELTAS;

/// A stage, as its header says.
#[derive(Debug)]
pub(crate) struct ShownStage {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) epoch: u64,
    /// The first place that is not taken yet.
    pub(crate) place: u64,
    pub(crate) counts: StageCounts,
}

/// The state of a key.
#[derive(Debug)]
pub(crate) struct ShownState {
    pub(crate) key: StateKey,
    pub(crate) version: u32,
    /// When it acts by itself.
    pub(crate) due: Option<Timestamp>,
    /// Events that wait for the watermark.
    pub(crate) waiting: usize,
    pub(crate) parts: BTreeMap<String, Value>,
}

/// A row of `stage`.
pub(crate) fn stage(key: &[u8], value: &[u8]) -> Option<ShownStage> {
    let name = std::str::from_utf8(key.strip_suffix(b"\0")?).ok()?.to_owned();
    let Header { version, epoch, cursor, counts, .. } = Header::decode(value).ok()?;
    Some(ShownStage { name, version, epoch, place: cursor, counts })
}

/// The rows of a stage in a table.
pub(crate) fn range(stage: &str) -> KeyRange {
    Rows::of(stage).all()
}

/// The key of a row of `stage_state`.
pub(crate) fn key_of(stage: &str, row: &[u8]) -> Option<StateKey> {
    Rows::of(stage).key_of(row)
}

/// What a row of `stage_delta` has changed; none where a key was forgotten.
pub(crate) fn changes(chunk: Bytes) -> Option<Vec<(StateKey, Option<Bytes>)>> {
    read(chunk).ok()
}

/// A state as it was saved. A part that JSON cannot say is left as the hexadecimal digits of its `MessagePack`.
pub(crate) fn state(key: StateKey, value: &[u8]) -> Option<ShownState> {
    let Saved { preface, parts, waiting } = Saved::read(value).ok()?;
    let parts = parts.into_iter().map(|saved| (saved.label.to_owned(), part(saved.value))).collect();
    let due = preface.next.map(|next| next.at);
    Some(ShownState { key, version: preface.version, due, waiting: waiting.len(), parts })
}

fn part(value: &[u8]) -> Value {
    let digit = |digit: u8| char::from(b"0123456789abcdef"[usize::from(digit)]);
    let hex = || value.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
    rmp_serde::from_slice(value).unwrap_or_else(|_| Value::String(hex()))
}
