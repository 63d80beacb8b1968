//! Dead letters: list, replay, purge. One that is damaged hides no other.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use millstream_operators::Timestamp;
use serde::Serialize;

use super::{Archive, ArchiveError, COMMIT_BYTES, append_op};
use crate::{
    dead_letter::{DeadLetter, DeadLetterFilter, Replay, ReplayReport},
    epoch,
    event::{Clock, Envelope, IdSource, Lineage, aggregate_key},
    intake::class_of,
    journal::{FailedKey, NOW, Stand, Standing, Subscribed, dead_op, dead_row, failed_op, last_now, pass_on, row_key},
    store::{KeyRange, Op, Seq, StoreError, Tenure, tables},
};

/// Dead letters, and the damaged rows among them.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Letters {
    /// Those that can be read, oldest first.
    pub letters: Vec<DeadLetter>,
    /// Those that cannot, of which nobody knows what a filter would say.
    pub damaged: Vec<DamagedLetter>,
}

/// A dead letter whose row is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DamagedLetter {
    /// Its number, unless that is damaged itself beyond being one.
    pub number: Option<u64>,
    /// Which row, and what is wrong with it.
    #[serde(rename = "damaged")]
    pub what: String,
}

/// What is written with each commit, and how much that is.
struct Batch {
    tenure: Arc<Tenure>,
    ops: Vec<Op>,
    bytes: usize,
}

impl Batch {
    async fn begin(archive: &Archive) -> Result<Self, StoreError> {
        let tenure = Tenure::begin(&*archive.store, archive.partition).await?;
        let ops = pass_on(&tenure).await?.into_iter().collect();
        Ok(Self { tenure: Arc::new(tenure), ops, bytes: 0 })
    }

    /// Steps that are written together, with others or alone.
    async fn add(&mut self, ops: Vec<Op>, bytes: usize) -> Result<(), ArchiveError> {
        self.ops.extend(ops);
        self.bytes += bytes;
        if self.bytes < COMMIT_BYTES { Ok(()) } else { self.commit().await }
    }

    async fn commit(&mut self) -> Result<(), ArchiveError> {
        let ops = mem::take(&mut self.ops);
        self.bytes = 0;
        if !ops.is_empty() {
            self.tenure.commit(ops).await?;
        }
        Ok(())
    }
}

/// What replaying needs to know.
struct Ground {
    known: HashMap<String, u32>,
    stages: HashSet<String>,
    ids: IdSource,
    now: Timestamp,
}

impl Archive {
    /// The dead letters that a filter selects, and all that are damaged.
    ///
    /// # Errors
    /// Where the table cannot be read.
    pub async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Letters, ArchiveError> {
        let mut found = Letters::default();
        for (key, value) in self.reader.scan_each(tables::DEAD, KeyRange::all(), usize::MAX).await? {
            match value.and_then(dead_row) {
                Ok(letter) => found.letters.extend(Some(letter).filter(|letter| filter.selects(letter))),
                Err(error) => found.damaged.push(DamagedLetter::new(&key, error)),
            }
        }
        Ok(found)
    }

    /// Lets dead letters be delivered again once a runtime opens the store, just as
    /// [`Runtime::replay`](crate::Runtime::replay) does: the same event with the same id, to its own subscription alone,
    /// with all its attempts. An event that was given up before any subscription got it is appended once more, as a new
    /// event. A letter stays where nobody knows its subscription, or where its aggregate's version is taken meanwhile.
    ///
    /// What an operator stage gave up stays a letter until the stage runs, which takes it then: the letter goes with the outcome.
    ///
    /// A letter and what becomes of it are one commit: it is never both, and never neither. A damaged one stays where it is.
    ///
    /// # Ordering
    /// Where a key was halted, its head goes first and the rest follows.
    ///
    /// # Errors
    /// Where the store cannot be read or written. What was committed before stays.
    pub async fn replay(&self, replay: &Replay, clock: &Clock) -> Result<ReplayReport, ArchiveError> {
        let mut batch = Batch::begin(self).await?;
        let ground = self.ground(clock).await?;
        let mut report = ReplayReport::default();
        let mut due = ground.now;
        for letter in self.dead_letters(&replay.filter).await?.letters.into_iter().take(replay.limit) {
            let Some((ops, bytes)) = self.revive(&letter, &ground, due, &batch).await? else {
                report.kept += 1;
                continue;
            };
            batch.add(ops, bytes).await?;
            report.replayed += 1;
            due = due + replay.step();
        }
        batch.commit().await?;
        Ok(report)
    }

