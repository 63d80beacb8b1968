//! Kills a process whose durable runtime works at full load on a real file, at a random moment, again and again; after each
//! time the file is opened with a runtime of the same handlers, and all that was acknowledged is handled once and in order,
//! and counted once by the stage.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use fastrand::Rng;
use millstream::{DeadLetterFilter, Runtime};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    ledger::{Ack, Ledger},
    load::{self, Answers, COUNTS, Count, TOTALS, Tick, Total},
    wait::{PATIENCE, now},
};

/// How long a process works at most before it is killed.
const LIFE: Duration = Duration::from_millis(400);

/// What to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is started, with `child` as its first argument.
    pub program: PathBuf,
    /// The file of the store.
    pub file: PathBuf,
    /// How often it is killed.
    pub cycles: u32,
    /// What decides when.
    pub seed: u64,
    /// How many emit side by side.
    pub emitters: u32,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Processes that were killed.
    pub cycles: u32,
    /// Emits that were acknowledged.
    pub acked: u64,
    /// Emits that were handled, each once.
    pub found: u64,
    /// What is wrong, and after which process.
    pub violations: Vec<(u32, String)>,
}

impl Tally {
    /// The figures.
    pub fn json(&self) -> Value {
        json!({
            "cycles": self.cycles,
            "acked": self.acked,
            "found": self.found,
            "violations": self.violations.len(),
        })
    }
}

/// Why it could not go on.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// The process cannot be started or listened to.
    #[error(transparent)]
    Process(#[from] io::Error),
    /// The runtime does not open after a kill, or does not go on.
    #[error("after a kill the runtime fails: {0}")]
    Engine(String),
}

impl KillError {
    fn engine(error: impl Into<Box<dyn Error>>) -> Self {
        Self::Engine(error.into().to_string())
    }
}

/// Kills as often as it is told; `seen` is told of each.
///
/// # Errors
/// [`KillError`] if a process cannot be started, or the runtime does not open after a kill.
pub fn run(settings: &Settings, seen: &dyn Fn(u64)) -> Result<Tally, KillError> {
    let mut rng = Rng::with_seed(settings.seed);
    let mut audit = Audit::default();
    let mut tally = Tally::default();
    for cycle in 1..=settings.cycles {
        let (ledger, complaint) = live_and_die(settings, cycle, &mut rng)?;
        tally.cycles += 1;
        tally.acked += ledger.total;
        let wrong = audit.look(settings, cycle, &ledger)?;
        tally.violations.extend(complaint.into_iter().chain(wrong).map(|what| (cycle, what)));
        seen(1);
    }
    tally.found = audit.found;
    Ok(tally)
}

