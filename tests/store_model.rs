//! Any sequence of operations does to a store what it does to a plain model of one. `MILLSTREAM_CASES=N` sets how many
//! sequences there are (1,000 by default).
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod disk;

use std::collections::BTreeMap;

use bytes::Bytes;
use disk::Disk;
use fastrand::Rng;
use millstream::{
    Timestamp,
    store::{
        Class, CommitError, KeyRange, Memory, Op, PageRecord, Partition, PartitionId, Reader, Record, Redb, RowKey,
        Seq, Store, StoreError, Table, Wanted,
    },
};

const TABLES: [Table; 2] = [Table("a"), Table("b")];
/// The table whose rows expire.
const LIVES: Table = Table("lives");

#[derive(Clone, Debug, PartialEq)]
struct Row {
    value: Bytes,
    until: Option<Timestamp>,
}

#[derive(Clone, Debug, Default)]
struct Model {
    next: u64,
    logs: [Vec<PageRecord>; 4],
    /// Below that, records may be gone.
    trimmed: [Seq; 4],
    rows: BTreeMap<(Table, Bytes), Row>,
    /// The latest time that was written to the table whose rows expire.
    now: Timestamp,
}

impl Model {
    /// Applies a batch. An error is the key in conflict. Rows that have expired and may have been swept away or not are told
    /// by whether the `store` has refused the batch.
    fn apply(&mut self, batch: &[Op], is_refused: bool) -> Result<(), Bytes> {
        for op in batch {
            match op {
                Op::Append { class, records } => {
                    for record in records {
                        let seq = self.next;
                        for row in &record.keys {
                            let value = Bytes::copy_from_slice(&seq.to_be_bytes());
                            self.put_new(row.table, &row.key, Row { value, until: None }, None, is_refused)?;
                        }
                        self.append(*class, record);
                    }
                }
                Op::Send { class, records, .. } => records.iter().for_each(|record| self.append(*class, record)),
                Op::Put { table, key, value } => {
                    self.rows.insert((*table, key.clone()), Row { value: value.clone(), until: None });
                }
                Op::Delete { table, key } => drop(self.rows.remove(&(*table, key.clone()))),
                Op::PutNew { table, key, value, life } => {
                    let row = Row { value: value.clone(), until: life.map(|(_, until)| until) };
                    let now = life.map(|(now, _)| now);
                    self.now = self.now.max(now.unwrap_or_default());
                    self.put_new(*table, key, row, now, is_refused)?;
                }
                Op::Trim { class, below } => {
                    let at = usize::from(class.0);
                    self.trimmed[at] = self.trimmed[at].max((*below).min(Seq(self.next)));
                }
                other => panic!("{other:?}"),
            }
        }
        Ok(())
    }

    fn append(&mut self, class: Class, record: &Record) {
        let record = PageRecord {
            seq: Seq(self.next),
            name: record.name.clone(),
            time: record.time,
            bytes: record.bytes.clone(),
        };
        self.logs[usize::from(class.0)].push(record);
        self.next += 1;
    }

    fn put_new(
        &mut self,
        table: Table,
        key: &Bytes,
        row: Row,
        now: Option<Timestamp>,
        is_refused: bool,
    ) -> Result<(), Bytes> {
        let place = (table, key.clone());
        if let Some(there) = self.rows.get(&place) {
            let has_expired = matches!((there.until, now), (Some(until), Some(now)) if until <= now);
            if !has_expired && (is_refused || !self.may_be_swept(there)) {
                return Err(key.clone());
            }
        }
        self.rows.insert(place, row);
        Ok(())
    }

    fn may_be_swept(&self, row: &Row) -> bool {
        row.until.is_some_and(|until| until <= self.now)
    }
}