    /// Forgets the dead letters that a filter selects, and returns what is gone. Keys that were halted behind them go on once a
    /// runtime opens the store.
    ///
    /// A damaged letter is forgotten where the filter gives [numbers](DeadLetterFilter::numbers), its own among them, and nothing
    /// else, as with [`Runtime::purge`](crate::Runtime::purge).
    ///
    /// # Errors
    /// Where the store cannot be read or written, or a damaged letter is still there after that. What was committed before
    /// stays.
    ///
    /// # Data loss
    /// That is what it is for.
    pub async fn purge(&self, filter: &DeadLetterFilter) -> Result<Letters, ArchiveError> {
        let mut batch = Batch::begin(self).await?;
        let numbers = filter.mere_numbers();
        let Letters { letters, mut damaged } = self.dead_letters(filter).await?;
        damaged.retain(|letter| letter.number.is_some_and(|number| numbers.contains(&number)));
        for number in letters.iter().map(|letter| letter.number).chain(damaged.iter().filter_map(|row| row.number)) {
            batch.add(vec![gone(number)], size_of::<Op>()).await?;
        }
        batch.commit().await?;
        if !damaged.is_empty() {
            // A key that is damaged may be found by a scan and by nobody who looks for it.
            let left = self.dead_letters(filter).await?.damaged;
            if let Some(stays) = left.into_iter().find(|left| damaged.contains(left)) {
                return Err(StoreError::Corrupt { what: stays.what }.into());
            }
        }
        Ok(Letters { letters, damaged })
    }

    async fn ground(&self, clock: &Clock) -> Result<Ground, ArchiveError> {
        let mut known = HashMap::new();
        self.each(tables::SUBSCRIPTION, |key, value| {
            let (name, Subscribed { id, .. }) = super::rows::subscription(&key, &value)?;
            known.insert(name, id);
            Ok(())
        })
        .await?;
        // Time never goes back, whatever this machine's clock says.
        let saved = last_now(self.reader.get(tables::ENGINE, &[Bytes::from_static(NOW)]).await?)?;
        let stages = epoch::cursors(&*self.reader).await?.into_iter().map(|(name, _)| name).collect();
        Ok(Ground { known, stages, ids: IdSource::new(fastrand::u64(..)), now: clock.now().max(saved) })
    }

    /// What a letter becomes, and about how many bytes that is; none where it stays.
    async fn revive(
        &self,
        letter: &DeadLetter,
        ground: &Ground,
        due: Timestamp,
        batch: &Batch,
    ) -> Result<Option<(Vec<Op>, usize)>, ArchiveError> {
        let Some(name) = &letter.subscription else { return self.emit_again(letter, ground, due, batch).await };
        let Some(place) = letter.place else { return Ok(None) };
        let bytes = record_of(&letter.event)?;
        let Some(&subscription) = ground.known.get(name) else {
            // Only the stage itself can take it, in an epoch of its own.
            let asked = DeadLetter { asked: Some(due), ..letter.clone() };
            return Ok(ground.stages.contains(name).then(|| (vec![dead_op(&asked, &bytes)], bytes.len())));
        };
        let standing = Standing {
            stand: Stand::Waiting,
            attempt: 1,
            due,
            first_began: ground.now,
            delay: Duration::ZERO,
            failures: Vec::new(),
            has_key: letter.halts,
        };
        let key = FailedKey { subscription, class: class_of(&letter.event), seq: Seq(place) };
        Ok(Some((vec![failed_op(key, &standing, &bytes), gone(letter.number)], bytes.len())))
    }

    /// An event that no subscription got is emitted once more.
    async fn emit_again(
        &self,
        letter: &DeadLetter,
        ground: &Ground,
        due: Timestamp,
        batch: &Batch,
    ) -> Result<Option<(Vec<Op>, usize)>, ArchiveError> {
        let id = ground.ids.next(ground.now);
        let event = Envelope::new((*letter.event).clone().into_draft(), id, ground.now, Lineage::root(id));
        let bytes = record_of(&event)?;
        let mut ops = Vec::new();
        if let Some(version) = event.aggregate().map(|aggregate| aggregate_key(event.tenant(), aggregate)) {
            let is_new = |op: &Op| matches!(op, Op::PutNew { key, .. } if *key == version);
            let taken = self.reader.get(tables::AGGREGATE, std::slice::from_ref(&version)).await?;
            if taken.iter().any(Option::is_some) || batch.ops.iter().any(is_new) {
                return Ok(None);
            }
            ops.push(Op::PutNew { table: tables::AGGREGATE, key: version, value: bytes.clone(), life: None });
        }
        let size = bytes.len() * (ops.len() + 1);
        ops.push(if due > ground.now {
            Op::Put { table: tables::DELAYED, key: row_key((due, id.as_u128())), value: bytes }
        } else {
            append_op(&event, bytes)
        });
        ops.push(gone(letter.number));
        Ok(Some((ops, size)))
    }
}

impl DamagedLetter {
    fn new(key: &[u8], error: StoreError) -> Self {
        let what = if let StoreError::Corrupt { what } = error { what } else { error.to_string() };
        Self { number: key.try_into().ok().map(u64::from_be_bytes), what }
    }
}

fn gone(number: u64) -> Op {
    Op::Delete { table: tables::DEAD, key: Bytes::copy_from_slice(&number.to_be_bytes()) }
}

/// An event's record. It was read from one.
fn record_of(event: &Envelope) -> Result<Bytes, StoreError> {
    event.to_record().map_err(|error| super::corrupt(tables::DEAD, error))
}
