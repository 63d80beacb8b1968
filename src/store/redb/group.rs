//! The batches of one commit: planned one after the other against what is there and what those before them change, then
//! written together.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use foldhash::fast::RandomState;
use millstream_operators::Timestamp;
use redb::{ReadableTable as _, WriteTransaction};

use super::{
    fault::{Fault, refused},
    lane::{Lane, Tools},
    queue::{Granted, Permit},
    row,
    shape::Shape,
    tables::{self, LOG, META, PARTITION, Raw},
};
use crate::store::{
    CLASSES, Class, CommitError, Committed, Op, PartitionId, RowKey, StoreError, Table,
    plan::{Ground, Held, Plan, Rows, is_expired},
};

/// How many rows are looked at for one that is written to a table whose rows expire, and at most in one commit.
const SWEPT: usize = 4;
const MAX_SWEPT: usize = 1_024;

/// A partition, as the committer holds it.
#[derive(Debug)]
pub(super) struct Part {
    shape: Shape,
    lanes: [Lane; CLASSES as usize],
    is_changed: bool,
}

/// What is kept from one commit to the next. After a failure it is thrown away and read again.
#[derive(Debug, Default)]
pub(super) struct Kept {
    parts: BTreeMap<PartitionId, Part>,
    /// Tables that are known to be there.
    tables: HashSet<Table, RandomState>,
    /// Where the search for expired rows goes on.
    sweeps: HashMap<(PartitionId, Table), Vec<u8>>,
    tools: Tools,
}

impl Kept {
    /// What was said of tables is not in the file.
    pub(super) fn forget_tables(&mut self) {
        self.tables.clear();
    }
}

/// What partitions look like.
pub(super) type Shapes = Vec<(PartitionId, Shape)>;

/// The batches of one commit.
pub(super) struct Group<'txn> {
    txn: &'txn WriteTransaction,
    kept: &'txn mut Kept,
    opening: u64,
    tables: BTreeMap<Table, redb::Table<'txn, Raw, Raw>>,
    log: redb::Table<'txn, Raw, Raw>,
    partitions: redb::Table<'txn, Raw, Raw>,
    rows: HashMap<PartitionId, Rows>,
    expiring: BTreeMap<(PartitionId, Table), (usize, Timestamp)>,
    is_changed: bool,
}

impl<'txn> Group<'txn> {
    pub(super) fn begin(txn: &'txn WriteTransaction, kept: &'txn mut Kept, opening: u64) -> Result<Self, Fault> {
        Ok(Self {
            txn,
            kept,
            opening,
            tables: BTreeMap::new(),
            log: txn.open_table(tables::definition(LOG))?,
            partitions: txn.open_table(tables::definition(PARTITION))?,
            rows: HashMap::new(),
            expiring: BTreeMap::new(),
            is_changed: false,
        })
    }

