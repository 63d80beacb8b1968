//! What is to be written of one attempt, and what of it a commit may refuse: events that must be the first of their
//! idempotency key or of their aggregate's version, and what depends on such an outcome.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use millstream_operators::Timestamp;
use tokio::sync::oneshot;

use super::{outcome::bytes_of, trial::Trial};
use crate::{
    dead_letter::DeadLetter,
    dispatch::{Dispatcher, Write, finish::conflict, job::Job},
    event::{Envelope, EventName},
    intake::{NotWritten, Prepared, Refusal, Stored},
    journal::{Horizon, parse_key},
    stage::HandlerError,
    storage::{Stale, StorageError, Writes},
    store::{OVERHEAD, RowKey, tables},
};

/// What is to be written of one attempt, all or nothing.
#[derive(Default)]
pub(in crate::dispatch) struct Content {
    pub(super) events: Vec<Prepared>,
    /// What loop protection stops, once the rest is written.
    pub(super) looped: Vec<(Arc<Envelope>, Refusal)>,
    pub(super) writes: Option<Box<Writes>>,
}

/// Who waits for a write to be in the store.
pub(super) type Reply = oneshot::Sender<Result<Result<(), Stale>, StorageError>>;

pub(super) enum Whose {
    /// A delivery whose attempt began then. It has its slot and its key until the answer is known.
    Delivery(Box<Job>, Timestamp),
    /// A dead letter whose event is emitted once more. It goes with that.
    Letter(Box<DeadLetter>),
    Outside(Reply),
}

/// What is to be written, and whose it is.
pub(super) struct Proposal {
    pub(super) whose: Whose,
    pub(super) content: Content,
}

impl Content {
    /// The rows that must be new.
    pub(super) fn keys(&self) -> impl Iterator<Item = RowKey> {
        self.events.iter().flat_map(|event| {
            let stored = event.held.stored();
            let once = stored.and_then(|stored| stored.once.as_ref()).map(|(key, _)| (tables::ONCE, key.clone()));
            let version = stored.and_then(|stored| stored.version.clone()).map(|key| (tables::AGGREGATE, key));
            let delayed = event.delayed_key().map(|key| (tables::DELAYED, key));
            let all = once.into_iter().chain(version).chain(delayed);
            all.map(|(table, key)| RowKey { table, key })
        })
    }

    /// Another delayed event has this row: ours come right behind it, each at a time that nobody has who is known. Whether there are
    /// such times.
    pub(super) fn delay_more(&mut self, key: &Bytes, horizon: &Horizon) -> bool {
        let Some((due, id)) = parse_key(key) else { return false };
        let is_it = |event: &Prepared| event.delayed_key().as_ref() == Some(key);
        let of_its_id = self.events.iter().filter(|event| event.held.event.id.as_u128() == id && !is_it(event));
        let taken: HashSet<_> = of_its_id.filter_map(|event| event.due).collect();
        let mut ours: Vec<_> = self.events.iter_mut().filter(|event| is_it(event)).collect();
        // Of several of ours the first has the row.
        let first = usize::from(ours.len() > 1);
        let mut last = due;
        for event in &mut ours[first..] {
            loop {
                let next = last + Duration::from_nanos(1);
                if next == last {
                    return false;
                }
                last = next;
                if !taken.contains(&last) && !horizon.has((last, id)) {
                    break;
                }
            }
            event.due = Some(last);
        }
        true
    }

    pub(super) fn is_conditional(&self) -> bool {
        self.keys().next().is_some()
    }

    pub(super) fn size(&self) -> usize {
        let stored = self.events.iter().filter_map(|event| Some((event.held.stored()?, &event.held.event.name)));
        // An aggregate's event has a row beside its record.
        let size = |(stored, name): (&Stored, &EventName)| {
            let record = stored.size + name.as_str().len() + OVERHEAD;
            record * (1 + usize::from(stored.version.is_some()))
        };
        let events: usize = stored.map(size).sum();
        // What is stopped as a loop is a dead letter.
        let looped: usize = self.looped.iter().filter_map(|(event, _)| bytes_of(event)).map(|bytes| bytes.len()).sum();
        events + looped + self.writes.as_ref().map_or(0, |writes| writes.size())
    }

    pub(super) fn is_fresh(&self) -> Result<(), Stale> {
        self.writes.as_ref().map_or(Ok(()), |writes| writes.check())
    }
}

