//! What comes of a delivery, as steps of the next commit.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use millstream_operators::Timestamp;

use super::{Content, Logged, Place, open::failed_key};
use crate::{
    dead_letter::DeadLetter,
    dispatch::{
        Dispatcher,
        finish::Accepted,
        job::{Job, OrderKey, Past},
        registry::Entry,
    },
    event::{Draft, Envelope, Way},
    intake::{Cause, NotWritten, Prepared, Refusal, class_of, record},
    journal::{Stand, Standing, dead_op, failed_op, row_key},
    stage::{HandlerError, Outputs, contained},
    store::{MAX_BATCH_BYTES, OVERHEAD, Op, Seq, tables},
};

/// The most bytes that one attempt may write: with it, a commit still has room for what ends with it.
const MOST_BYTES: usize = MAX_BATCH_BYTES / 2;

impl Dispatcher {
    /// Takes what an attempt returned into the next commit, all or nothing.
    pub(in crate::dispatch) fn accept_logged(
        &mut self,
        outputs: Outputs,
        job: &Job,
        entry: &Arc<Entry>,
    ) -> Result<Accepted, HandlerError> {
        let Outputs { drafts, writes } = outputs;
        let mut content = self.prepare_content(drafts, job, entry)?;
        content.writes = writes;
        if content.size() > MOST_BYTES {
            let message = format!("an attempt may write {MOST_BYTES} bytes, this one would write {}", content.size());
            return Err(HandlerError::permanent(message));
        }
        let names: Vec<_> = content.events.iter().map(|event| event.held.event.name.clone()).collect();
        let waits = content.is_conditional() || self.is_tried(&content) || !self.make_room(content.size());
        if !waits && let Err(stale) = content.is_fresh() {
            return Ok(Accepted::Stale(stale));
        }
        self.admit(&mut content);
        for name in &names {
            entry.meter.returned(name.as_str());
        }
        if waits {
            return Ok(Accepted::Held(Box::new(content)));
        }
        self.write_content(content);
        Ok(Accepted::Done)
    }

    /// Makes events of what an attempt returned.
    fn prepare_content(&mut self, drafts: Vec<Draft>, job: &Job, entry: &Arc<Entry>) -> Result<Content, HandlerError> {
        let intake = Arc::clone(&self.parts.intake);
        let cause = Cause {
            event: Arc::clone(&job.held.event),
            per_root: entry.options.per_root,
            hold: None,
            way: Way::Returned,
        };
        let mut content = Content::default();
        let mut looped = Vec::new();
        let now = intake.clock.now();
        for mut draft in drafts {
            // Looks at the data and writes it, which is the user's.
            contained(|| intake.check(&mut draft))?.map_err(HandlerError::permanent)?;
            match contained(|| intake.prepare(now, draft, Some(&cause), None))? {
                Ok(prepared) => content.events.push(prepared),
                Err(refused) if matches!(refused.reason, Refusal::TooDeep { .. }) => looped.push(refused),
                Err(refused) => return Err(HandlerError::permanent(refused.reason)),
            }
        }
        for refused in looped {
            content.looped.push((Arc::new(intake.envelope_of(refused.event, &cause)), refused.reason));
        }
        content.check_versions()?;
        Ok(content)
    }

    /// Whether what it would write is just being tried.
    fn is_tried(&self, content: &Content) -> bool {
        self.durable.as_ref().and_then(|durable| durable.trial.as_ref()).is_some_and(|trial| trial.locks(content))
    }

    /// Counts what an attempt returned. What its root may not cause is stopped; what has the key of another one of them is a
    /// duplicate.
    fn admit(&mut self, content: &mut Content) {
        let intake = &self.parts.intake;
        let mut keys = HashSet::new();
        for prepared in std::mem::take(&mut content.events) {
            if let Err(refusal) = intake.admit_returned(&prepared) {
                content.looped.push((prepared.held.event, refusal));
                continue;
            }
            let once = prepared.held.stored().and_then(|stored| stored.once.as_ref());
            if once.is_some_and(|(key, _)| !keys.insert(key.clone())) {
                intake.settle_refused(&[prepared], NotWritten::Duplicate);
            } else {
                content.events.push(prepared);
            }
        }
    }

    /// Takes all of it into the next commit.
    pub(super) fn write_content(&mut self, content: Content) {
        let Content { events, looped, writes } = content;
        for (event, refusal) in looped {
            self.parts.intake.count_loop(&event);
            self.loop_died(&event, &refusal);
        }
        for event in events {
            self.append_returned(&event);
        }
        if let (Some(durable), Some(writes)) = (&mut self.durable, writes) {
            self.parts.shelf.sets_out(&writes, durable.batch_number);
            writes.ops().for_each(|op| durable.batch.push(op));
        }
    }

