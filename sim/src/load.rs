//! What a process that is killed does, and whoever looks at what it left: handlers and a stage that count each tick once.

use std::{
    error::Error,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use millstream::{Context, Event, Handler, HandlerError, Key, Runtime, Stage, chain, store::Redb};
use serde::{Deserialize, Serialize};

/// What is emitted.
#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "tick", key = "emitter")]
pub struct Tick {
    /// Which start of the process.
    pub cycle: u32,
    /// Who emitted.
    pub emitter: u32,
    /// How many that one had emitted before in this process.
    pub number: u64,
    /// Whether it only asks the stage for its total, and does not count.
    pub asks: bool,
    /// Fills the log.
    pub pad: String,
}

/// What was counted of an emitter, by the handler or by the stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The last process of which a tick was counted.
    pub cycle: u32,
    /// How many of that process.
    pub next: u64,
    /// How many in all.
    pub ticks: u64,
    /// A sum of them that knows each.
    pub sum: u64,
    /// The first that came twice or out of its order.
    pub wrong: Option<String>,
}

/// What the stage says, now and then and when it is asked.
#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "total", key = "emitter")]
pub struct Total {
    /// Of whom.
    pub emitter: u32,
    /// What it has counted.
    pub count: Count,
    /// Whether it was asked.
    pub was_asked: bool,
}

/// What was answered to who asked.
pub type Answers = Arc<Mutex<Vec<Total>>>;

/// Where the handlers keep what they count.
pub const COUNTS: &str = "counts";
/// Where they keep the last total of each emitter.
pub const TOTALS: &str = "totals";
/// The stage speaks once for so many ticks of an emitter.
const OFTEN: u64 = 64;

impl Tick {
    /// A tick that counts.
    pub fn new(cycle: u32, emitter: u32, number: u64) -> Self {
        Self { cycle, emitter, number, asks: false, pad: "millstream".repeat(6) }
    }

    /// A tick that asks.
    pub fn asking(emitter: u32) -> Self {
        Self { cycle: 0, emitter, number: 0, asks: true, pad: String::new() }
    }

    fn mixed(&self) -> u64 {
        crate::images::mix(&[self.cycle.into(), self.emitter.into(), self.number])
    }
}

impl Count {
    fn add(&mut self, tick: &Tick) {
        if tick.cycle > self.cycle {
            (self.cycle, self.next) = (tick.cycle, 0);
        }
        if (tick.cycle, tick.number) != (self.cycle, self.next) && self.wrong.is_none() {
            let Self { cycle, next, .. } = self;
            self.wrong = Some(format!("tick {}/{} came where {cycle}/{next} should", tick.cycle, tick.number));
        }
        self.next = tick.number + 1;
        self.ticks += 1;
        self.sum = self.sum.wrapping_add(tick.mixed());
    }
}

/// A runtime over a file, with its handlers and its stage.
///
/// # Errors
/// What the store or the runtime says.
pub fn open(file: &Path, answers: &Answers) -> Result<Runtime, Box<dyn Error>> {
    let runtime = Runtime::builder().store(Redb::open(file)?).queue_size(4_096).watchdog(false).build()?;
    runtime.on("tick", count.named("count").filter(asks_nobody).ordered_by_key().concurrency(256))?;
    let told = Arc::clone(answers);
    let keep = move |total: Total, context: Context| keep(total, context, Arc::clone(&told));
    runtime.on("total", keep.named("keep").ordered_by_key().concurrency(256))?;
    let totals = chain().scan((Count::default(), 0, None), |(count, emitter, speaks), tick: Tick| {
        *emitter = tick.emitter;
        *speaks = (tick.asks || tick.number % OFTEN == OFTEN - 1).then_some(tick.asks);
        if !tick.asks {
            count.add(&tick);
        }
    });
    let totals = totals.filter(|(_, _, speaks): &(Count, u32, Option<bool>)| speaks.is_some());
    let totals = totals.map(|(count, emitter, was_asked)| Total { emitter, count, was_asked: was_asked == Some(true) });
    runtime.stage("totals", Stage::keyed(|tick: &Tick| Key::from(tick.emitter), totals))?;
    Ok(runtime)
}

fn asks_nobody(event: &millstream::Envelope) -> bool {
    event.decode::<Tick>().is_ok_and(|tick| !tick.asks)
}

async fn count(tick: Tick, context: Context) -> Result<(), HandlerError> {
    let (counts, key) = (context.storage(COUNTS), tick.emitter.to_string());
    let mut counted: Count = counts.get_json(&key).await?.unwrap_or_default();
    counted.add(&tick);
    counts.put_json(&key, &counted).await?;
    Ok(())
}

/// Totals of an emitter rise: each of them is said once.
async fn keep(total: Total, context: Context, answers: Answers) -> Result<(), HandlerError> {
    let (totals, key) = (context.storage(TOTALS), total.emitter.to_string());
    let before: Count = totals.get_json(&key).await?.unwrap_or_default();
    let mut kept = total.count.clone();
    if before.ticks > kept.ticks || before.ticks == kept.ticks && !total.was_asked {
        kept.wrong = Some(format!("a total of {} came after one of {}", kept.ticks, before.ticks));
    }
    kept.wrong = before.wrong.or(kept.wrong);
    totals.put_json(&key, &kept).await?;
    if total.was_asked {
        lock(&answers).push(total);
    }
    Ok(())
}

/// The answers.
pub fn lock(answers: &Answers) -> MutexGuard<'_, Vec<Total>> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}