impl Proposal {
    /// Ends it, where nobody knows what became of it: its delivery, and how many events it had.
    pub(super) fn abandon(self, reason: &str) -> (Option<Job>, Vec<Prepared>) {
        match self.whose {
            Whose::Delivery(job, _) => (Some(*job), self.content.events),
            // It is dead in the store, where it is read again.
            Whose::Letter(_) => (None, self.content.events),
            Whose::Outside(reply) => {
                let _ = reply.send(Err(StorageError::Unknown { reason: reason.to_owned() }));
                (None, self.content.events)
            }
        }
    }

    /// Says whose version was taken.
    pub(super) fn taken_version(&self, key: &Bytes) -> HandlerError {
        let is_it = |event: &&Prepared| {
            event.held.stored().and_then(|stored| stored.version.as_ref()).is_some_and(|version| version == key)
        };
        let aggregate = self.content.events.iter().find(is_it).and_then(|event| event.held.event.aggregate());
        let what = aggregate.map_or_else(String::new, |a| format!("version {} of {} `{}`", a.version, a.kind, a.id));
        conflict(format!("{what} is taken by another event"))
    }
}

impl Dispatcher {
    /// Keeps a delivery's outcome until it can be tried.
    pub(in crate::dispatch) fn hold(&mut self, job: Job, began: Timestamp, content: Content) {
        if let Some(durable) = &mut self.durable {
            let whose = Whose::Delivery(Box::new(job), began);
            durable.proposals.push_back(Proposal { whose, content });
        }
    }

    /// Somebody writes from outside of handlers.
    pub(in crate::dispatch) fn write(&mut self, write: Write) {
        let Some(durable) = &mut self.durable else { return };
        if durable.tenure().is_none() {
            // What was handed over under the claim before may land until there is a new one: then what was read is not what is there.
            return durable.writes.push(write);
        }
        let Write { writes, reply } = write;
        let content = Content { writes: Some(Box::new(writes)), ..Content::default() };
        let is_tried = durable.trial.as_ref().is_some_and(|trial| trial.locks(&content));
        if is_tried || !self.make_room(content.size()) {
            if let Some(durable) = &mut self.durable {
                durable.proposals.push_back(Proposal { whose: Whose::Outside(reply), content });
            }
            return;
        }
        if let Err(stale) = content.is_fresh() {
            let _ = reply.send(Ok(Err(stale)));
            return;
        }
        self.write_content(content);
        if let Some(durable) = &mut self.durable {
            durable.batch.replies.push(reply);
        }
    }

    /// Of what came while the partition was not held, what nobody waits for any more is not written: it would be kept for as long as
    /// the store cannot be claimed.
    pub(crate) fn drop_given_up(&mut self) {
        if let Some(durable) = &mut self.durable {
            durable.writes.retain(|write| !write.reply.is_closed());
        }
    }

    /// Nothing of it is written: the delivery has failed, and its next attempt sees what is there now.
    pub(super) fn turn_down(&mut self, proposal: Proposal, error: &HandlerError) {
        self.parts.intake.settle_refused(&proposal.content.events, NotWritten::Unsaved);
        match proposal.whose {
            Whose::Delivery(job, began) => {
                self.leave_flight(&job);
                self.fail(*job, error, began);
            }
            Whose::Letter(letter) => self.keep_again(*letter),
            Whose::Outside(reply) => drop(reply.send(Ok(Err(Stale)))),
        }
    }

    /// Does something with what was handed over to be tried out of its reach.
    pub(in crate::dispatch) fn spare_trial<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let trial = self.durable.as_mut().and_then(|durable| durable.trial.take_if(|trial| trial.is_on_way()));
        let done = work(self);
        if let Some(durable) = &mut self.durable {
            durable.trial = trial;
        }
        done
    }

    /// Ends all proposals: their deliveries are taken out of flight, their events counted as not saved.
    pub(in crate::dispatch) fn take_proposed(&mut self) -> Vec<Job> {
        let Some(durable) = &mut self.durable else { return Vec::new() };
        let tried = durable.trial.take().map(Trial::into_proposals).unwrap_or_default();
        let mut jobs = Vec::new();
        for proposal in tried.into_iter().chain(std::mem::take(&mut durable.proposals)) {
            let (job, events) = proposal.abandon("the store failed, or the runtime was shut down");
            self.parts.intake.settle_refused(&events, NotWritten::Unsaved);
            jobs.extend(job);
        }
        for job in &jobs {
            self.done.book.deliveries.in_flight -= 1;
            self.subscribers[job.subscriber].free_slot(job.class());
        }
        jobs
    }
}
