//! What leaves an operator stage: outputs become events, and what it gave up becomes dead letters, in the stage's own commit.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use millstream_middleware::ErrorKind;
use millstream_operators::Timestamp;

use super::outcome::letter_gone;
use crate::{
    dead_letter::{DeadLetter, DeadLetters, Death, Failure},
    epoch::{self, Border, Done, Sink},
    event::{Draft, Envelope, Lineage, Way},
    intake::{Intake, class_of, record},
    journal::{DueKey, dead_op, row_key},
    stage::contained,
    store::{Op, PageRecord, tables},
};

/// A stage's way out into the runtime.
#[derive(Debug)]
pub(crate) struct StageBorder {
    pub(crate) stage: Arc<str>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) letters: Arc<Mutex<DeadLetters>>,
    /// Letters that are in an epoch which has not landed, by number.
    waiting: Mutex<HashMap<u64, DeadLetter>>,
    /// Delayed events of which nobody has been told that they have landed.
    delayed: Mutex<HashSet<DueKey>>,
}

/// A deadline so long after its event begins a new root: a daily job is no loop.
const NEW_ROOT_AFTER: Duration = Duration::from_secs(1);

impl StageBorder {
    pub(crate) fn new(stage: Arc<str>, intake: Arc<Intake>, letters: Arc<Mutex<DeadLetters>>) -> Arc<Self> {
        Arc::new(Self { stage, intake, letters, waiting: Mutex::default(), delayed: Mutex::default() })
    }

    /// A letter whose epoch has landed.
    pub(super) fn take_letter(&self, number: u64) -> Option<DeadLetter> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
    }

    /// Epochs that did not land take their letters with them.
    pub(super) fn forget_letters(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A delayed event has landed and is in the books; nothing where it is another stage's.
    pub(super) fn forget_delayed(&self, key: DueKey) {
        self.lock_delayed().remove(&key);
    }

    /// The delayed events that may have landed, and are in no book: the partition is lost.
    pub(super) fn take_delayed(&self) -> HashSet<DueKey> {
        std::mem::take(&mut *self.lock_delayed())
    }

    fn lock_delayed(&self) -> MutexGuard<'_, HashSet<DueKey>> {
        self.delayed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, mut draft: Draft, cause: &epoch::Cause<'_>, sink: &mut Sink) -> Result<(), String> {
        let intake = &self.intake;
        let refused = |refusal: crate::intake::Refusal| refusal.to_string();
        draft.tenant = cause.key.tenant();
        draft.more().time.get_or_insert(cause.at);
        intake.check(&mut draft).map_err(refused)?;
        let now = intake.clock.now();
        let given = draft.id();
        let id = given.unwrap_or_else(|| intake.ids.next(now));
        let due = draft.due(now);
        let lineage = lineage(cause, id);
        intake.admit_lineage(&draft, lineage).map_err(refused)?;
        if lineage.depth > 0 {
            sink.done.roots.push(lineage.root);
        }
        let event = Envelope::new(draft, id, now, lineage);
        let stored = intake.to_store(&event, false).map_err(refused)?;
        if stored.is_conditional() {
            return Err(
                "an operator's output takes no idempotency key and no aggregate: it is emitted exactly once".into()
            );
        }
        match due {
            Some(due) => {
                // Another one may have the id that it was given, and be due at the same time.
                let row = given.map_or(id, |_| intake.ids.next(now));
                let key = (due, row.as_u128());
                sink.done.delayed.push((due, row));
                self.lock_delayed().insert(key);
                sink.push(Op::Put { table: tables::DELAYED, key: row_key(key), value: stored.bytes });
            }
            None => sink.append(class_of(&event), record(&event, stored.bytes)),
        }
        Ok(())
    }
}

/// An output is as deep as the deepest event of its root that its key's state has taken last, plus one; or the root of what
/// comes of it.
fn lineage(cause: &epoch::Cause<'_>, id: crate::event::EventId) -> Lineage {
    let Some(origin) = cause.origin else { return Lineage::root(id) };
    if cause.timer.is_some_and(|timer| timer.since(origin.at) >= NEW_ROOT_AFTER) {
        let correlation = origin.lineage.correlation;
        return Lineage { cause: Some(origin.event), correlation, ..Lineage::root(id) };
    }
    let Lineage { root, correlation, .. } = origin.lineage;
    Lineage { root, cause: Some(origin.event), correlation, depth: cause.depth + 1, way: Way::Returned }
}

impl Border for StageBorder {
    fn emit(&self, draft: Draft, cause: &epoch::Cause<'_>, sink: &mut Sink) -> Result<(), String> {
        // Looks at the data and writes it, which is the user's.
        contained(|| self.write(draft, cause, sink)).unwrap_or_else(|panic| Err(panic.to_string()))
    }

    fn replayed(&self, number: u64, sink: &mut Sink) {
        sink.push(letter_gone(number));
    }

    fn dead(&self, record: &PageRecord, death: &epoch::Death, now: Timestamp, sink: &mut Sink) {
        // A record that is no event at all was never emitted, and cannot be shown.
        let Ok(event) = Envelope::from_record(&record.bytes) else {
            tracing::error!(stage = &*self.stage, place = record.seq.0, "a record of the log is no event");
            return;
        };
        let (died_of, kind, message) = match death {
            epoch::Death::Undecodable(why) => (Death::Permanent, ErrorKind::Invalid, why.clone()),
            epoch::Death::Panicked(why) => (Death::Permanent, ErrorKind::Panicked, why.clone()),
            epoch::Death::Refused(why) => (Death::Permanent, ErrorKind::Rejected, why.clone()),
            epoch::Death::Late { at, watermark } => {
                let late = watermark.since(*at);
                (Death::Late, ErrorKind::Rejected, format!("it came {late:?} after the watermark had passed it"))
            }
            epoch::Death::Parked => (Death::Parked, ErrorKind::Rejected, "its key is parked".to_owned()),
        };
        tracing::warn!(event = %event.name, id = %event.id, stage = &*self.stage, why = message, "a stage gave an event up");
        let number = self.letters.lock().unwrap_or_else(PoisonError::into_inner).reserve_number();
        let letter = DeadLetter {
            number,
            event: Arc::new(event),
            subscription: Some(self.stage.to_string()),
            death: died_of,
            attempts: 1,
            failures: vec![Failure { attempt: 1, at: now, kind, code: None, message }],
            died_at: now,
            place: Some(record.seq.0),
            asked: None,
            halts: false,
        };
        sink.push(dead_op(&letter, &record.bytes));
        sink.done.letters.push(number);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(number, letter);
    }

    fn take_back(&self, done: Done) {
        if !done.roots.is_empty() {
            self.intake.take_back_lineage(&done.roots);
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for number in done.letters {
            waiting.remove(&number);
        }
        drop(waiting);
        let mut delayed = self.lock_delayed();
        for (due, id) in done.delayed {
            delayed.remove(&(due, id.as_u128()));
        }
    }
}
