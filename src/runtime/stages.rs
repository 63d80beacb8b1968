//! Operator stages of a durable runtime.

use std::sync::Arc;

use millstream_middleware::SettingsError;
use millstream_operators::{Chain, Timestamp, durable::Durable};
use serde::Serialize;

use super::Runtime;
use crate::{
    dispatch::{Command, NewStage, StageBorder, start_key},
    epoch::{Stage, StageCounts, StageItem, StateKey},
    event::{IntoDraft, Key, Tenant},
    intake::Intake,
    stage::Start,
};

/// Why a stage was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The runtime keeps its events in memory.
    #[error("stage `{name}` needs a durable runtime: give the builder a `store`, or run the chain on a stream")]
    NeedsStore {
        /// The stage's name.
        name: String,
    },
    /// There is a stage or a subscription of this name.
    #[error("there is a stage or a subscription named `{name}` already: what is kept by name would be of both")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Settings that are impossible, all at once.
    #[error("stage `{name}`: {wrong}")]
    Settings {
        /// The stage's name.
        name: String,
        /// What is impossible.
        wrong: SettingsError,
    },
    /// The runtime was shut down.
    #[error("the runtime is stopped")]
    Stopped,
}

/// A chain, or a [`Stage`] with settings.
pub trait IntoStage {
    /// What the chain takes.
    type In: StageItem;
    /// The chain.
    type Op: Durable<Self::In>;
    /// The stage.
    fn into_stage(self) -> Stage<Self::In, Self::Op>;
}

impl<In: StageItem, O: Durable<In>> IntoStage for Stage<In, O> {
    type In = In;
    type Op = O;

    fn into_stage(self) -> Self {
        self
    }
}

impl<In: StageItem, O: Durable<In>> IntoStage for Chain<In, O> {
    type In = In;
    type Op = Self;

    fn into_stage(self) -> Stage<In, Self> {
        Stage::new(self)
    }
}

/// A stage as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StageDescription {
    /// Its name.
    pub name: String,
    /// Why it does not go on, if it does not: its state does not fit the chain, or is damaged.
    pub parked: Option<String>,
    /// The last epoch that was committed.
    pub epoch: u64,
    /// With event time the watermark, else the last time at which all timers had fired.
    pub watermark: Timestamp,
    /// What has happened since the stage began, over all restarts.
    pub counts: StageCounts,
    /// Keys in memory.
    pub keys: usize,
    /// Keys whose timers are not fired any more, for one of them panicked.
    pub parked_keys: usize,
}

impl Runtime {
    /// Runs a chain as a durable stage: it takes events from the log, and its state, timers and outputs are each committed
    /// exactly once, in epochs. The name is what the store knows it by. See [`Stage`] for its settings.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use millstream::{Event, Runtime, Stage, chain, store::Memory};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Event, Clone, Serialize, Deserialize)]
    /// #[event(name = "sale")]
    /// struct Sale { shop: u32, cents: u64 }
    ///
    /// #[derive(Event, Clone, Serialize, Deserialize)]
    /// #[event(name = "total")]
    /// struct Total { cents: u64 }
    ///
    /// let runtime = Runtime::builder().store(Memory::new()).build()?;
    /// let totals = chain().scan(0, |sum, sale: Sale| *sum += sale.cents).map(|cents| Total { cents });
    /// runtime.stage("totals", Stage::keyed(|sale: &Sale| sale.shop, totals))?;
    /// for cents in [5, 7] {
    ///     runtime.emit(Sale { shop: 1, cents })?;
    /// }
    /// runtime.process().await?;
    /// assert_eq!(runtime.stages()[0].counts.emitted, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`StageError`]: a runtime in memory, a name that is taken, impossible settings, operators that must be named.
    ///
    /// # Ordering
    /// Events of all classes are taken in the order of the log. Outputs are in the order of the events that led to them.
    ///
    /// # Data loss
    /// None. What the chain cannot take goes to the dead letters, under the stage's name.
    pub fn stage<S>(&self, name: &str, stage: S) -> Result<(), StageError>
    where
        S: IntoStage,
        S::Op: Durable<S::In, Out: IntoDraft, State: Send> + Send + 'static,
    {
        let Some(pump) = &self.shared.intake.pump else {
            return Err(StageError::NeedsStore { name: name.to_owned() });
        };
        if self.is_stopped() {
            return Err(StageError::Stopped);
        }
        let asked = stage.into_stage();
        let start = asked.start();
        let border = StageBorder::new(name.into(), Arc::clone(&self.shared.intake), Arc::clone(&self.shared.letters));
        let built = asked.build(name, Arc::clone(&border) as _);
        let stage = built.map_err(|wrong| StageError::Settings { name: name.to_owned(), wrong })?;
        if !self.shared.registry.add_stage(name, stage.pattern().clone()) {
            return Err(StageError::DuplicateName { name: name.to_owned() });
        }
        let end = Arc::default();
        self.shared.command(Command::Stage(NewStage { stage, border, start, end: Arc::clone(&end) }));
        let mut intake = self.shared.intake.lock();
        if start == Start::Latest {
            intake.log.to_mark.push_back(start_key(name).into());
        }
        intake.log.start_at_end(&end);
        Intake::wake(intake);
        pump.go();
        Ok(())
    }

    /// Fires the timers of a key again that is parked because one of them panicked, once somebody drives: after the chain
    /// was mended, or to try again.
    pub fn unpark(&self, stage: &str, tenant: Option<&Tenant>, key: &Key) {
        let key = StateKey::new(tenant, key.as_str());
        self.shared.command(Command::Unpark { stage: stage.to_owned(), key });
    }

    /// The stages as they are now, by name.
    pub fn stages(&self) -> Vec<StageDescription> {
        let statuses = self.shared.statuses.get().into_iter();
        statuses
            .map(|(name, status)| StageDescription {
                name: name.to_string(),
                parked: status.parked,
                epoch: status.epoch,
                watermark: status.watermark,
                counts: status.counts,
                keys: status.keys,
                parked_keys: status.parked_keys.len(),
            })
            .collect()
    }
}