    /// Adds a batch, or says why it is refused. A fault is one of the store.
    pub(super) fn add(
        &mut self,
        partition: PartitionId,
        permit: Option<Permit>,
        ops: Vec<Op>,
    ) -> Result<Result<Committed, CommitError>, Fault> {
        let shape = match self.part(partition) {
            Ok(part) => part.shape,
            Err(fault) if fault.is_local() => return Ok(Err(refused(fault.to_string()))),
            Err(fault) => return Err(fault),
        };
        if permit.is_some_and(|permit| permit != Permit { fence: shape.fence, opening: self.opening }) {
            return Ok(Err(CommitError::Fenced));
        }
        let mut view = View { group: self, partition, fault: None };
        let plan = Plan::draw(ops, shape.next, &mut view);
        if let Some(fault) = view.fault {
            return Err(fault);
        }
        match plan {
            Ok(plan) => self.merge(partition, plan),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Raises the fence of a partition.
    pub(super) fn claim(&mut self, partition: PartitionId) -> Result<Result<Granted, StoreError>, Fault> {
        let opening = self.opening;
        let part = match self.part(partition) {
            Ok(part) => part,
            Err(fault) if fault.is_local() => return Ok(Err(StoreError::Corrupt { what: fault.to_string() })),
            Err(fault) => return Err(fault),
        };
        part.shape.fence += 1;
        part.is_changed = true;
        let permit = Permit { fence: part.shape.fence, opening };
        let end = part.shape.next;
        self.is_changed = true;
        Ok(Ok(Granted { permit, end }))
    }

    fn part(&mut self, partition: PartitionId) -> Result<&mut Part, Fault> {
        if !self.kept.parts.contains_key(&partition) {
            let shape = tables::shape(&self.partitions, partition)?;
            let mut lanes = Vec::with_capacity(shape.logs.len());
            for (class, log) in (0..).map(Class).zip(&shape.logs) {
                lanes.push(Lane::load(partition, class, log, &self.log)?);
            }
            let lanes = lanes.try_into().expect("one for each class");
            self.kept.parts.insert(partition, Part { shape, lanes, is_changed: false });
        }
        Ok(self.kept.parts.get_mut(&partition).expect("it is there now"))
    }

    fn merge(&mut self, partition: PartitionId, plan: Plan) -> Result<Result<Committed, CommitError>, Fault> {
        for (to, ..) in &plan.sends {
            match self.part(*to) {
                Err(fault) if fault.is_local() => return Ok(Err(refused(fault.to_string()))),
                loaded => loaded.map(drop)?,
            }
        }
        let is_changed = !(plan.rows.is_empty() && plan.records.is_empty() && plan.trims.is_empty());
        self.is_changed |= is_changed;
        let part = self.part(partition)?;
        part.is_changed |= is_changed;
        let begin = std::mem::replace(&mut part.shape.next, plan.end);
        for (class, seq, record) in plan.records {
            part.lanes[usize::from(class.0)].stage(seq, record);
        }
        for (class, below) in plan.trims {
            part.lanes[usize::from(class.0)].trim(below);
        }
        for (to, class, records) in plan.sends {
            self.is_changed |= !records.is_empty();
            let part = self.part(to)?;
            part.is_changed |= !records.is_empty();
            for record in records {
                part.lanes[usize::from(class.0)].stage(part.shape.next, record);
                part.shape.next = part.shape.next.next();
            }
        }
        if !plan.rows.is_empty() {
            self.rows.entry(partition).or_default().extend(plan.rows);
        }
        for (table, now) in plan.expiring {
            let (rows, latest) = self.expiring.entry((partition, table)).or_insert((0, now));
            (*rows, *latest) = (*rows + 1, now.max(*latest));
        }
        Ok(Ok(Committed { appended: plan.appended, begin, end: plan.end }))
    }

    /// Writes what was added. None where there is nothing to commit; else what each partition that changed looks like.
    pub(super) fn write(mut self) -> Result<Option<Shapes>, Fault> {
        if !self.is_changed {
            return Ok(None);
        }
        self.write_rows()?;
        self.sweep()?;
        let mut shapes = Vec::new();
        let Kept { parts, tools, .. } = &mut *self.kept;
        for (partition, part) in parts.iter_mut().filter(|(_, part)| part.is_changed) {
            for (lane, log) in part.lanes.iter_mut().zip(&mut part.shape.logs) {
                lane.write(log, &mut self.log, tools)?;
            }
            part.shape.commits += 1;
            let (key, held) = (partition.0.to_be_bytes(), Held { value: part.shape.encode().into(), until: None });
            row::encode(PARTITION, &key, &held, &mut tools.buffer);
            self.partitions.insert(&key[..], &tools.buffer[..])?;
            part.is_changed = false;
            shapes.push((*partition, part.shape));
        }
        Ok(Some(shapes))
    }

    /// Rows are written in the order of their keys, so that neighbours share their pages.
    fn write_rows(&mut self) -> Result<(), Fault> {
        let mut rows: Vec<(RowKey, PartitionId, Option<Held>)> = std::mem::take(&mut self.rows)
            .into_iter()
            .flat_map(|(partition, rows)| rows.into_iter().map(move |(row, held)| (row, partition, held)))
            .collect();
        rows.sort_unstable_by(|(a, p, _), (b, q, _)| (a.table, p, &a.key).cmp(&(b.table, q, &b.key)));
        let mut key = Vec::new();
        for (row, partition, held) in rows {
            row::key(partition, &row.key, &mut key);
            let mut buffer = std::mem::take(&mut self.kept.tools.buffer);
            let (name, table) = (tables::name(row.table), self.table(row.table)?);
            match held {
                Some(held) => {
                    row::encode(&name, &key, &held, &mut buffer);
                    table.insert(&key[..], &buffer[..])?;
                }
                None => drop(table.remove(&key[..])?),
            }
            self.kept.tools.buffer = buffer;
        }
        Ok(())
    }

    /// Looks at a few more rows of the tables whose rows expire, and removes those that have.
    fn sweep(&mut self) -> Result<(), Fault> {
        for ((partition, table), (rows, now)) in std::mem::take(&mut self.expiring) {
            let mut from = self.kept.sweeps.remove(&(partition, table)).unwrap_or_default();
            if from.is_empty() {
                row::key(partition, b"", &mut from);
            }
            let most = (rows * SWEPT).min(MAX_SWEPT);
            let name = tables::name(table);
            let rows = self.table(table)?;
            let (mut expired, mut seen) = (Vec::new(), 0);
            for entry in rows.range(&from[..]..)?.take(most) {
                let (key, row) = entry?;
                if row::parse_key(key.value()).is_none_or(|(of, _)| of != partition) {
                    break;
                }
                seen += 1;
                key.value().clone_into(&mut from);
                // A damaged row is left where it is, for whoever reads it or scrubs.
                if row::parse(&name, key.value(), row.value()).is_ok_and(|(until, _)| is_expired(until, Some(now))) {
                    expired.push(key.value().to_vec());
                }
            }
            for key in expired {
                rows.remove(&key[..])?;
            }
            if seen < most {
                from.clear();
            } else {
                from.push(0);
            }
            self.kept.sweeps.insert((partition, table), from);
        }
        Ok(())
    }

    fn table(&mut self, table: Table) -> Result<&mut redb::Table<'txn, Raw, Raw>, Fault> {
        if !self.tables.contains_key(&table) {
            let name = tables::name(table);
            if !self.kept.tables.contains(&table) {
                let held = Held { value: Bytes::new(), until: None };
                let mut value = Vec::new();
                row::encode(META, name.as_bytes(), &held, &mut value);
                let mut meta = self.txn.open_table(tables::definition(META))?;
                if tables::get(&meta, META, name.as_bytes())?.is_none() {
                    meta.insert(name.as_bytes(), &value[..])?;
                }
                self.kept.tables.insert(table);
            }
            self.tables.insert(table, self.txn.open_table(tables::definition(&name))?);
        }
        Ok(self.tables.get_mut(&table).expect("it is open now"))
    }
}

/// What a batch of a partition finds.
struct View<'a, 'txn> {
    group: &'a mut Group<'txn>,
    partition: PartitionId,
    fault: Option<Fault>,
}

impl View<'_, '_> {
    fn look(&mut self, row: &RowKey) -> Result<Option<Held>, Fault> {
        if let Some(changed) = self.group.rows.get(&self.partition).and_then(|rows| rows.get(row)) {
            return Ok(changed.clone());
        }
        let mut key = Vec::new();
        row::key(self.partition, &row.key, &mut key);
        let name = tables::name(row.table);
        tables::get(self.group.table(row.table)?, &name, &key)
    }
}

impl Ground for View<'_, '_> {
    fn row(&mut self, row: &RowKey) -> Result<Option<Held>, CommitError> {
        self.look(row).map_err(|fault| {
            let refusal = refused(fault.to_string());
            if !fault.is_local() {
                self.fault = Some(fault);
            }
            refusal
        })
    }
}
