//! Where a stage keeps what: the tables, and the keys of its rows. Every key begins with the stage's name and a zero.
//!
//! | table | key after the name | value |
//! | --- | --- | --- |
//! | `stage` | nothing | the [header](super::header): cursor, epoch, time, version, counts |
//! | `stage_state` | state key | the state as it was when it was last written back |
//! | `stage_timer` | time (8), kind (1), state key | nothing: the index of the deadlines of `stage_state` |
//! | `stage_delta` | epoch (8), part (2) | the states that this epoch has changed |
//! | `stage_parked` | state key | why its timer is not fired any more |
//! | `stage_turn` | 0, 1 or 2 | nothing: a ring that refuses an epoch whose predecessor is not there |

use bytes::{BufMut, Bytes};
use millstream_operators::Timestamp;

use super::{
    StateKey,
    moment::{Kind, Moment, Next},
};
use crate::store::{KeyRange, Op, Table};

pub(super) const HEADERS: Table = Table("stage");
pub(super) const STATES: Table = Table("stage_state");
pub(super) const TIMERS: Table = Table("stage_timer");
pub(super) const DELTAS: Table = Table("stage_delta");
pub(super) const PARKED: Table = Table("stage_parked");
pub(super) const TURNS: Table = Table("stage_turn");

/// Every table, for whoever forgets a stage.
pub(super) const TABLES: [Table; 6] = [HEADERS, STATES, TIMERS, DELTAS, PARKED, TURNS];

/// The keys of one stage's rows.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    prefix: Bytes,
}

impl Rows {
    pub(super) fn of(name: &str) -> Self {
        let mut prefix = Vec::with_capacity(name.len() + 1);
        prefix.put_slice(name.as_bytes());
        prefix.put_u8(0);
        Self { prefix: prefix.into() }
    }

    fn key(&self, parts: &[&[u8]]) -> Bytes {
        let mut key = Vec::with_capacity(self.prefix.len() + parts.iter().map(|part| part.len()).sum::<usize>());
        key.put_slice(&self.prefix);
        for part in parts {
            key.put_slice(part);
        }
        key.into()
    }

    /// All rows of a table.
    pub(super) fn all(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.clone())
    }

    pub(super) fn header(&self) -> Bytes {
        self.prefix.clone()
    }

    /// The row of a state, and that of a parked key.
    pub(super) fn state(&self, key: &StateKey) -> Bytes {
        self.key(&[key.as_bytes()])
    }

    pub(super) fn timer(&self, moment: &Moment) -> Bytes {
        let kind = match moment.next.kind {
            Kind::Timer => 0,
            Kind::Item => 1,
        };
        self.key(&[&moment.next.at.as_nanos().to_be_bytes(), &[kind], moment.key.as_bytes()])
    }

    pub(super) fn delta(&self, epoch: u64, part: u16) -> Bytes {
        self.key(&[&epoch.to_be_bytes(), &part.to_be_bytes()])
    }

    fn turn(&self, epoch: u64) -> Bytes {
        self.key(&[&[(epoch % 3) as u8]])
    }

    /// The first batch of a stage: from it on the ring lets epoch 1 in, and none else.
    pub(super) fn first_turns(&self) -> [Op; 2] {
        [self.take_turn(0), self.take_turn(2)]
    }

    /// Lets a batch through only if that of the epoch before it has been applied, and lets the next one through. The row
    /// that an epoch writes must not be there, and it was removed by the epoch before.
    pub(super) fn turns(&self, epoch: u64) -> [Op; 2] {
        [self.take_turn(epoch), Op::Delete { table: TURNS, key: self.turn(epoch + 1) }]
    }

    fn take_turn(&self, epoch: u64) -> Op {
        Op::PutNew { table: TURNS, key: self.turn(epoch), value: Bytes::new(), life: None }
    }

    /// The state key of a row of `stage_state` or `stage_parked`.
    pub(super) fn key_of(&self, row: &[u8]) -> Option<StateKey> {
        StateKey::from_bytes(row.get(self.prefix.len()..)?)
    }

    /// What a row of `stage_timer` says.
    pub(super) fn moment_of(&self, row: &[u8]) -> Option<Moment> {
        let (at, rest) = row.get(self.prefix.len()..)?.split_first_chunk::<8>()?;
        let (kind, key) = rest.split_first()?;
        let kind = if *kind == 0 { Kind::Timer } else { Kind::Item };
        let at = Timestamp::from_nanos(u64::from_be_bytes(*at));
        Some(Moment { next: Next { at, kind }, key: StateKey::from_bytes(key)? })
    }

    /// The epoch of a row of `stage_delta`.
    pub(super) fn epoch_of(&self, row: &[u8]) -> Option<u64> {
        row.get(self.prefix.len()..)?.first_chunk::<8>().map(|epoch| u64::from_be_bytes(*epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timer_rows_are_in_the_order_of_their_moments() {
        let rows = Rows::of("alerts");
        let mut moments = Vec::new();
        for nanos in [0, 1, 255, 256, u64::MAX] {
            for kind in [Kind::Timer, Kind::Item] {
                for key in ["", "a", "b"] {
                    let next = Next { at: Timestamp::from_nanos(nanos), kind };
                    moments.push(Moment { next, key: StateKey::new(None, key) });
                }
            }
        }
        let keys: Vec<_> = moments.iter().map(|moment| rows.timer(moment)).collect();
        assert!(keys.is_sorted() && moments.is_sorted());
        let back: Option<Vec<_>> = keys.iter().map(|key| rows.moment_of(key)).collect();
        assert_eq!(back, Some(moments));
        assert!(keys.iter().all(|key| rows.all().contains(key) && !Rows::of("alert").all().contains(key)));
    }
}