/// Starts a process, listens to it, and kills it; what it acknowledged, and why it ended by itself, if it did.
fn live_and_die(settings: &Settings, cycle: u32, rng: &mut Rng) -> Result<(Ledger, Option<String>), KillError> {
    let mut child = Command::new(&settings.program)
        .arg("child")
        .args(["--file".as_ref(), settings.file.as_os_str()])
        .args(["--cycle", &cycle.to_string(), "--emitters", &settings.emitters.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (told, acks) = sync_channel(64);
    let mut pipe = child.stdout.take().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
    let listener = thread::spawn(move || listen(&mut pipe, &told));
    let mut ledger = Ledger::default();
    let ended = hear(&mut child, &acks, &mut ledger, rng);
    child.kill()?;
    acks.iter().flatten().for_each(|ack| ledger.note(ack));
    child.wait()?;
    let complaint = ended.then(|| {
        let mut text = String::new();
        // What it did not say cannot be told.
        let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
        format!("the process ended by itself: {text}")
    });
    // It has ended: its side of the channel is closed.
    let _ = listener.join();
    Ok((ledger, complaint))
}

/// Reads acknowledgements; one that is cut off was not told.
fn listen(pipe: &mut impl Read, told: &SyncSender<Vec<Ack>>) {
    let (mut buffer, mut kept) = (vec![0; 48 << 10], Vec::new());
    while let Ok(read) = pipe.read(&mut buffer) {
        if read == 0 {
            return;
        }
        kept.extend_from_slice(&buffer[..read]);
        let (acks, rest) = kept.as_chunks();
        if told.send(acks.iter().copied().map(Ack::decode).collect()).is_err() {
            return;
        }
        kept = rest.to_vec();
    }
}

/// Listens until it is time to kill. Most processes get to work, some do not even get to open the file. Whether the
/// process has ended by itself.
fn hear(child: &mut Child, acks: &Receiver<Vec<Ack>>, ledger: &mut Ledger, rng: &mut Rng) -> bool {
    let (dies_early, life) = (rng.u8(..5) == 0, LIFE.mul_f64(rng.f64()));
    let mut end = now() + if dies_early { life / 8 } else { PATIENCE };
    let mut has_begun = dies_early;
    loop {
        match acks.recv_timeout(end.saturating_duration_since(now())) {
            Ok(told) => told.into_iter().for_each(|ack| ledger.note(ack)),
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => {
                return child.try_wait().is_ok_and(|status| status.is_some()) || !dies_early;
            }
        }
        if !has_begun {
            (has_begun, end) = (true, now() + life);
        }
    }
}

/// What was found so far: of each emitter how many ticks.
#[derive(Debug, Default)]
struct Audit {
    ticks: BTreeMap<u32, u64>,
    found: u64,
}

impl Audit {
    /// Opens what a killed process has left, lets it do all that it owes, and holds it to the ledger.
    fn look(&mut self, settings: &Settings, cycle: u32, ledger: &Ledger) -> Result<Vec<String>, KillError> {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        tokio.block_on(async {
            let answers = Answers::default();
            let runtime = load::open(&settings.file, &answers).map_err(KillError::engine)?;
            let counts = self.ask(&runtime, settings.emitters).await.map_err(KillError::engine)?;
            let mut wrong = self.hold_to_ledger(&counts, cycle, ledger);
            wrong.extend(hold_totals(&counts, &load::lock(&answers)));
            let letters = runtime.dead_letters(&DeadLetterFilter::all());
            wrong.extend(letters.iter().map(|letter| format!("a dead letter: {}", letter.reason())));
            Ok(wrong)
        })
    }

    /// Lets it come to rest, asks the stage for all totals, and reads what handlers have counted.
    async fn ask(&self, runtime: &Runtime, emitters: u32) -> Result<BTreeMap<u32, (Count, Count)>, Box<dyn Error>> {
        timeout(PATIENCE, runtime.process()).await??;
        for emitter in 0..emitters {
            runtime.emit_wait(Tick::asking(emitter)).await?;
        }
        timeout(PATIENCE, runtime.process()).await??;
        let (counts, totals) = (runtime.storage(COUNTS), runtime.storage(TOTALS));
        let mut found = BTreeMap::new();
        for emitter in 0..emitters {
            let key = emitter.to_string();
            let count = counts.get_json(&key).await?.unwrap_or_default();
            found.insert(emitter, (count, totals.get_json(&key).await?.unwrap_or_default()));
        }
        Ok(found)
    }

    /// Each acknowledged emit was handled once, and at most one more of each emitter.
    fn hold_to_ledger(&mut self, counts: &BTreeMap<u32, (Count, Count)>, cycle: u32, ledger: &Ledger) -> Vec<String> {
        let mut wrong = Vec::new();
        for (&emitter, (count, kept)) in counts {
            let there = if count.cycle == cycle { count.next } else { 0 };
            let acked = ledger.acked(emitter);
            // One more may have landed than was told.
            if there < acked || there > acked + 1 {
                wrong.push(format!("of emitter {emitter} {there} were handled and {acked} were acknowledged"));
            }
            let before = self.ticks.insert(emitter, count.ticks).unwrap_or_default();
            if count.ticks != before + there {
                wrong.push(format!("emitter {emitter} had {before}, and has {} after {there} more", count.ticks));
            }
            self.found += there;
            let complaints = [&count.wrong, &kept.wrong].into_iter().flatten();
            wrong.extend(complaints.map(|what| format!("emitter {emitter}: {what}")));
        }
        if ledger.strange > 0 {
            wrong.push(format!("{} acknowledgements came out of order", ledger.strange));
        }
        wrong
    }
}

/// The stage has counted what the handler has, and says so once.
fn hold_totals(counts: &BTreeMap<u32, (Count, Count)>, answers: &[Total]) -> Vec<String> {
    let said: BTreeMap<u32, &Count> = answers.iter().map(|total| (total.emitter, &total.count)).collect();
    let mut wrong = Vec::new();
    if said.len() != answers.len() || said.len() != counts.len() {
        wrong.push(format!("{} totals of {} emitters were said for {}", answers.len(), said.len(), counts.len()));
    }
    for (emitter, (count, _)) in counts {
        if said.get(emitter).is_none_or(|total| *total != count) {
            wrong.push(format!("the stage has {:?} of emitter {emitter}, where {count:?} came in", said.get(emitter)));
        }
    }
    wrong
}
