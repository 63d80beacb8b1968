//! Kills a process that works at full load on a real file, at a random moment, again and again; after each time all that
//! it had acknowledged is there once and in order, and what it had counted is what it had read.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use millstream::store::{CLASSES, Class, CommitError, Op, PageRecord, Reader, Redb, Seq, Store, StoreError, Wanted};
use serde_json::{Value, json};

use crate::{
    child::place,
    history::{CURSOR, HERE, STATE},
    ledger::{Ack, Count, Emit, Ledger},
    wait::{Hang, PATIENCE, now, wait},
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
    /// Emits that were found.
    pub found: u64,
    /// Records that were counted by the processes.
    pub counted: u64,
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
            "counted": self.counted,
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
    /// The store cannot be opened or read after a kill.
    #[error("after a kill the store fails: {0}")]
    Store(#[from] StoreError),
    /// The store takes nothing after a kill.
    #[error("after a kill the store fails: {0}")]
    Commit(#[from] CommitError),
    /// The store does not answer.
    #[error(transparent)]
    Hang(#[from] Hang),
}

/// Kills as often as it is told; `seen` is told of each.
///
/// # Errors
/// [`KillError`] if a process cannot be started, or the store does not open after a kill.
pub fn run(settings: &Settings, seen: &dyn Fn(u64)) -> Result<Tally, KillError> {
    let mut rng = Rng::with_seed(settings.seed);
    let mut audit = Audit::default();
    let mut tally = Tally::default();
    for cycle in 0..settings.cycles {
        let (ledger, complaint) = live_and_die(settings, cycle, &mut rng)?;
        tally.cycles += 1;
        tally.acked += ledger.total;
        let wrong = audit.look(&settings.file, cycle, &ledger)?;
        tally.violations.extend(complaint.into_iter().chain(wrong).map(|what| (cycle, what)));
        seen(1);
    }
    (tally.found, tally.counted) = (audit.found, audit.classes.iter().map(|class| class.count.records).sum());
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

/// What was found so far.
#[derive(Debug, Default)]
struct Audit {
    classes: [Audited; CLASSES as usize],
    found: u64,
}

/// What was found of a class.
#[derive(Debug, Default)]
struct Audited {
    /// All before it was held to the ledgers.
    end: Seq,
    /// All before it was counted.
    cursor: Seq,
    count: Count,
}

impl Audit {
    /// Looks at what a killed process has left, and forgets what lies before it.
    fn look(&mut self, file: &Path, cycle: u32, ledger: &Ledger) -> Result<Vec<String>, KillError> {
        let store = Redb::open(file)?;
        let mut partition = wait(store.claim(HERE))??.partition;
        let mut wrong = Vec::new();
        let mut found = BTreeMap::new();
        let mut trims = Vec::new();
        for class in 0..CLASSES {
            let records = read_all(&*partition, Class(class))?;
            let audited = &mut self.classes[usize::from(class)];
            let begun = audited.end;
            audited.hold_to_order(&records, cycle, &mut found, &mut wrong);
            audited.hold_to_count(&*partition, class, &records, &mut wrong)?;
            trims.push(Op::Trim { class: Class(class), below: begun.min(audited.cursor) });
        }
        let emitters: BTreeSet<u32> = found.keys().chain(ledger.emitters()).copied().collect();
        for emitter in emitters {
            let (there, acked) = (found.get(&emitter).copied().unwrap_or_default(), ledger.acked(emitter));
            // One more may have landed than was told.
            if there < acked || there > acked + 1 {
                wrong.push(format!("of emitter {emitter} {there} are there and {acked} were acknowledged"));
            }
        }
        if ledger.strange > 0 {
            wrong.push(format!("{} acknowledgements came out of order", ledger.strange));
        }
        self.found += found.values().sum::<u64>();
        wait(partition.commit(trims))??;
        wait(partition.release())??;
        Ok(wrong)
    }
}

impl Audited {
    /// Emits of the process that was killed lie behind all others, those of each emitter in their order and without a gap.
    fn hold_to_order(
        &mut self,
        records: &[PageRecord],
        cycle: u32,
        found: &mut BTreeMap<u32, u64>,
        wrong: &mut Vec<String>,
    ) {
        let mut last = Seq::default();
        for record in records {
            if record.seq < last {
                wrong.push(format!("record {} comes after {}", record.seq.0, last.0));
            }
            last = record.seq.next();
            let emit = Emit::decode(&record.bytes);
            match emit {
                None => wrong.push(format!("record {} was never emitted", record.seq.0)),
                Some(emit) if record.seq < self.end && emit.cycle < cycle => {}
                Some(emit) if record.seq >= self.end && emit.cycle == cycle => {
                    let expected = found.entry(emit.emitter).or_default();
                    if emit.number != *expected {
                        wrong.push(format!("{emit:?} is there where {expected} should be"));
                    }
                    *expected += 1;
                }
                Some(emit) => wrong.push(format!("{emit:?} at {} is in the wrong place", record.seq.0)),
            }
        }
        self.end = self.end.max(last);
    }

    /// What the process had counted is what lies before its cursor.
    fn hold_to_count(
        &mut self,
        reader: &dyn Reader,
        class: u8,
        records: &[PageRecord],
        wrong: &mut Vec<String>,
    ) -> Result<(), KillError> {
        let key = [Bytes::from(vec![class])];
        let row = |table| wait(reader.get(table, &key)).map(|rows| rows.map(|mut rows| rows.pop().flatten()));
        let cursor = row(CURSOR)??.as_deref().and_then(place).unwrap_or_default();
        let counted = row(STATE)??.as_deref().map(Count::decode).unwrap_or_default();
        let new = records.iter().filter(|record| (self.cursor..cursor).contains(&record.seq));
        new.for_each(|record| self.count.add(&record.bytes));
        if cursor < self.cursor || counted != self.count {
            wrong.push(format!("class {class}: {counted:?} was counted before {cursor:?}, where {:?} are", self.count));
        }
        self.cursor = cursor;
        Ok(())
    }
}

fn read_all(reader: &dyn Reader, class: Class) -> Result<Vec<PageRecord>, KillError> {
    let (mut records, mut from, wanted) = (Vec::new(), Seq(0), Wanted::default());
    loop {
        match wait(reader.read(class, from, 1 << 20, &wanted))? {
            Err(StoreError::Trimmed { first }) if first > from => from = first,
            page => {
                let page = page?;
                from = page.next;
                records.extend(page.records);
                if page.is_end {
                    return Ok(records);
                }
            }
        }
    }
}
