//! What a batch would do, before anything of it is done: so that one that is refused leaves no trace.

use std::collections::HashMap;

use bytes::Bytes;
use foldhash::fast::RandomState;
use millstream_operators::Timestamp;

use super::{Class, CommitError, Op, PartitionId, Record, RowKey, Seq, Table};

/// A row as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// What was put.
    pub(super) value: Bytes,
    /// Until when it keeps others out; none for ever.
    pub(super) until: Option<Timestamp>,
}

/// Rows that change: what they become, or nothing.
pub(super) type Rows = HashMap<RowKey, Option<Held>, RandomState>;

/// What is there before a batch.
pub(super) trait Ground {
    /// A row of the batch's partition.
    fn row(&mut self, row: &RowKey) -> Result<Option<Held>, CommitError>;
}

/// What a batch would do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The rows that it changes.
    pub(super) rows: Rows,
    /// The records that it appends, class by class in their order.
    pub(super) records: Vec<(Class, Seq, Record)>,
    /// The records that go elsewhere.
    pub(super) sends: Vec<(PartitionId, Class, Vec<Record>)>,
    /// The logs that it trims.
    pub(super) trims: Vec<(Class, Seq)>,
    /// Tables whose rows expire, a time for each row that it writes to them.
    pub(super) expiring: Vec<(Table, Timestamp)>,
    /// Where the records go.
    pub(super) appended: Vec<Seq>,
    /// After the last of them.
    pub(super) end: Seq,
}

impl Plan {
    /// Plans a batch whose first record goes to `next`.
    pub(super) fn draw(batch: Vec<Op>, next: Seq, ground: &mut impl Ground) -> Result<Self, CommitError> {
        let mut plan = Self { end: next, ..Self::default() };
        for op in batch {
            plan.add(op, ground)?;
        }
        Ok(plan)
    }

    fn add(&mut self, op: Op, ground: &mut impl Ground) -> Result<(), CommitError> {
        match op {
            Op::Append { class, records } => self.append(class, records, ground)?,
            Op::Send { to, class, records } => self.sends.push((to, class, records)),
            Op::Put { table, key, value } => {
                self.rows.insert(RowKey { table, key }, Some(Held { value, until: None }));
            }
            Op::Delete { table, key } => {
                self.rows.insert(RowKey { table, key }, None);
            }
            Op::PutNew { table, key, value, life } => {
                let row = RowKey { table, key };
                self.vacant(&row, life.map(|(now, _)| now), ground)?;
                self.expiring.extend(life.map(|(now, _)| (table, now)));
                self.rows.insert(row, Some(Held { value, until: life.map(|(_, until)| until) }));
            }
            // What comes after the batch is not meant by a place that was named before.
            Op::Trim { class, below } => self.trims.push((class, below.min(self.end))),
        }
        Ok(())
    }

    fn append(&mut self, class: Class, records: Vec<Record>, ground: &mut impl Ground) -> Result<(), CommitError> {
        self.records.reserve(records.len());
        self.appended.reserve(records.len());
        for mut record in records {
            let seq = self.end;
            for row in std::mem::take(&mut record.keys) {
                self.vacant(&row, None, ground)?;
                let value = Bytes::copy_from_slice(&seq.0.to_be_bytes());
                self.rows.insert(row, Some(Held { value, until: None }));
            }
            self.records.push((class, seq, record));
            self.appended.push(seq);
            self.end = seq.next();
        }
        Ok(())
    }

    /// Makes sure that there is no such row, or that it has expired by `now`.
    fn vacant(&self, row: &RowKey, now: Option<Timestamp>, ground: &mut impl Ground) -> Result<(), CommitError> {
        let held = match self.rows.get(row) {
            Some(planned) => planned.clone(),
            None => ground.row(row)?,
        };
        match held {
            Some(held) if !is_expired(held.until, now) => {
                Err(CommitError::Conflict { table: row.table, key: row.key.clone(), value: held.value })
            }
            _ => Ok(()),
        }
    }
}

/// Whether a row keeps nobody out any more.
pub(super) fn is_expired(until: Option<Timestamp>, now: Option<Timestamp>) -> bool {
    matches!((until, now), (Some(until), Some(now)) if until <= now)
}