    fn append_returned(&mut self, prepared: &Prepared) {
        let (Some(durable), Some(stored)) = (&mut self.durable, prepared.held.stored()) else { return };
        let (event, bytes) = (&prepared.held.event, stored.bytes.clone());
        durable.batch.roots.extend((event.lineage.depth > 0).then_some(event.lineage.root));
        if let Some(due) = prepared.due {
            let key = (due, event.id.as_u128());
            durable.batch.push(Op::Put { table: tables::DELAYED, key: row_key(key), value: bytes });
            durable.batch.delayed.push(key);
            return;
        }
        durable.batch.append(Arc::clone(event), bytes);
    }

    /// A delivery has ended: its place in the log is done, or its row goes.
    pub(in crate::dispatch) fn log_end(&mut self, job: &Job) {
        if let Some(logged) = job.logged {
            self.log_done(job.subscriber, logged);
        }
    }

    pub(super) fn log_done(&mut self, place: usize, logged: Logged) {
        let Some(durable) = &mut self.durable else { return };
        let Some(reader) = &mut self.subscribers[place].reader else { return };
        durable.attempt_ended(logged.key);
        match logged.place {
            Place::Log => reader.cursors[usize::from(logged.key.class.0)].done(logged.key.seq),
            Place::Row => {
                reader.rows -= 1;
                durable.batch.push(Op::Delete { table: tables::FAILED, key: logged.key.to_bytes() });
            }
            Place::Nowhere => {}
        }
    }

    /// Sees to it that what follows about an event is written together.
    pub(in crate::dispatch) fn make_room_for(&mut self, event: &Envelope) {
        if self.durable.is_some() {
            self.make_room(bytes_of(event).map_or(0, |bytes| bytes.len()));
        }
    }

    /// As [`make_room_for`](Self::make_room_for), however much is on its way. Nothing may be being tried.
    pub(super) fn make_room_at_once_for(&mut self, event: &Envelope) {
        let bytes = bytes_of(event).map_or(0, |bytes| bytes.len());
        if self.durable.as_ref().is_some_and(|durable| !durable.has_room(bytes)) {
            self.hand_over();
        }
    }

    /// Whether a dead letter can be written. One that cannot is one until the runtime ends: its delivery stays open.
    pub(in crate::dispatch) fn can_log_letter(&self, event: &Envelope) -> bool {
        self.durable.is_none() || bytes_of(event).is_some()
    }

    /// Where a dead letter's event lies, as a delivery of its own.
    pub(in crate::dispatch) fn logged_of(&self, place: usize, letter: &DeadLetter) -> Option<Logged> {
        let reader = self.subscribers[place].reader.as_ref()?;
        let key = failed_key(reader.id, letter.event.priority.class(), Seq(letter.place?));
        // It has no place in the cursor, and gets its row when it waits.
        Some(Logged { key, place: Place::Nowhere })
    }

    /// The head of a key has its next attempt: those behind it wait for no more than that.
    pub(in crate::dispatch) fn head_goes_on(&mut self, job: &Job) {
        if let Some(key) = job.order_key().filter(|_| job.has_key && job.logged.is_some())
            && let Some(line) = self.subscribers[job.subscriber].keys.get_mut(&key)
        {
            line.head_waits = false;
        }
    }

    /// A delivery waits for another attempt: it leaves the log, and so do those behind its key.
    pub(in crate::dispatch) fn log_waiting(&mut self, job: &mut Job, due: Timestamp) {
        if job.logged.is_none() {
            return;
        }
        self.log_standing(job, Stand::Waiting, due);
        // Behind one that stays in the log all stay there, or they would overtake each other after a restart.
        if job.has_key && !job.is_in_log() {
            self.log_line(job);
        }
    }

    /// Those that wait behind this delivery's key leave the log, for that may take long.
    pub(in crate::dispatch) fn log_line(&mut self, job: &Job) {
        let Some(key) = job.order_key().filter(|_| job.logged.is_some()) else { return };
        let Some(line) = self.subscribers[job.subscriber].keys.get_mut(&key) else { return };
        line.head_waits = true;
        self.log_line_of(job.subscriber, &key);
    }

    /// Those that wait in a line leave the log, as far as there is room.
    pub(super) fn log_line_of(&mut self, place: usize, key: &OrderKey) {
        let Some(line) = self.subscribers[place].keys.get_mut(key) else { return };
        let mut waiting = std::mem::take(&mut line.waiting);
        for job in &mut waiting {
            self.log_blocked(job);
            if job.is_in_log() {
                break;
            }
        }
        if let Some(line) = self.subscribers[place].keys.get_mut(key) {
            line.waiting = waiting;
        }
    }

