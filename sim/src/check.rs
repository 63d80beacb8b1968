//! Holds what is found in a store to its history.
//!
//! At each moment: a batch that was acknowledged is there, one that was refused is not, and what is there of any other is
//! there whole; what one caller handed over is there in that order; records rise, are in the class that they were
//! appended to, and are what they were; rows are what the batches that are there made them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millstream::{
    Timestamp,
    store::{CommitError, Op, PageRecord, PartitionId, Record, Seq, Table},
};

use crate::{
    found::Found,
    history::{AFTER, Caller, ELSEWHERE, Entry, Fate, HERE, History, ONCE, SEEN, TABLES, Written, number_of},
};

/// A record: the number of its batch, and its number within it.
type Id = (usize, usize);

/// What is wrong with what was found in a store whose disk had recorded so many steps. Nothing, if all is well.
pub fn check(history: &History, position: usize, found: &Found) -> Vec<String> {
    let mut check =
        Check { history, position, found, applied: BTreeSet::new(), places: BTreeMap::new(), wrong: Vec::new() };
    check.batches();
    check.order_of_callers();
    check.records();
    check.rows();
    check.wrong
}

struct Check<'a> {
    history: &'a History,
    position: usize,
    found: &'a Found,
    /// The batches that are there.
    applied: BTreeSet<usize>,
    /// Where each record is.
    places: BTreeMap<Id, Seq>,
    wrong: Vec<String>,
}

/// A row that has to be there.
struct Expected {
    /// Its value, where it is known.
    value: Option<Bytes>,
    /// Until when it keeps others out; none for ever.
    until: Option<Timestamp>,
}

impl<'a> Check<'a> {
    fn say(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    fn applied_entries(&self) -> impl Iterator<Item = (usize, &'a Entry)> + use<'a, '_> {
        let history = self.history;
        self.applied.iter().map(move |&number| (number, &history.entries[number]))
    }

    /// Which batches are there, and whether they may be, and whether all are that must.
    fn batches(&mut self) {
        for (key, value) in self.found.tables.get(&SEEN).into_iter().flatten() {
            let known = number_of(key).filter(|number| *number < self.history.entries.len() && key == value);
            let Some(number) = known else {
                self.say("a batch is there that nobody handed over");
                continue;
            };
            let entry = &self.history.entries[number];
            if entry.handed > self.position {
                self.say(format!("batch {number} is there before it was handed over"));
            }
            if entry.is_refused_by(self.position) {
                self.say(format!("batch {number} is there, although it was refused: {:?}", entry.fate));
            }
            self.applied.insert(number);
        }
        for (number, entry) in self.history.entries.iter().enumerate() {
            if entry.is_acked_by(self.position) && !self.applied.contains(&number) {
                self.say(format!("batch {number} of {:?} was acknowledged and is lost", entry.caller));
            }
        }
    }

    fn order_of_callers(&mut self) {
        let mut missing = BTreeMap::<Caller, usize>::new();
        for (number, entry) in self.history.entries.iter().enumerate() {
            let is_applied = self.applied.contains(&number);
            if let Some(before) = missing.get(&entry.caller).filter(|_| is_applied) {
                let what = format!("batch {number} of {:?} is there without {before} before it", entry.caller);
                self.say(what);
            }
            // Who only appends is not told that what he handed over after an unknown batch failed with it.
            let is_owed = match entry.fate {
                // A claim ends with a batch for which there was no room, as with one that is unknown.
                Fate::Refused { error: CommitError::Full, .. } | Fate::Unknown => {
                    matches!(entry.caller, Caller::Holder(_))
                }
                Fate::Refused { .. } => false,
                Fate::Open | Fate::Acked { .. } => true,
            };
            if !is_applied && is_owed {
                missing.entry(entry.caller).or_insert(number);
            }
        }
    }

    /// Each record that is there is one that was appended, and each that must be there is.
    fn records(&mut self) {
        self.look_at(HERE, &self.found.logs);
        self.look_at(ELSEWHERE, &self.found.sent);
        self.missing_records();
        self.order_of_records();
    }

    fn look_at(&mut self, partition: PartitionId, logs: &[Vec<PageRecord>]) {
        let mut seen = BTreeSet::new();
        for (class, log) in logs.iter().enumerate() {
            if !log.is_sorted_by(|a, b| a.seq < b.seq) {
                self.say(format!("the records of class {class} do not rise"));
            }
            for found in log.iter().filter(|record| record.bytes != AFTER) {
                if !seen.insert(found.seq) {
                    self.say(format!("two records are at {}", found.seq.0));
                }
                if let Err(what) = self.look_at_record(partition, class, found) {
                    self.say(format!("record {} of class {class} {what}", found.seq.0));
                }
            }
        }
    }

    fn look_at_record(&mut self, partition: PartitionId, class: usize, found: &PageRecord) -> Result<(), &'static str> {
        let id = id(&found.bytes).ok_or("is none of ours")?;
        let entry = self.history.entries.get(id.0).ok_or("is of no batch")?;
        let written = entry.records().nth(id.1).ok_or("was never written")?;
        let record = written.record;
        if (&record.name, record.time, &record.bytes) != (&found.name, found.time, &found.bytes) {
            return Err("is not what was written");
        }
        if (written.to, usize::from(written.class)) != (partition, class) {
            return Err("is in the wrong log");
        }
        if !self.applied.contains(&id.0) {
            return Err("is there without its batch");
        }
        if self.places.insert(id, found.seq).is_some() {
            return Err("is there twice");
        }
        Ok(())
    }

