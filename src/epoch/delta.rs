//! The states that one epoch has changed, as chunks; and which epochs' chunks are still needed.
//!
//! A chunk is a row of entries, each with a key (length 2) and a value (length 4, or all ones where the key was forgotten).
//!
//! Two rules make recovery right. Every change of a state is in the delta of its epoch, unless the same commit leaves no
//! delta at all. And deltas go oldest first: so as long as any delta names a key, the newest that does has its newest
//! state, and once none does, the row of `stage_state` has.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};

use super::{
    StateKey,
    rows::{DELTAS, Rows},
    value::Broken,
};
use crate::store::Op;

/// Rows are cut just under four pages, so that little of the last page is left empty.
const CHUNK: usize = 16_200;

const FORGOTTEN: u32 = u32::MAX;

/// Makes the chunks of one epoch.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    done: Vec<Bytes>,
    open: Vec<u8>,
}

impl Chunks {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "keys are under 64 KiB, which the stage checks, states under 4 GiB"
    )]
    pub(super) fn push(&mut self, key: &StateKey, value: Option<&[u8]>) {
        let key = key.as_bytes();
        let length = 6 + key.len() + value.map_or(0, <[u8]>::len);
        if !self.open.is_empty() && self.open.len() + length > CHUNK {
            self.done.push(std::mem::take(&mut self.open).into());
        }
        self.open.put_u16(key.len() as u16);
        self.open.put_slice(key);
        self.open.put_u32(value.map_or(FORGOTTEN, |value| value.len() as u32));
        self.open.put_slice(value.unwrap_or_default());
    }

    pub(super) fn finish(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.done.push(self.open.into());
        }
        self.done
    }
}

/// The entries of a chunk.
pub(super) fn read(mut chunk: Bytes) -> Result<Vec<(StateKey, Option<Bytes>)>, Broken> {
    let mut entries = Vec::new();
    while chunk.has_remaining() {
        let length = chunk.try_get_u16().map_err(|_| Broken)?;
        let key = StateKey::from_bytes(&split(&mut chunk, length.into())?).ok_or(Broken)?;
        let value = match chunk.try_get_u32().map_err(|_| Broken)? {
            FORGOTTEN => None,
            length => Some(split(&mut chunk, length as usize)?),
        };
        entries.push((key, value));
    }
    Ok(entries)
}

fn split(bytes: &mut Bytes, length: usize) -> Result<Bytes, Broken> {
    if length <= bytes.len() { Ok(bytes.split_to(length)) } else { Err(Broken) }
}

/// The deltas that are on disk, or will be once all that was handed over has landed.
#[derive(Debug, Default)]
pub(super) struct Deltas(BTreeMap<u64, Delta>);

#[derive(Debug, Default)]
struct Delta {
    parts: u16,
    /// Keys whose newest state is here and in no row yet.
    live: usize,
}

impl Deltas {
    /// A row that was found.
    pub(super) fn found(&mut self, epoch: u64) {
        self.0.entry(epoch).or_default().parts += 1;
    }

    pub(super) fn wrote(&mut self, epoch: u64, parts: u16) {
        self.0.entry(epoch).or_default().parts = parts;
    }

    pub(super) fn add(&mut self, epoch: u64) {
        self.0.entry(epoch).or_default().live += 1;
    }

    #[expect(clippy::expect_used, reason = "what is taken off was added")]
    pub(super) fn take_off(&mut self, epoch: u64) {
        let delta = self.0.get_mut(&epoch).expect("a delta stays while it is needed");
        delta.live -= 1;
    }

    /// Removes all from the oldest on that nobody needs.
    pub(super) fn drop_dead(&mut self, rows: &Rows) -> Vec<Op> {
        let mut ops = Vec::new();
        while let Some(oldest) = self.0.first_entry()
            && oldest.get().live == 0
        {
            let (epoch, delta) = oldest.remove_entry();
            ops.extend((0..delta.parts).map(|part| Op::Delete { table: DELTAS, key: rows.delta(epoch, part) }));
        }
        ops
    }

    pub(super) fn has(&self, epoch: u64) -> bool {
        self.0.contains_key(&epoch)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_go_there_and_back_over_several_chunks() {
        let mut chunks = Chunks::default();
        let entries: Vec<_> = (0..500_usize)
            .map(|n| (StateKey::new(None, &n.to_string()), (n % 7 > 0).then(|| Bytes::from(vec![7; n]))))
            .collect();
        for (key, value) in &entries {
            chunks.push(key, value.as_deref());
        }
        let chunks = chunks.finish();
        assert!(chunks.len() > 5 && chunks.iter().all(|chunk| chunk.len() <= CHUNK));
        let back: Vec<_> = chunks.into_iter().flat_map(|chunk| read(chunk).unwrap()).collect();
        assert_eq!(back, entries);
    }

    #[test]
    fn deltas_go_oldest_first_and_only_once_nobody_needs_them() {
        let (mut deltas, rows) = (Deltas::default(), Rows::of("x"));
        for epoch in 1..=3 {
            deltas.wrote(epoch, 2);
            deltas.add(epoch);
        }
        deltas.take_off(2);
        assert_eq!(deltas.drop_dead(&rows), []);
        deltas.take_off(1);
        let expected = [(1, 0), (1, 1), (2, 0), (2, 1)];
        let expected = expected.map(|(epoch, part)| Op::Delete { table: DELTAS, key: rows.delta(epoch, part) });
        assert_eq!(deltas.drop_dead(&rows), expected);
        assert!(deltas.has(3) && !deltas.has(2));
    }
}