/// Places of records that were not known when the batch was made are compared by what they say.
fn batch(random: &mut Rng, model: &Model, is_holder: bool) -> Vec<Op> {
    let key = |random: &mut Rng| Bytes::from(vec![random.u8(b'a'..b'h'); random.usize(0..4)]);
    let record = |random: &mut Rng| {
        let size = [0, 3, 100, 3_000][random.usize(0..4)];
        let bytes: Vec<u8> = (0..size).map(|_| random.u8(0..8)).collect();
        let name = ["x", "y", "z"][random.usize(0..3)].into();
        let key = key(random);
        let keys = if random.u8(0..8) == 0 { vec![RowKey { table: TABLES[1], key }] } else { Vec::new() };
        Record { name, time: Timestamp::from_nanos(random.u64(0..100)), bytes: bytes.into(), keys }
    };
    let steps = random.usize(0..6);
    let mut ops = Vec::new();
    for _ in 0..steps {
        let class = Class(random.u8(0..4));
        let kind = random.u8(0..if is_holder { 8 } else { 4 });
        ops.push(match kind {
            0 | 1 => Op::Append { class, records: (0..random.usize(0..4)).map(|_| record(random)).collect() },
            2 => Op::PutNew { table: TABLES[0], key: key(random), value: key(random), life: None },
            3 => {
                let now = model.now.max(Timestamp::from_nanos(random.u64(0..1_000)));
                let until = Timestamp::from_nanos(now.as_nanos() + random.u64(1..300));
                Op::PutNew { table: LIVES, key: key(random), value: key(random), life: Some((now, until)) }
            }
            4 => Op::Delete { table: TABLES[random.usize(0..2)], key: key(random) },
            5 => Op::Trim { class, below: Seq(random.u64(0..model.next + 2)) },
            6 if random.bool() => Op::PutNew { table: LIVES, key: key(random), value: key(random), life: None },
            _ => Op::Put { table: TABLES[random.usize(0..2)], key: key(random), value: key(random) },
        });
    }
    ops
}

