//! Events, a border, and a stage on a store.

use std::{collections::BTreeMap, sync::Arc, task::Poll};

use bytes::Bytes;
use millstream_operators::{Chain, Timestamp, durable::Durable};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::slow::{Fate, Slow};
use crate::{
    epoch::{
        Border, Cause, Death, DurableStage, Sink, Stage, StageError, StateKey, Step, delta,
        moment::Moment,
        rows::{DELTAS, Rows, STATES, TIMERS},
        value::Saved,
    },
    event::{Draft, Envelope, Event, IdSource, Lineage, Priority},
    store::{Class, KeyRange, Memory, Op, PageRecord, PartitionId, Reader, Record, Seq, Store, Table, Tenure, Wanted},
};

pub(super) const STAGE: &str = "tested";
pub(super) const DEAD: Table = Table("test_dead");
/// Where the border appends outputs.
pub(super) const OUT: Class = Class(3);

/// What goes in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Tick {
    pub(super) key: u32,
    pub(super) number: u32,
}

impl Event for Tick {
    const NAME: &'static str = "tick";
}

pub(super) fn ms(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(super) fn millis(millis: u64) -> std::time::Duration {
    std::time::Duration::from_millis(millis)
}

/// What comes out of every chain under test.
pub(super) fn out(value: impl Serialize) -> Draft {
    Draft::json("out", serde_json::to_value(value).unwrap())
}

pub(super) fn record(ids: &IdSource, tick: &Tick, at: Timestamp) -> Record {
    let id = ids.next(at);
    let envelope = Envelope::new(Draft::new(tick.clone()).time(at), id, at, Lineage::root(id));
    Record { name: Tick::NAME.into(), time: at, bytes: envelope.to_record().unwrap(), keys: Vec::new() }
}

/// Writes outputs as they are, and dead letters as rows.
#[derive(Debug, Default)]
pub(super) struct Plain;

impl Border for Plain {
    fn emit(&self, draft: Draft, cause: &Cause<'_>, sink: &mut Sink) -> Result<(), String> {
        let data = draft.data().to_json().unwrap();
        if data == json!("unspeakable") {
            return Err("it is unspeakable".to_owned());
        }
        let timer = cause.timer.map(Timestamp::as_nanos);
        let text = json!([cause.key.key(), data, cause.at.as_nanos(), timer, cause.depth]).to_string();
        sink.append(OUT, Record { name: "out".into(), time: cause.at, bytes: text.into(), keys: Vec::new() });
        Ok(())
    }

    fn replayed(&self, number: u64, sink: &mut Sink) {
        sink.push(Op::Delete { table: DEAD, key: Bytes::copy_from_slice(&number.to_be_bytes()) });
    }

    fn dead(&self, record: &PageRecord, death: &Death, _: Timestamp, sink: &mut Sink) {
        let key = Bytes::copy_from_slice(&record.seq.0.to_be_bytes());
        sink.push(Op::Put { table: DEAD, key, value: format!("{death:?}").into() });
    }
}

/// A store, and one stage on it.
pub(super) struct Rig {
    pub(super) store: Slow,
    pub(super) stage: Box<dyn DurableStage>,
    pub(super) tenure: Arc<Tenure>,
    pub(super) ids: IdSource,
    pub(super) now: Timestamp,
}

impl Rig {
    pub(super) async fn new<O>(stage: Stage<Tick, Chain<Tick, O>>) -> Self
    where
        O: Durable<Tick, Out = Draft, State: Send> + Send + 'static,
    {
        Self::on(Slow::new(Memory::new()), stage).await
    }

    pub(super) async fn on<O>(store: Slow, stage: Stage<Tick, Chain<Tick, O>>) -> Self
    where
        O: Durable<Tick, Out = Draft, State: Send> + Send + 'static,
    {
        let stage = stage.build(STAGE, Arc::new(Plain)).unwrap();
        let tenure = Arc::new(Tenure::begin(&store, PartitionId(0)).await.unwrap());
        let mut rig = Self { store, stage, tenure, ids: IdSource::new(1), now: ms(0) };
        rig.restore().await;
        rig
    }

    /// Takes the place of the stage before, as a restart does.
    pub(super) async fn restart<O>(&mut self, stage: Stage<Tick, Chain<Tick, O>>)
    where
        O: Durable<Tick, Out = Draft, State: Send> + Send + 'static,
    {
        self.stage = stage.build(STAGE, Arc::new(Plain)).unwrap();
        self.tenure = Arc::new(Tenure::begin(&self.store, PartitionId(0)).await.unwrap());
        self.restore().await;
    }

    /// Claims the partition again, and restores the stage.
    pub(super) async fn restore(&mut self) {
        self.tenure = Arc::new(Tenure::begin(&self.store, PartitionId(0)).await.unwrap());
        let store = self.store.clone();
        let restored = self.stage.restore(Arc::clone(&self.tenure), Seq(0));
        let landing = async {
            loop {
                store.decide(Fate::Landed).await;
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            restored = restored => restored.unwrap(),
            () = landing => {}
        }
    }

    pub(super) async fn append(&self, class: Priority, ticks: &[(Tick, Timestamp)]) -> Vec<Seq> {
        let records = ticks.iter().map(|(tick, at)| record(&self.ids, tick, *at)).collect();
        #[expect(clippy::cast_possible_truncation, reason = "four classes")]
        let class = Class(class.class() as u8);
        let batch = vec![Op::Append { class, records }];
        self.store.append(PartitionId(0), batch).await.unwrap().appended
    }

    pub(super) async fn tick(&self, key: u32, number: u32, at: u64) -> Seq {
        self.append(Priority::Normal, &[(Tick { key, number }, ms(at))]).await[0]
    }

    pub(super) async fn step(&mut self) -> Result<Step, StageError> {
        // A driver that waits for nothing yields, or tokio's budget keeps it from seeing what has landed.
        tokio::task::yield_now().await;
        self.stage.step(self.now).await
    }

    /// Begins a step and drops it after so many polls, unless it is done by then.
    pub(super) async fn begin_step(&mut self, polls: usize) {
        let mut step = self.stage.step(self.now);
        let mut left = polls;
        std::future::poll_fn(|context| {
            left = left.saturating_sub(1);
            if left == 0 || step.as_mut().poll(context).is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Steps until nothing is left to do, and lands what is handed over.
    pub(super) async fn settle(&mut self) -> Step {
        self.try_settle().await.unwrap()
    }

    pub(super) async fn try_settle(&mut self) -> Result<Step, StageError> {
        for _ in 0..100_000 {
            match self.step().await? {
                Step::Again => {}
                Step::Committing => self.store.decide(Fate::Landed).await,
                step => return Ok(step),
            }
        }
        panic!("the stage does not come to rest: {:?}", self.stage.status());
    }

    pub(super) fn reader(&self) -> Box<dyn Reader> {
        self.store.reader(PartitionId(0))
    }

    async fn rows(&self, table: Table, range: KeyRange) -> Vec<(Bytes, Bytes)> {
        self.reader().scan(table, range, usize::MAX >> 1).await.unwrap()
    }

    /// All that came out, in order.
    pub(super) async fn outputs(&self) -> Vec<Value> {
        let page = self.reader().read(OUT, Seq(0), usize::MAX >> 1, &Wanted::default()).await.unwrap();
        assert!(page.is_end);
        let outputs = page.records.iter().filter(|record| &*record.name == "out");
        outputs.map(|record| serde_json::from_slice(&record.bytes).unwrap()).collect()
    }

    /// What came out for each key: the data alone.
    pub(super) async fn data(&self) -> Vec<Value> {
        self.outputs().await.into_iter().map(|output| output[1].clone()).collect()
    }

    pub(super) async fn dead(&self) -> BTreeMap<u64, String> {
        let rows = self.rows(DEAD, KeyRange::all()).await;
        let seq = |key: &Bytes| u64::from_be_bytes(key[..].try_into().unwrap());
        rows.iter().map(|(key, why)| (seq(key), String::from_utf8(why.to_vec()).unwrap())).collect()
    }

    /// The state of every key as the store has it: that of the newest delta, else that of its row.
    pub(super) async fn states(&self) -> BTreeMap<StateKey, Bytes> {
        let rows = Rows::of(STAGE);
        let mut states = BTreeMap::new();
        for (row, value) in self.rows(STATES, rows.all()).await {
            states.insert(rows.key_of(&row).unwrap(), value);
        }
        for (_, chunk) in self.rows(DELTAS, rows.all()).await {
            for (key, value) in delta::read(chunk).unwrap() {
                match value {
                    Some(value) => drop(states.insert(key, value)),
                    None => drop(states.remove(&key)),
                }
            }
        }
        states
    }

    /// The timer index must say of every row what the row says of itself.
    pub(super) async fn check_timers(&self) {
        let rows = Rows::of(STAGE);
        let mut expected = Vec::new();
        for (row, value) in self.rows(STATES, rows.all()).await {
            let next = Saved::read(&value).unwrap().preface.next;
            expected.extend(next.map(|next| Moment { next, key: rows.key_of(&row).unwrap() }));
        }
        expected.sort_unstable();
        let index: Vec<_> =
            self.rows(TIMERS, rows.all()).await.iter().map(|(row, _)| rows.moment_of(row).unwrap()).collect();
        assert_eq!(index, expected);
    }

    pub(super) async fn count(&self, table: Table) -> usize {
        self.rows(table, KeyRange::all()).await.len()
    }
}