    /// Records may be missing below what was trimmed, and nowhere else.
    fn missing_records(&mut self) {
        let mut trimmed = BTreeMap::<u8, Seq>::new();
        for (_, entry) in self.applied_entries() {
            for op in &entry.ops {
                if let Op::Trim { class, below } = op {
                    let most = trimmed.entry(class.0).or_default();
                    *most = (*most).max(*below);
                }
            }
        }
        let mut wrong = Vec::new();
        for (number, entry) in self.applied_entries() {
            let mut told = entry.appended().iter();
            for (index, Written { to, class, .. }) in entry.records().enumerate() {
                let told = (to == HERE).then(|| told.next()).flatten();
                let below = trimmed.get(&class).copied().filter(|_| to == HERE).unwrap_or_default();
                let what = match (self.places.get(&(number, index)), told) {
                    (Some(place), Some(told)) if place != told => format!("is at {}, not at {}", place.0, told.0),
                    (None, Some(told)) if *told >= below => format!("is missing at {}", told.0),
                    (None, None) if below == Seq(0) => "is missing".to_owned(),
                    _ => continue,
                };
                wrong.push(format!("record {number}.{index} of class {class} in {to:?} {what}"));
            }
        }
        self.wrong.append(&mut wrong);
    }

    /// Within a batch, and from batch to batch of a caller, records rise.
    fn order_of_records(&mut self) {
        let mut last = BTreeMap::<Caller, Seq>::new();
        let mut wrong = Vec::new();
        for (&(number, index), &seq) in &self.places {
            let entry = &self.history.entries[number];
            if entry.records().nth(index).is_none_or(|written| written.to != HERE) {
                continue;
            }
            let caller = entry.caller;
            if let Some(before) = last.insert(caller, seq).filter(|before| *before >= seq) {
                wrong.push(format!("record {number}.{index} is at {}, after {}", seq.0, before.0));
            }
        }
        self.wrong.append(&mut wrong);
    }

    fn rows(&mut self) {
        let lives = self.applied_entries().flat_map(|(_, entry)| &entry.ops).filter_map(|op| match op {
            Op::PutNew { life: Some((now, _)), .. } => Some(*now),
            _ => None,
        });
        let mut rows = Rows { now: lives.max().unwrap_or_default(), ..Rows::default() };
        for (number, entry) in self.applied_entries() {
            let mut index = 0;
            let mut told = entry.appended().iter();
            for op in &entry.ops {
                match op {
                    Op::Append { records, .. } => {
                        for record in records {
                            let seq = self.places.get(&(number, index)).or(told.next());
                            rows.place(record, seq);
                            index += 1;
                        }
                    }
                    Op::Send { records, .. } => index += records.len(),
                    op => rows.apply(number, op),
                }
            }
        }
        self.wrong.append(&mut rows.wrong);
        self.compare(&rows);
    }

    fn compare(&mut self, rows: &Rows) {
        let mut wrong = Vec::new();
        for ((table, key), row) in &rows.expected {
            let found = self.found.tables.get(table).and_then(|rows| rows.get(key));
            let is_over = *table == ONCE && row.until.is_some_and(|until| until <= rows.now);
            match (found, &row.value) {
                (None, _) if !is_over => wrong.push(format!("row {key:?} of `{}` is missing", table.0)),
                (Some(found), Some(value)) if found != value => {
                    wrong.push(format!("row {key:?} of `{}` has a wrong value", table.0));
                }
                _ => {}
            }
        }
        for table in TABLES {
            for key in self.found.tables.get(&table).into_iter().flat_map(BTreeMap::keys) {
                if key != AFTER && !rows.expected.contains_key(&(table, key.clone())) {
                    wrong.push(format!("row {key:?} of `{}` should not be there", table.0));
                }
            }
        }
        self.wrong.append(&mut wrong);
    }
}

/// What the batches that are there made of the tables.
#[derive(Default)]
struct Rows {
    expected: BTreeMap<(Table, Bytes), Expected>,
    /// The latest time that any of them told. What had expired by then may be gone, and others may have taken its place.
    now: Timestamp,
    wrong: Vec<String>,
}

impl Rows {
    fn apply(&mut self, number: usize, op: &Op) {
        match op {
            Op::Put { table, key, value } => {
                self.expected.insert((*table, key.clone()), Expected { value: Some(value.clone()), until: None });
            }
            Op::Delete { table, key } => {
                self.expected.remove(&(*table, key.clone()));
            }
            Op::PutNew { table, key, value, life } => {
                let row = Expected { value: Some(value.clone()), until: life.map(|(_, until)| until) };
                let before = self.expected.insert((*table, key.clone()), row);
                if before.is_some_and(|before| before.until.is_none_or(|until| until > self.now)) {
                    self.wrong.push(format!("batch {number} took a row of `{}` that another kept", table.0));
                }
            }
            _ => {}
        }
    }

    /// The rows that say where a record is; of one that was trimmed it may not be known.
    fn place(&mut self, record: &Record, seq: Option<&Seq>) {
        let value = seq.map(|seq| Bytes::copy_from_slice(&seq.0.to_be_bytes()));
        for row in &record.keys {
            let expected = Expected { value: value.clone(), until: None };
            if self.expected.insert((row.table, row.key.clone()), expected).is_some() {
                self.wrong.push(format!("row {:?} of `{}` was taken twice", row.key, row.table.0));
            }
        }
    }
}

/// The number of a record's batch and its own within it, as the record says.
fn id(bytes: &[u8]) -> Option<Id> {
    let index = u16::from_be_bytes(bytes.get(8..10)?.try_into().ok()?);
    Some((number_of(bytes.get(..8)?)?, index.into()))
}
