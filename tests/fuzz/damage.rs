//! Rows and records that are not what was written: a runtime on them neither panics nor hangs, and says what is wrong.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, LazyLock, Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use millstream::{
    DeadLetterFilter, Draft, Event, ExpectedVersion, Handler, HandlerError, Key, ProcessError, Retention, Retry,
    Runtime, Stage, chain,
    store::{Class, KeyRange, Memory, Op, PartitionId, Record, Seq, Store, Table, Wanted, tables},
    testing::{self, TestKit},
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::cases;

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "order", key = "user")]
struct Order {
    id: u64,
    user: u64,
}

#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "total")]
struct Total {
    orders: u64,
}

/// A store, row by row and record by record.
#[derive(Clone)]
struct Dump {
    rows: Vec<(Table, Bytes, Bytes)>,
    records: Vec<(Class, Record)>,
}

/// What is done to a dump.
#[derive(Clone, Debug)]
enum Harm {
    /// A value, or a record's bytes, is cut off.
    Cut(usize),
    /// A byte is another.
    Byte(usize, u8),
    /// Eight bytes say the largest number.
    Largest(usize),
    /// It is something else altogether.
    Other(Vec<u8>),
    /// It is the value of another row.
    Swapped(usize),
    /// The row's key, or the record's name, is another.
    Key(Vec<u8>),
    /// There is one byte more in its key.
    LongerKey(u8),
    /// It is not there.
    Gone,
}

const STAGE: [Table; 6] = [
    Table("stage"),
    Table("stage_state"),
    Table("stage_timer"),
    Table("stage_delta"),
    Table("stage_parked"),
    Table("stage_turn"),
];

fn on(store: &Memory) -> millstream::Builder {
    Runtime::builder().store(store.clone()).retention(Retention::All)
}

fn totals()
-> Stage<Order, impl millstream::operators::durable::Durable<Order, Out = Total, State: Send> + Send + 'static> {
    let sums = chain().scan(0, |orders: &mut u64, _: Order| *orders += 1);
    Stage::keyed(|order: &Order| order.user, sums.debounce(Duration::from_mins(5)).map(|orders| Total { orders }))
}

/// Fails some for now, and some for good.
fn failing() -> impl Handler<(Order,)> {
    let handler = |order: Order| async move {
        match order.id % 5 {
            1 => Err(HandlerError::transient("closed")),
            2 => Err(HandlerError::permanent("no")),
            _ => Ok(()),
        }
    };
    handler.named("one").ordered_by_key().retry(Retry::fixed(Duration::from_hours(1)).attempts(3))
}

/// Something of all that there can be.
async fn live(kit: TestKit) -> testing::Outcome {
    kit.on("order", failing())?;
    kit.on("order", (|_: Order| async {}).named("gone"))?;
    kit.stage("totals", totals())?;
    for id in 0..20 {
        kit.emit(Draft::new(Order { id, user: id % 4 }).idempotency_key(id.to_string()))?;
        kit.emit(Draft::new(Order { id: 100 + id, user: 9 }).delay(Duration::from_secs(100 + id)))?;
    }
    kit.storage("notes").put("a", "b").await?;
    let placed = Draft::new(Order { id: 50, user: 7 });
    kit.aggregate("order", "7").append(ExpectedVersion::New, [placed.clone(), placed]).idempotency_key("k").await?;
    drop(tokio::time::timeout(Duration::from_secs(10), kit.runtime().process()).await);
    kit.on("order", (|_: Order| async {}).named("late"))?;
    for id in 20..30 {
        kit.emit(Order { id, user: id % 4 })?.await?;
    }
    Ok(())
}

static WHOLE: LazyLock<Dump> = LazyLock::new(|| {
    let store = Memory::new();
    testing::run(on(&store), live);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(dump(&store))
});