    /// A delivery waits behind a key whose head waits.
    pub(in crate::dispatch) fn log_blocked(&mut self, job: &mut Job) {
        if job.logged.is_some_and(|logged| logged.place == Place::Log) {
            self.log_standing(job, Stand::Blocked, self.now);
        }
    }

    fn log_standing(&mut self, job: &mut Job, stand: Stand, due: Timestamp) {
        if let (Some(durable), Some(logged)) = (&mut self.durable, job.logged) {
            durable.attempt_ended(logged.key);
        }
        // What cannot be written stays where it is: after a restart it is as if this had not been tried.
        let Some(bytes) = bytes_of(&job.held.event) else { return };
        let has_room = self.make_room(bytes.len());
        let is_kept = job.logged.is_some_and(|logged| logged.place != Place::Nowhere);
        if !has_room && is_kept && self.is_stuffed() {
            // So does what nobody can write now: it is as it was, until there is room.
            if let Some(durable) = &mut self.durable {
                durable.has_left_behind |= job.is_in_log();
            }
            return;
        }
        let Some(logged) = &mut job.logged else { return };
        let Some(durable) = &mut self.durable else { return };
        let Some(reader) = &mut self.subscribers[job.subscriber].reader else { return };
        let past = job.past.as_deref();
        let standing = Standing {
            stand,
            attempt: job.attempt,
            due,
            first_began: past.map_or(self.now, |past: &Past| past.first_began),
            delay: past.map_or_else(Default::default, |past| past.delay),
            failures: past.map_or_else(Vec::new, |past| past.failures.clone()),
            has_key: stand == Stand::Waiting && job.has_key,
        };
        durable.batch.push(failed_op(logged.key, &standing, &bytes));
        let before = std::mem::replace(&mut logged.place, Place::Row);
        reader.rows += usize::from(before != Place::Row);
        if before == Place::Log {
            reader.cursors[usize::from(logged.key.class.0)].done(logged.key.seq);
        }
    }

    /// A dead letter is kept.
    pub(in crate::dispatch) fn log_letter(&mut self, letter: &DeadLetter) {
        if let (Some(durable), Some(bytes)) = (&mut self.durable, bytes_of(&letter.event)) {
            durable.batch.push(dead_op(letter, &bytes));
        }
    }

    /// A dead letter goes: it is replayed, purged, or dropped for want of room.
    pub(in crate::dispatch) fn log_letter_gone(&mut self, letter: &DeadLetter) {
        if let Some(durable) = &mut self.durable {
            durable.batch.push(letter_gone(letter.number));
        }
    }
}

/// A dead letter's row goes.
pub(super) fn letter_gone(number: u64) -> Op {
    Op::Delete { table: tables::DEAD, key: Bytes::copy_from_slice(&number.to_be_bytes()) }
}

/// An event's record; none where its data, which was written before, cannot be written any more.
pub(super) fn bytes_of(event: &Envelope) -> Option<Bytes> {
    let record = contained(|| event.to_record().map_err(HandlerError::permanent)).and_then(|record| record);
    record.inspect_err(|error| tracing::error!(id = %event.id, %error, "an event cannot be written again")).ok()
}

impl Content {
    /// Two events of one version could never be written together.
    fn check_versions(&self) -> Result<(), HandlerError> {
        let mut versions = HashSet::new();
        let taken = self.events.iter().find(|event| {
            let version = event.held.stored().and_then(|stored| stored.version.as_ref());
            version.is_some_and(|version| !versions.insert(version))
        });
        match taken.and_then(|event| event.held.event.aggregate()) {
            None => Ok(()),
            Some(a) => {
                let message = format!("two events make version {} of {} `{}`", a.version, a.kind, a.id);
                Err(HandlerError::permanent(message))
            }
        }
    }
}

impl super::Batch {
    /// Adds a step.
    pub(super) fn push(&mut self, op: Op) {
        self.bytes += OVERHEAD
            + match &op {
                Op::Put { key, value, .. } | Op::PutNew { key, value, .. } => key.len() + value.len(),
                Op::Delete { key, .. } => key.len(),
                _ => 0,
            };
        self.ops.push(op);
    }

    /// Appends an event to its class's log.
    pub(super) fn append(&mut self, event: Arc<Envelope>, bytes: Bytes) {
        let (class, record) = (class_of(&event), record(&event, bytes));
        self.bytes += record.bytes.len() + record.name.len() + OVERHEAD;
        self.events.push((event, record.bytes.len()));
        match self.ops.last_mut() {
            Some(Op::Append { class: last, records }) if *last == class => records.push(record),
            _ => self.ops.push(Op::Append { class, records: vec![record] }),
        }
    }
}
