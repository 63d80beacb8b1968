//! What a partition looks like: its fence, its end, and where the logs of its classes begin and end.
//!
//! One row a partition, written by each commit that changes it. With it and the chunks' own links a reader sees when a
//! chunk is missing, not only when one is wrong.
//!
//! ```text
//! version, u64 fence, u64 commits, u64 next place, then for each class: u64 first chunk, u64 last chunk, u64 chunks,
//! u64 trimmed, u64 bytes of the chunks
//! ```

use std::array;

use super::chunk::Damage;
use crate::store::{CLASSES, Seq};

const VERSION: u8 = 1;
const NONE: u64 = u64::MAX;
const LENGTH: usize = 1 + 24 + CLASSES as usize * 40;

/// A partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) fence: u64,
    /// How many commits have changed it or its rows.
    pub(super) commits: u64,
    pub(super) next: Seq,
    pub(super) logs: [LogShape; CLASSES as usize],
}

/// The log of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogShape {
    /// Where its first and its last chunk begin; none where it is empty.
    pub(super) span: Option<(Seq, Seq)>,
    pub(super) chunks: u64,
    /// After the last record that was trimmed.
    pub(super) trimmed: Seq,
    /// What the chunks take, as they are stored.
    pub(super) bytes: u64,
}

impl Shape {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LENGTH);
        out.push(VERSION);
        out.extend_from_slice(&self.fence.to_le_bytes());
        out.extend_from_slice(&self.commits.to_le_bytes());
        out.extend_from_slice(&self.next.0.to_le_bytes());
        for log in &self.logs {
            let (first, last) = log.span.map_or((NONE, NONE), |(first, last)| (first.0, last.0));
            for number in [first, last, log.chunks, log.trimmed.0, log.bytes] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let Some((&VERSION, numbers)) = bytes.split_first().filter(|_| bytes.len() == LENGTH) else {
            return Err(Damage("the row is of an unknown kind"));
        };
        let mut numbers = numbers.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut number = || numbers.next().unwrap_or_default();
        let (fence, commits, next) = (number(), number(), Seq(number()));
        let logs = array::from_fn(|_| {
            let (first, last, chunks, trimmed, bytes) = (number(), number(), number(), Seq(number()), number());
            LogShape { span: (first != NONE).then_some((Seq(first), Seq(last))), chunks, trimmed, bytes }
        });
        Ok(Self { fence, commits, next, logs })
    }
}