async fn dump(store: &Memory) -> Dump {
    let (reader, mut rows, mut records) = (store.reader(PartitionId(0)), Vec::new(), Vec::new());
    for table in tables::ALL.into_iter().chain(STAGE) {
        let found = reader.scan(table, KeyRange::all(), usize::MAX).await.unwrap();
        rows.extend(found.into_iter().map(|(key, value)| (table, key, value)));
    }
    for class in (0..4).map(Class) {
        let page = reader.read(class, Seq(0), usize::MAX, &Wanted::default()).await.unwrap();
        records.extend(page.records.into_iter().map(|record| (class, record)));
    }
    records.sort_by_key(|(_, record)| record.seq);
    let records = records.into_iter().map(|(class, record)| {
        let (name, time, bytes) = (record.name, record.time, record.bytes);
        (class, Record { name, time, bytes, keys: Vec::new() })
    });
    Dump { rows, records: records.collect() }
}

impl Dump {
    async fn store(&self) -> Memory {
        let store = Memory::new();
        let mut partition = store.claim(PartitionId(0)).await.unwrap().partition;
        let appends =
            self.records.iter().map(|(class, record)| Op::Append { class: *class, records: vec![record.clone()] });
        let puts = self.rows.iter().map(|(table, key, value)| Op::Put {
            table: *table,
            key: key.clone(),
            value: value.clone(),
        });
        partition.commit(appends.chain(puts).collect()).await.unwrap();
        store
    }

    fn harm(&mut self, at: usize, harm: &Harm) {
        let at = at % (self.rows.len() + self.records.len());
        if let Harm::Gone = harm {
            if at < self.rows.len() {
                self.rows.remove(at);
            }
            return;
        }
        let other = |place: usize| self.rows[place % self.rows.len()].2.clone();
        if let Some((_, record)) = at.checked_sub(self.rows.len()).map(|at| &self.records[at]) {
            let bytes = harm.value(&record.bytes, other);
            let at = at - self.rows.len();
            self.records[at].1.bytes = bytes;
            if let Harm::Key(key) = harm {
                self.records[at].1.name = String::from_utf8_lossy(key).into();
            }
            return;
        }
        let (_, key, value) = &self.rows[at];
        let (key, value) = match harm {
            Harm::Key(key) => (key.clone().into(), value.clone()),
            Harm::LongerKey(byte) => ([&key[..], &[*byte]].concat().into(), value.clone()),
            harm => (key.clone(), harm.value(value, other)),
        };
        (self.rows[at].1, self.rows[at].2) = (key, value);
    }
}

impl Harm {
    fn value(&self, value: &Bytes, other: impl Fn(usize) -> Bytes) -> Bytes {
        let mut bytes = value.to_vec();
        let length = bytes.len();
        match self {
            Self::Cut(at) => bytes.truncate(at % (length + 1)),
            Self::Byte(at, byte) if length > 0 => bytes[at % length] = *byte,
            Self::Largest(at) if length > 0 => {
                let at = at % length;
                bytes[at..(at + 8).min(length)].fill(u8::MAX);
            }
            Self::Other(other) => bytes.clone_from(other),
            Self::Swapped(place) => return other(*place),
            Self::Byte(..) | Self::Largest(_) | Self::Key(_) | Self::LongerKey(_) | Self::Gone => {}
        }
        bytes.into()
    }
}

fn harm() -> impl Strategy<Value = Harm> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        any::<usize>().prop_map(Harm::Cut),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Harm::Byte(at, byte)),
        any::<usize>().prop_map(Harm::Largest),
        bytes().prop_map(Harm::Other),
        any::<usize>().prop_map(Harm::Swapped),
        bytes().prop_map(Harm::Key),
        any::<u8>().prop_map(Harm::LongerKey),
        Just(Harm::Gone),
    ]
}

/// What a runtime has come to.
#[derive(Debug, Default)]
struct Came {
    said: Vec<String>,
    seen: Vec<u64>,
}

