//! Writes the batches of a workload: appends in all classes, rows put, deleted and kept new, trims, and what is to be
//! refused. The same seed writes the same batches.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use millstream::{
    Timestamp,
    store::{CLASSES, Class, Op, Record, RowKey, Seq},
};

use crate::history::{
    CURSOR, Caller, Duty, ELSEWHERE, Entry, History, ONCE, PLACE, RACE, SEEN, STATE, TIMER, number_key,
};

/// How many there are who only append.
pub const STRANGERS: u8 = 3;

/// Writes batches.
#[derive(Debug)]
pub struct Author {
    rng: Rng,
    names: Vec<Arc<str>>,
    now: Timestamp,
}

/// A batch, while it is written.
struct Draft<'a> {
    author: &'a mut Author,
    number: usize,
    records: u16,
    ops: Vec<Op>,
    duty: Duty,
}

impl Author {
    /// Begins with this seed.
    pub fn new(seed: u64) -> Self {
        let names = ["order.placed", "order.paid", "sensor.read", "a", "audit.entry.written"];
        let now = Timestamp::from_millis(1_700_000_000_000);
        Self { rng: Rng::with_seed(seed), names: names.map(Arc::from).into(), now }
    }

    /// The next batch of a caller; its number is the length of the history.
    pub fn batch(&mut self, caller: Caller, history: &History) -> (Vec<Op>, Duty) {
        self.now = Timestamp::from_millis(self.now.as_millis() + self.rng.u64(..400));
        let number = history.entries.len();
        let mut draft = Draft { author: self, number, records: 0, ops: Vec::new(), duty: Duty::Commit };
        match caller {
            Caller::Holder(_) => draft.hold(history),
            Caller::Stranger(who) => draft.append(who, history),
        }
        let Draft { author, mut ops, duty, .. } = draft;
        let seen = Op::PutNew { table: SEEN, key: number_key(number), value: number_key(number), life: None };
        ops.insert(author.rng.usize(..=ops.len()), seen);
        (ops, duty)
    }

    /// A small batch of the holder that is sure to be written.
    pub fn plug(history: &History) -> Vec<Op> {
        let number = number_key(history.entries.len());
        let cursor = Op::Put { table: CURSOR, key: Bytes::from_static(b"here"), value: number.clone() };
        vec![cursor, Op::PutNew { table: SEEN, key: number.clone(), value: number, life: None }]
    }

    /// A few kilobytes at most, most often less than one; some of it compresses well.
    fn filler(&mut self) -> Vec<u8> {
        let most = [40, 200, 200, 900, 900, 5000, 30_000];
        let most = most[self.rng.usize(..most.len())];
        let len = self.rng.usize(..most);
        let mut bytes = vec![self.rng.u8(..); len];
        if self.rng.bool() {
            self.rng.fill(&mut bytes);
        }
        bytes
    }
}

impl Draft<'_> {
    fn rng(&mut self) -> &mut Rng {
        &mut self.author.rng
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.rng().u8(..100) < percent
    }

    /// What the holder of the partition writes: state, cursor, timers and outputs at once.
    fn hold(&mut self, history: &History) {
        for _ in 0..self.rng().usize(..5) {
            self.put_state();
        }
        self.put_timers();
        for _ in 0..self.rng().usize(..3) {
            self.append_records();
        }
        self.ops.push(Op::Put { table: CURSOR, key: Bytes::from_static(b"here"), value: number_key(self.number) });
        if self.chance(20) {
            self.send_records();
        }
        if self.chance(12) {
            self.trim(history);
        }
        if self.chance(15) {
            self.put_once(u8::MAX);
        }
    }

    /// What someone writes who only appends; now and then what is not allowed.
    fn append(&mut self, who: u8, history: &History) {
        self.append_records();
        if self.chance(20) {
            self.put_once(who);
        }
        if self.chance(15) {
            let key = Bytes::copy_from_slice(&(history.entries.len() / 8).to_be_bytes());
            self.ops.push(Op::PutNew { table: RACE, key, value: number_key(self.number), life: None });
            self.duty = Duty::MayConflict;
        }
        if self.chance(4) {
            self.put_state();
            self.duty = Duty::Refuse;
        }
    }

    fn put_state(&mut self) {
        let key = Bytes::from(format!("state/{}", self.rng().u8(..40)));
        if self.chance(20) {
            self.ops.push(Op::Delete { table: STATE, key });
        } else {
            let mut value = number_key(self.number).to_vec();
            value.extend(self.author.filler());
            self.ops.push(Op::Put { table: STATE, key, value: value.into() });
        }
    }

    /// A timer for later, and the one that was set some batches ago is done.
    fn put_timers(&mut self) {
        let key = |number: usize| Bytes::from(format!("{number:08}"));
        let number = self.number;
        self.ops.push(Op::Put { table: TIMER, key: key(number), value: number_key(number) });
        let done = self.rng().usize(..30);
        if let Some(done) = number.checked_sub(done).filter(|done| *done != number) {
            self.ops.push(Op::Delete { table: TIMER, key: key(done) });
        }
    }

    fn put_once(&mut self, who: u8) {
        let key = Bytes::from(vec![who, self.rng().u8(..6)]);
        let now = self.author.now;
        let life = (!self.chance(10)).then(|| (now, Timestamp::from_millis(now.as_millis() + self.rng().u64(..3000))));
        self.ops.push(Op::PutNew { table: ONCE, key, value: number_key(self.number), life });
        self.duty = Duty::MayConflict;
    }

    fn append_records(&mut self) {
        let class = Class(self.rng().u8(..CLASSES));
        let records = (0..self.rng().usize(1..5)).map(|_| self.record()).collect();
        self.ops.push(Op::Append { class, records });
    }

    /// To the other partition; such records carry no keys.
    fn send_records(&mut self) {
        let class = Class(self.rng().u8(..CLASSES));
        let mut records: Vec<_> = (0..self.rng().usize(1..4)).map(|_| self.record()).collect();
        for record in &mut records {
            record.keys.clear();
        }
        self.ops.push(Op::Send { to: ELSEWHERE, class, records });
    }

    fn record(&mut self) -> Record {
        let mut bytes = number_key(self.number).to_vec();
        bytes.extend(self.records.to_be_bytes());
        bytes.extend(self.author.filler());
        self.records += 1;
        let mut keys = Vec::new();
        if self.chance(25) {
            keys.push(RowKey { table: PLACE, key: format!("{}/{}", self.number, self.records).into() });
        }
        if self.chance(3) {
            let often = self.rng().u8(..20);
            keys.push(RowKey { table: PLACE, key: format!("often/{often}").into() });
            self.duty = Duty::MayConflict;
        }
        let time = self.author.now;
        let name = Arc::clone(&self.author.names[self.author.rng.usize(..self.author.names.len())]);
        Record { name, time, bytes: bytes.into(), keys }
    }

    /// Up to somewhere in what was acknowledged.
    fn trim(&mut self, history: &History) {
        let end = history.entries.iter().filter_map(Entry::end).max().unwrap_or_default();
        let class = Class(self.rng().u8(..CLASSES));
        let below = Seq(self.rng().u64(..=end.0));
        self.ops.push(Op::Trim { class, below });
    }
}
