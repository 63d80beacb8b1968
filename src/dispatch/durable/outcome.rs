//! What comes of a delivery, as steps of the next commit.

use std::sync::Arc;

use bytes::Bytes;
use millstream_operators::Timestamp;

use super::{Logged, Place, open::failed_key};
use crate::{
    dead_letter::DeadLetter,
    dispatch::{
        Dispatcher,
        job::{Job, Past},
        registry::Entry,
    },
    event::{Envelope, Way},
    intake::{Cause, Prepared, Refusal, class_of, record},
    journal::{Stand, Standing, dead_op, failed_op, row_key},
    stage::{HandlerError, Outputs, contained},
    store::{Op, Seq, tables},
};

impl Dispatcher {
    /// Takes what an attempt returned into the next commit, all or nothing.
    pub(in crate::dispatch) fn accept_logged(
        &mut self,
        outputs: Outputs,
        job: &Job,
        entry: &Arc<Entry>,
    ) -> Result<(), HandlerError> {
        let intake = Arc::clone(&self.parts.intake);
        let cause = Cause {
            event: Arc::clone(&job.held.event),
            per_root: entry.options.per_root,
            hold: None,
            way: Way::Returned,
        };
        let mut accepted = Vec::with_capacity(outputs.len());
        let mut looped = Vec::new();
        let now = intake.clock.now();
        for mut draft in outputs.0 {
            // Looks at the data and writes it, which is the user's.
            contained(|| intake.check(&mut draft))?.map_err(HandlerError::permanent)?;
            let name = draft.name.clone();
            match contained(|| intake.prepare(now, draft, Some(&cause), None))? {
                Ok(prepared) => accepted.push((name, prepared)),
                Err(refused) if matches!(refused.reason, Refusal::TooDeep { .. }) => looped.push(refused),
                Err(refused) => return Err(HandlerError::permanent(refused.reason)),
            }
        }
        for refused in looped {
            let event = Arc::new(intake.envelope_of(refused.event, &cause));
            intake.count_loop(&event);
            self.loop_died(&event, &refused.reason);
        }
        for (name, prepared) in accepted {
            entry.meter.returned(name.as_str());
            self.append_returned(&prepared);
        }
        Ok(())
    }

    fn append_returned(&mut self, prepared: &Prepared) {
        let intake = Arc::clone(&self.parts.intake);
        if let Err(refusal) = intake.admit_returned(prepared) {
            intake.count_loop(&prepared.held.event);
            return self.loop_died(&prepared.held.event, &refusal);
        }
        let (Some(durable), Some(stored)) = (&mut self.durable, prepared.held.stored()) else { return };
        let (event, bytes) = (&prepared.held.event, stored.bytes.clone());
        if let Some(due) = prepared.due {
            let key = (due, event.id.as_u128());
            durable.batch.ops.push(Op::Put { table: tables::DELAYED, key: row_key(key), value: bytes });
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
        match logged.place {
            Place::Log => reader.cursors[usize::from(logged.key.class.0)].done(logged.key.seq),
            Place::Row => {
                reader.rows -= 1;
                durable.batch.ops.push(Op::Delete { table: tables::FAILED, key: logged.key.to_bytes() });
            }
            Place::Nowhere => {}
        }
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
        if job.has_key {
            self.log_line(job);
        }
    }

    /// Those that wait behind this delivery's key leave the log, for that may take long.
    pub(in crate::dispatch) fn log_line(&mut self, job: &Job) {
        let Some(key) = job.order_key().filter(|_| job.logged.is_some()) else { return };
        let Some(line) = self.subscribers[job.subscriber].keys.get_mut(&key) else { return };
        line.head_waits = true;
        let mut waiting = std::mem::take(&mut line.waiting);
        for job in &mut waiting {
            self.log_blocked(job);
        }
        if let Some(line) = self.subscribers[job.subscriber].keys.get_mut(&key) {
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
        };
        durable.batch.ops.push(failed_op(logged.key, &standing, &bytes_of(&job.held.event)));
        let before = std::mem::replace(&mut logged.place, Place::Row);
        reader.rows += usize::from(before != Place::Row);
        if before == Place::Log {
            reader.cursors[usize::from(logged.key.class.0)].done(logged.key.seq);
        }
    }

    /// A dead letter is kept.
    pub(in crate::dispatch) fn log_letter(&mut self, letter: &DeadLetter) {
        if let Some(durable) = &mut self.durable {
            durable.batch.ops.push(dead_op(letter, &bytes_of(&letter.event)));
        }
    }

    /// A dead letter goes: it is replayed, purged, or dropped for want of room.
    pub(in crate::dispatch) fn log_letter_gone(&mut self, letter: &DeadLetter) {
        if let Some(durable) = &mut self.durable {
            let key = Bytes::copy_from_slice(&letter.number.to_be_bytes());
            durable.batch.ops.push(Op::Delete { table: tables::DEAD, key });
        }
    }
}

/// An event's record. It was written before, so it can be written again.
fn bytes_of(event: &Envelope) -> Bytes {
    contained(|| event.to_record()).ok().and_then(Result::ok).unwrap_or_default()
}

impl super::Batch {
    /// Appends an event to its class's log.
    pub(super) fn append(&mut self, event: Arc<Envelope>, bytes: Bytes) {
        let (class, record) = (class_of(&event), record(&event, bytes));
        self.events.push(event);
        match self.ops.last_mut() {
            Some(Op::Append { class: last, records }) if *last == class => records.push(record),
            _ => self.ops.push(Op::Append { class, records: vec![record] }),
        }
    }
}
