//! One durable stage on a store, with no runtime around it: for benchmarks.

use std::sync::Arc;

use millstream_operators::{Timestamp, durable::Durable};

use super::{Border, Cause, Death, DurableStage, Sink, Stage, StageCounts, StageItem, Step};
use crate::{
    event::{Draft, Envelope, Event, IdSource, IntoDraft, Lineage},
    store::{Class, Op, PageRecord, PartitionId, Record, Seq, Store, Tenure},
};

/// How many records are appended at a time.
const BATCH: usize = 10_000;

/// The class that events go in and come out in.
const CLASS: Class = Class(2);

/// Drives a stage until nothing is left to do. Not part of the crate's promise.
#[derive(Debug)]
pub struct Drill {
    store: Arc<dyn Store>,
    stage: Box<dyn DurableStage>,
    ids: IdSource,
}

/// Writes outputs as events; drops the dead.
#[derive(Debug)]
struct Plain(IdSource);

impl Border for Plain {
    fn emit(&self, draft: Draft, cause: &Cause<'_>, sink: &mut Sink) -> Result<(), String> {
        let id = self.0.next(cause.at);
        let root = cause.origin.map_or(id, |origin| origin.lineage.root);
        let lineage =
            Lineage { root, cause: cause.origin.map(|o| o.event), depth: cause.depth + 1, ..Lineage::root(id) };
        let envelope = Envelope::new(draft, id, cause.at, lineage);
        sink.append(CLASS, record(&envelope).map_err(|error| error.to_string())?);
        Ok(())
    }

    fn replayed(&self, _: u64, _: &mut Sink) {}

    fn dead(&self, _: &PageRecord, _: &Death, _: Timestamp, _: &mut Sink) {}
}

fn record(envelope: &Envelope) -> serde_json::Result<Record> {
    let bytes = envelope.to_record()?;
    Ok(Record { name: envelope.name().as_str().into(), time: envelope.time(), bytes, keys: Vec::new() })
}

impl Drill {
    /// Claims the first partition and restores the stage.
    ///
    /// # Errors
    /// Whatever goes wrong, as text.
    pub async fn new<In, O>(store: impl Store, stage: Stage<In, O>) -> Result<Self, String>
    where
        In: StageItem,
        O: Durable<In, Out: IntoDraft, State: Send> + Send + 'static,
    {
        let mut stage = stage.build("drill", Arc::new(Plain(IdSource::new(2)))).map_err(|error| error.to_string())?;
        let store: Arc<dyn Store> = Arc::new(store);
        let tenure = Tenure::begin(&*store, PartitionId(0)).await.map_err(|error| error.to_string())?;
        stage.restore(Arc::new(tenure), Seq(0)).await.map_err(|error| error.to_string())?;
        Ok(Self { store, stage, ids: IdSource::new(1) })
    }

    /// Appends events to the log.
    ///
    /// # Errors
    /// Whatever goes wrong, as text.
    pub async fn append<E: Event>(&self, events: impl IntoIterator<Item = E>, at: Timestamp) -> Result<(), String> {
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let envelopes = events.by_ref().take(BATCH).map(|event| {
                let id = self.ids.next(at);
                record(&Envelope::new(Draft::new(event), id, at, Lineage::root(id)))
            });
            let records = envelopes.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
            let batch = vec![Op::Append { class: CLASS, records }];
            self.store.append(PartitionId(0), batch).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Steps until all is taken and committed.
    ///
    /// # Errors
    /// Whatever goes wrong, as text.
    pub async fn run(&mut self, now: Timestamp) -> Result<StageCounts, String> {
        loop {
            match self.stage.step(now).await.map_err(|error| format!("{error:?}"))? {
                Step::Again => {}
                Step::Committing => self.stage.settle().await.map_err(|error| format!("{error:?}"))?,
                Step::Idle { .. } => return Ok(self.stage.status().counts),
                Step::Parked => return Err(format!("{:?}", self.stage.status().parked)),
            }
        }
    }

    /// What the stage says of itself.
    pub fn describe(&self) -> String {
        format!("{:?}", self.stage.status())
    }
}