async fn check(store: &dyn Store, partition: PartitionId, model: &mut Model, random: &mut Rng) {
    let reader = store.reader(partition);
    for (class, at) in (0..4).map(Class).zip(0..) {
        let log = &model.logs[at];
        let from = Seq(random.u64(0..=model.next));
        let wanted = match random.u8(0..4) {
            0 => Wanted { names: Some(["x".into()].into()), ..Wanted::default() },
            1 => Wanted { since: Some(Timestamp::from_nanos(50)), ..Wanted::default() },
            2 => Wanted { below: Some(Seq(random.u64(0..=model.next))), ..Wanted::default() },
            _ => Wanted::default(),
        };
        let is_wanted = |record: &&PageRecord| {
            wanted.names.as_ref().is_none_or(|names| names.contains(&record.name))
                && wanted.since.is_none_or(|since| record.time >= since)
                && wanted.below.is_none_or(|below| record.seq < below)
        };
        let (mut place, mut read) = (from, Vec::new());
        loop {
            match reader.read(class, place, random.usize(0..4_000), &wanted).await {
                Ok(page) => {
                    read.extend(page.records.into_iter().filter(|record| is_wanted(&record)));
                    place = page.next;
                    if page.is_end {
                        break;
                    }
                }
                Err(StoreError::Trimmed { first }) => {
                    assert!(read.is_empty() && place < first, "only the first read can be of what is gone");
                    let lost = log.iter().filter(|record| (place..first).contains(&record.seq));
                    assert!(
                        lost.into_iter().all(|record| record.seq < model.trimmed[at]),
                        "more is gone than was asked for"
                    );
                    place = first;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let first = read.first().map_or(place, |record| record.seq).max(from);
        let kept = log.iter().filter(|record| record.seq >= first).filter(is_wanted).cloned();
        let kept: Vec<PageRecord> = kept.collect();
        assert_eq!(read, kept, "class {at} from {from:?}, {wanted:?}");
    }
    check_rows(&*reader, model, random).await;
}

async fn check_rows(reader: &dyn Reader, model: &mut Model, random: &mut Rng) {
    for table in [TABLES[0], TABLES[1], LIVES] {
        let found: BTreeMap<Bytes, Bytes> =
            reader.scan(table, KeyRange::all(), 1_000).await.unwrap().into_iter().collect();
        let swept: Vec<(Table, Bytes)> = model
            .rows
            .iter()
            .filter(|((of, key), row)| *of == table && !found.contains_key(key) && model.may_be_swept(row))
            .map(|(place, _)| place.clone())
            .collect();
        for place in swept {
            model.rows.remove(&place);
        }
        let there = model.rows.iter().filter(|((of, _), _)| *of == table);
        let there: BTreeMap<Bytes, Bytes> = there.map(|((_, key), row)| (key.clone(), row.value.clone())).collect();
        assert_eq!(found, there, "table {table:?}");
        let keys: Vec<Bytes> = (b'a'..b'h').map(|byte| vec![byte; random.usize(0..4)].into()).collect();
        let values = reader.get(table, &keys).await.unwrap();
        assert!(values.iter().zip(&keys).all(|(value, key)| value.as_ref() == there.get(key)), "table {table:?}");
    }
}

async fn case(mut store: Box<dyn Store>, reopen: impl Fn(Box<dyn Store>) -> Box<dyn Store>, random: &mut Rng) {
    let mut models = [Model::default(), Model::default()];
    let mut held: [Option<Box<dyn Partition>>; 2] = [None, None];
    for _ in 0..random.usize(5..60) {
        let at = random.usize(0..2);
        let partition = PartitionId(u32::try_from(at).unwrap());
        let model = &mut models[at];
        match random.u8(0..12) {
            0 => {
                held = [None, None];
                store = reopen(store);
            }
            1 => {
                let claim = store.claim(partition).await.unwrap();
                assert_eq!(claim.end, Seq(model.next));
                held[at] = Some(claim.partition);
            }
            2 | 3 => check(&*store, partition, model, random).await,
            _ => {
                let batches: Vec<_> = (0..random.usize(1..5))
                    .map(|_| {
                        let is_holder = held[at].is_some() && random.u8(0..3) > 0;
                        let batch = batch(random, model, is_holder);
                        let commit = match held[at].as_mut().filter(|_| is_holder) {
                            Some(held) => held.commit(batch.clone()),
                            None => store.append(partition, batch.clone()),
                        };
                        (batch, commit)
                    })
                    .collect();
                for (batch, commit) in batches {
                    let committed = commit.await;
                    let mut after = model.clone();
                    let expected = after.apply(&batch, committed.is_err());
                    match (committed, expected) {
                        (Ok(committed), Ok(())) => {
                            assert_eq!(committed.end, Seq(after.next));
                            *model = after;
                        }
                        (Err(CommitError::Conflict { key, .. }), Err(expected)) => {
                            let may_be_swept =
                                model.rows.get(&(LIVES, expected.clone())).is_some_and(|row| after.may_be_swept(row));
                            assert!(key == expected || may_be_swept, "{batch:?}: {key:?}, {expected:?}");
                        }
                        (committed, expected) => panic!("{batch:?}: {committed:?}, {expected:?}"),
                    }
                }
            }
        }
    }
    for (model, partition) in models.iter_mut().zip(0..) {
        check(&*store, PartitionId(partition), model, random).await;
    }
}

fn cases() -> u64 {
    std::env::var("MILLSTREAM_CASES").map_or(1_000, |cases| cases.parse().unwrap())
}

#[tokio::test]
async fn the_store_in_memory_does_what_the_model_does() {
    for seed in 0..cases() {
        let memory = Memory::new();
        let again = memory.clone();
        case(Box::new(memory), |_| Box::new(again.clone()), &mut Rng::with_seed(seed)).await;
    }
    println!("in memory: {} sequences, 0 differences", cases());
}

#[tokio::test]
async fn the_store_in_a_file_does_what_the_model_does() {
    for seed in 0..cases() {
        let disk = Disk::default();
        let open = || Box::new(Redb::builder().open_on(disk.clone()).unwrap());
        let reopen = |store| {
            drop(store);
            open() as Box<dyn Store>
        };
        case(open(), reopen, &mut Rng::with_seed(seed)).await;
    }
    println!("in a file: {} sequences, 0 differences", cases());
}