/// Drives a runtime on a store until it is done, or says that it cannot.
async fn settle(kit: &TestKit) -> Option<ProcessError> {
    for _ in 0..200 {
        let Ok(processed) = tokio::time::timeout(Duration::from_hours(24 * 365), kit.runtime().process()).await else {
            panic!("it does not come to rest: {:?} {:?}", kit.stats(), kit.health())
        };
        match processed {
            Err(error) => return Some(error),
            Ok(report) => match report.next_deadline {
                Some(next) if next.since(kit.now()) < Duration::from_hours(24) => {
                    tokio::time::sleep_until(kit.clock().instant_of(next)).await;
                }
                _ => return None,
            },
        }
    }
    panic!("it does not come to an end: {:?} {:?}", kit.stats(), kit.health());
}

fn run_on(store: &Memory) -> Came {
    let came = Arc::new(Mutex::new(Came::default()));
    let shared = Arc::clone(&came);
    testing::run(on(store), async move |kit: TestKit| {
        let before: Vec<_> = kit.dead_letters(&DeadLetterFilter::all());
        assert!(before.is_empty());
        for name in ["one", "gone", "late"] {
            let came = Arc::clone(&shared);
            let keep = move |order: Order| {
                came.lock().unwrap().seen.push(order.id);
                async {}
            };
            kit.on("order", keep.named(name).ordered_by_key())?;
        }
        kit.stage("totals", totals())?;
        let failed = settle(&kit).await;
        let mut said: Vec<_> = failed.into_iter().map(|error| error.to_string()).collect();
        said.extend(kit.health().findings);
        let _ = kit.storage("notes").get("a").await;
        let _ = kit
            .aggregate("order", "7")
            .append(ExpectedVersion::Any, [Order { id: 51, user: 7 }])
            .idempotency_key("k")
            .await;
        let _ = kit.aggregate("order", "7").append(ExpectedVersion::Any, [Order { id: 51, user: 7 }]).await;
        said.extend(kit.dead_letters(&DeadLetterFilter::all()).iter().map(millstream::DeadLetter::reason));
        kit.replay(&millstream::Replay::all());
        kit.unpark("totals", None, &Key::from(1));
        kit.forget("gone");
        settle(&kit).await;
        kit.assert_balanced();
        kit.shutdown(Duration::from_secs(1)).await?;
        shared.lock().unwrap().said = said;
        Ok(())
    });
    Arc::try_unwrap(came).unwrap().into_inner().unwrap()
}

/// Does it on a thread of its own, which must end.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = mpsc::sync_channel(1);
    std::thread::spawn(move || drop(done.send(catch_unwind(AssertUnwindSafe(work)))));
    match ended.recv_timeout(Duration::from_mins(1)).expect("it hangs") {
        Ok(came) => came,
        Err(panic) => resume_unwind(panic),
    }
}

fn harmed(harms: &[(usize, Harm)]) -> Memory {
    let mut whole = WHOLE.clone();
    for (at, harm) in harms {
        whole.harm(*at, harm);
    }
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(whole.store())
}

#[test]
fn what_was_not_harmed_is_taken_up() {
    let came = in_time(|| run_on(&harmed(&[])));
    let mut once: Vec<_> = came.seen.clone();
    once.sort_unstable();
    once.dedup();
    let expected: Vec<_> = (0..30).filter(|id| *id >= 20 || id % 5 == 1).chain([51]).chain(100..120).collect();
    assert!(expected.iter().all(|id| once.contains(id)), "{once:?} {:?}", came.said);
    assert!(came.said.iter().all(|said| said == "no"), "{:?}", came.said);
}

/// Rows that a runtime reads to go on.
fn is_needed(table: Table) -> bool {
    [tables::ENGINE, tables::SUBSCRIPTION, tables::CURSOR, tables::FAILED, tables::DEAD, tables::DELAYED, STAGE[0]]
        .contains(&table)
}

proptest! {
    #![proptest_config(cases(120))]

    #[test]
    fn a_runtime_on_harmed_rows_neither_panics_nor_hangs(harms in prop::collection::vec((any::<usize>(), harm()), 1..4)) {
        in_time(move || run_on(&harmed(&harms)));
    }

    /// Bytes that nothing reads as its own are never passed over in silence.
    #[test]
    fn a_row_that_is_none_is_told(at: usize, length in 1_usize..7) {
        let needed: Vec<_> = (0..WHOLE.rows.len()).filter(|&at| is_needed(WHOLE.rows[at].0)).collect();
        let at = needed[at % needed.len()];
        let came = in_time(move || run_on(&harmed(&[(at, Harm::Other(vec![u8::MAX; length]))])));
        prop_assert!(came.said.iter().any(|said| said != "no"), "{:?}", WHOLE.rows[at]);
    }
}

