//! One key in memory.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_operators::{Operator, Timestamp};

use super::{
    border::Origin,
    contained::Contained,
    moment::{Kind, Next},
};
use crate::{
    event::Lineage,
    store::{PageRecord, Seq},
};

/// What memory costs beside a state's own bytes, by estimate: an entry, its places in the indexes.
const OVERHEAD: usize = 320;

/// A state that the chain can step.
#[derive(Debug)]
pub(super) struct Live<In, S> {
    pub(super) state: Contained<S>,
    /// Items that the watermark has not reached, by time and place.
    pub(super) waiting: VecDeque<Waiting<In>>,
    /// The largest depth among the events taken that have the root of the last one.
    pub(super) depth: u32,
    /// The last event taken.
    pub(super) origin: Option<Origin>,
    /// Whether the chain has seen its start.
    pub(super) is_started: bool,
}

/// An item before its time.
#[derive(Debug)]
pub(super) struct Waiting<In> {
    pub(super) at: Timestamp,
    pub(super) record: PageRecord,
    /// None where it comes from disk: then it is read when it is due.
    pub(super) item: Option<(Contained<In>, Origin)>,
}

impl<In, S> Live<In, S> {
    /// What the key waits for.
    pub(super) fn next<O: Operator<In, State = S>>(&self, chain: &O) -> Option<Next> {
        let timer = if O::TIMED { chain.deadline(&self.state) } else { None };
        let timer = timer.map(|at| Next { at, kind: Kind::Timer });
        let item = self.waiting.front().map(|waiting| Next { at: waiting.at, kind: Kind::Item });
        match (timer, item) {
            (Some(timer), Some(item)) => Some(timer.min(item)),
            (timer, item) => timer.or(item),
        }
    }

    /// An event is taken. A loop keeps its root, so what came of other roots is no part of its depth: a key whose own outputs
    /// lead back to it would be a loop in the end, though each event that began anew led to one answer.
    pub(super) fn come(&mut self, origin: Origin) {
        let Lineage { root, depth, .. } = origin.lineage;
        let is_same = self.origin.is_some_and(|before| before.lineage.root == root);
        self.depth = if is_same { self.depth.max(depth) } else { depth };
        self.origin = Some(origin);
    }

    pub(super) fn wait(&mut self, at: Timestamp, record: PageRecord, item: Contained<In>, origin: Origin) {
        let place = self.waiting.partition_point(|other| (other.at, other.record.seq) < (at, record.seq));
        self.waiting.insert(place, Waiting { at, record, item: Some((item, origin)) });
    }
}

/// The state as it was when the last epoch was cut.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    /// It can be read again.
    OnDisk,
    /// There is none.
    Gone,
    /// Here it is.
    Value(Bytes),
}

/// What its row of `stage_state` says, or will once all that was handed over has landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// Not looked at since the restart.
    Unknown,
    /// There is none.
    Absent,
    /// It is there, and this is what the timer index says of it.
    Present(Option<Next>),
}

/// What has changed a state last in the epoch under way: who is to blame if it cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    /// It was read and is not as it would be written now.
    Load,
    Item(Seq),
    Timer(Timestamp),
}

#[derive(Debug)]
pub(super) struct Entry<In, S> {
    /// None where nobody has asked for it since the restart or the last discard, or where there is none.
    pub(super) live: Option<Live<In, S>>,
    pub(super) kept: Kept,
    pub(super) row: Row,
    /// What the index of deadlines holds for it.
    pub(super) next: Option<Next>,
    /// The epoch whose delta has its newest state, where no row has it.
    pub(super) delta: Option<u64>,
    /// The last epoch that wrote its row.
    pub(super) flushed: u64,
    pub(super) touched: Option<Touch>,
    /// When it was last used.
    pub(super) used: u64,
    pub(super) bytes: usize,
}

impl<In, S> Entry<In, S> {
    pub(super) fn new(kept: Kept, row: Row) -> Self {
        let bytes = OVERHEAD;
        Self { live: None, kept, row, next: None, delta: None, flushed: 0, touched: None, used: 0, bytes }
    }

    /// Whether the disk has what memory has, and says so to whoever reads it now.
    pub(super) fn is_clean(&self, landed: u64) -> bool {
        self.touched.is_none() && self.is_settled(landed)
    }

    /// Whether the disk has what was cut last.
    pub(super) fn is_settled(&self, landed: u64) -> bool {
        self.delta.is_none() && self.flushed <= landed && self.row != Row::Unknown
    }

    /// Whether its state is in a form that the chain can step, if it has one.
    pub(super) fn is_awake(&self) -> bool {
        self.live.is_some() || matches!(self.kept, Kept::Gone)
    }

    /// What it weighs with a state of so many bytes.
    pub(super) fn weight(key: usize, state: usize) -> usize {
        OVERHEAD + 2 * key + 2 * state + size_of::<Self>()
    }
}