#[cfg(feature = "archive")]
mod tools {
    use millstream::{
        Clock, Replay,
        archive::{Archive, CloudEvent, LogFilter, Row},
    };

    use super::*;

    async fn look(store: Memory) {
        let archive = Archive::new(store.clone());
        let mut log = archive.log(LogFilter::all());
        while let Ok(Some(entry)) = log.next().await {
            let _ = serde_json::to_string(&CloudEvent::new(entry.event));
        }
        let _ = archive.dead_letters(&DeadLetterFilter::all()).await;
        let _ = archive.subscriptions().await.map(|states| serde_json::to_string(&states));
        let _ = archive.delayed(|due, event| drop(serde_json::to_string(&CloudEvent::delayed(event, due)))).await;
        let _ = archive.stages().await;
        let reader = store.reader(PartitionId(0));
        for table in tables::ALL.into_iter().chain(STAGE) {
            for (key, value) in reader.scan(table, KeyRange::all(), usize::MAX).await.unwrap() {
                let _ = Row::parse(table.0, &key, &value).map(|row| serde_json::to_string(&row));
            }
        }
        let _ = archive.replay(&Replay::all(), &Clock::system()).await;
        let _ = archive.purge(&DeadLetterFilter::all()).await;
        drop(archive.import().await);
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
    }

    const LINE: &str = r#"{"specversion":"1.0","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","source":"/shop","type":"order","subject":"7","time":"2026-01-01T00:00:00Z","duetime":"2026-01-02T00:00:00Z","dataschema":"urn:millstream:order:3","priority":"high","tenant":"acme","depth":2,"aggregatetype":"order","aggregateid":"7","aggregateversion":"18446744073709551615","headers":"{\"a\":\"b\"}","data":{"id":7,"user":1}}"#;

    proptest! {
        #![proptest_config(cases(150))]

        #[test]
        fn tools_on_harmed_rows_neither_panic_nor_hang(harms in prop::collection::vec((any::<usize>(), harm()), 1..4)) {
            in_time(move || block_on(look(harmed(&harms))));
        }

        /// What is taken in is what a runtime can go on with.
        #[test]
        fn a_line_is_taken_in_whole_or_refused(changes in prop::collection::vec((any::<usize>(), any::<u8>(), any::<bool>()), 0..4)) {
            let mut line = LINE.as_bytes().to_vec();
            for (at, byte, inserts) in changes {
                let at = at % line.len();
                if inserts { line.insert(at, byte) } else { line[at] = byte }
            }
            let Ok(event) = CloudEvent::parse(&line) else { return Ok(()) };
            let id = event.envelope().id();
            let again = CloudEvent::parse(&serde_json::to_vec(&event).unwrap()).unwrap();
            prop_assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&event).unwrap());
            let store = Memory::new();
            block_on(async {
                let archive = Archive::new(store.clone());
                let mut import = archive.import().await.unwrap();
                import.add(event).await.unwrap();
                import.add(again).await.unwrap();
                let report = import.finish().await.unwrap();
                assert_eq!((report.imported + report.delayed, report.duplicates), (1, 1));
            });
            in_time(move || {
                let seen = Arc::new(Mutex::new(Vec::new()));
                let ids = Arc::clone(&seen);
                testing::run(on(&store), async move |kit: TestKit| {
                    let keep = move |event: Arc<millstream::Envelope>| { ids.lock().unwrap().push(event.id()); async {} };
                    kit.on(">", keep.named("all").starting_at(millstream::Start::Earliest))?;
                    settle(&kit).await;
                    Ok(())
                });
                let seen = seen.lock().unwrap();
                assert!(seen.is_empty() || *seen == [id]);
            });
        }
    }
}
