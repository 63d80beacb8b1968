//! What a commit may refuse: an attempt's outcome whose events must be the first of their idempotency key or of their
//! aggregate's version, and what depends on such an outcome.
//!
//! A refused row takes its whole batch down. So proposals go in a batch of their own, right behind all that came before
//! them, and nothing is handed over before it is known what became of it: then a later batch never says of a delivery that it is
//! done whose outcome was refused. Many proposals share a batch; the one that is refused is settled, and the rest are tried
//! again.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use millstream_operators::Timestamp;
use tokio::sync::oneshot;

use super::{Batch, Pending, Place};
use crate::{
    dispatch::{Dispatcher, Write, finish::conflict, job::Job},
    event::Envelope,
    intake::{Landed, Prepared, Refusal},
    journal::{Cursor, cursor_key, row_key},
    stage::HandlerError,
    storage::{Stale, StorageError, Writes},
    store::{Class, CommitError, Committed, Op, RowKey, Table, tables},
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

enum Whose {
    /// A delivery whose attempt began then. It has its slot and its key until the answer is known.
    Delivery(Box<Job>, Timestamp),
    Outside(Reply),
}

/// What is to be written, and whose it is.
pub(super) struct Proposal {
    whose: Whose,
    content: Content,
}

/// Proposals that are tried together.
#[derive(Default)]
pub(super) struct Trial {
    proposals: Vec<Proposal>,
    /// The rows that must be new.
    keys: HashSet<RowKey>,
    /// The rows of the storage that are written.
    rows: HashSet<Bytes>,
    bytes: usize,
    /// Once it is handed over.
    outcome: Option<Pending<Result<Committed, CommitError>>>,
}

/// The most proposals in a batch.
const MOST: usize = 1_024;
/// And the most bytes, unless a single one has more.
const MOST_BYTES: usize = 16 << 20;

impl Content {
    /// The rows that must be new.
    fn keys(&self) -> impl Iterator<Item = RowKey> {
        self.events.iter().filter_map(|event| event.held.stored()).flat_map(|stored| {
            let once = stored.once.iter().map(|(key, _)| (tables::ONCE, key));
            let all = once.chain(stored.version.iter().map(|key| (tables::AGGREGATE, key)));
            all.map(|(table, key)| RowKey { table, key: key.clone() })
        })
    }

    pub(super) fn is_conditional(&self) -> bool {
        self.keys().next().is_some()
    }

    pub(super) fn size(&self) -> usize {
        let stored = self.events.iter().filter_map(|event| event.held.stored());
        // An aggregate's event has a row beside its record.
        let events: usize = stored.map(|stored| stored.bytes.len() * (1 + usize::from(stored.version.is_some()))).sum();
        events + self.writes.as_ref().map_or(0, |writes| writes.size())
    }

    fn is_fresh(&self) -> Result<(), Stale> {
        self.writes.as_ref().map_or(Ok(()), |writes| writes.check())
    }
}

impl Trial {
    fn clashes(&self, content: &Content) -> bool {
        content.keys().any(|key| self.keys.contains(&key)) || self.locks(content)
    }

    /// Whether a row of the storage that is to be written may just have changed.
    pub(super) fn locks(&self, content: &Content) -> bool {
        content.writes.as_ref().is_some_and(|writes| writes.changes().any(|(row, _)| self.rows.contains(row)))
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.proposals.is_empty() || self.proposals.len() < MOST && self.bytes + bytes <= MOST_BYTES
    }

    fn add(&mut self, proposal: Proposal) {
        self.bytes += proposal.content.size();
        self.keys.extend(proposal.content.keys());
        let writes = proposal.content.writes.iter();
        self.rows.extend(writes.flat_map(|writes| writes.changes().map(|(row, _)| row.clone())));
        self.proposals.push(proposal);
    }

    /// The proposals, and where it was handed over already, nobody hears of it any more.
    pub(super) fn into_proposals(self) -> Vec<Proposal> {
        self.proposals
    }
}

impl Proposal {
    /// Ends it, where nobody knows what became of it: its delivery, and how many events it had.
    pub(super) fn abandon(self, reason: &str) -> (Option<Job>, Vec<Prepared>) {
        match self.whose {
            Whose::Delivery(job, _) => (Some(*job), self.content.events),
            Whose::Outside(reply) => {
                let _ = reply.send(Err(StorageError::Unknown { reason: reason.to_owned() }));
                (None, self.content.events)
            }
        }
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
        let Write { writes, reply } = write;
        let Some(durable) = &mut self.durable else { return };
        let content = Content { writes: Some(Box::new(writes)), ..Content::default() };
        if durable.trial.as_ref().is_some_and(|trial| trial.locks(&content)) || !self.make_room(content.size()) {
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

    /// Puts together what is tried next. Those that saw what is not there any more are turned down.
    pub(super) fn choose_proposals(&mut self) {
        let Some(durable) = &mut self.durable else { return };
        if durable.proposals.is_empty() || durable.tenure().is_none() {
            return;
        }
        let (mut trial, mut later, mut stale) = (Trial::default(), VecDeque::new(), Vec::new());
        for proposal in durable.proposals.drain(..) {
            if !trial.has_room(proposal.content.size()) || trial.clashes(&proposal.content) {
                later.push_back(proposal);
            } else if let Err(why) = proposal.content.is_fresh() {
                stale.push((proposal, why));
            } else {
                trial.add(proposal);
            }
        }
        durable.proposals = later;
        durable.trial = (!trial.proposals.is_empty()).then_some(trial);
        for (proposal, why) in stale {
            self.turn_down(proposal, &conflict(why));
        }
    }

    /// Hands over what was chosen, right behind all that came before.
    pub(super) fn try_proposals(&mut self) -> bool {
        let Some(durable) = &mut self.durable else { return false };
        let Some(tenure) = durable.tenure().cloned() else { return false };
        let Some(trial) = durable.trial.as_ref().filter(|trial| trial.outcome.is_none()) else { return false };
        let mut batch = Batch::default();
        let mut cursors: BTreeMap<(usize, usize), Cursor> = BTreeMap::new();
        for Proposal { whose, content } in &trial.proposals {
            for event in &content.events {
                let Some(stored) = event.held.stored() else { continue };
                batch.ops.extend(stored.conditions(&event.held.event));
                match event.due {
                    Some(due) => {
                        let (key, value) = (row_key((due, event.held.event.id.as_u128())), stored.bytes.clone());
                        batch.push(Op::Put { table: tables::DELAYED, key, value });
                    }
                    None => batch.append(Arc::clone(&event.held.event), stored.bytes.clone()),
                }
            }
            batch.ops.extend(content.writes.iter().flat_map(|writes| writes.ops()));
            let Whose::Delivery(job, _) = whose else { continue };
            let Some(logged) = job.logged else { continue };
            let (place, class) = (job.subscriber, usize::from(logged.key.class.0));
            let Some(reader) = &self.subscribers[place].reader else { continue };
            match logged.place {
                Place::Log => {
                    let cursor = cursors.entry((place, class)).or_insert_with(|| reader.cursors[class].clone());
                    cursor.done(logged.key.seq);
                }
                Place::Row => batch.push(Op::Delete { table: tables::FAILED, key: logged.key.to_bytes() }),
                Place::Nowhere => {}
            }
        }
        for ((place, class), cursor) in cursors {
            let Some(reader) = &self.subscribers[place].reader else { continue };
            #[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
            let key = cursor_key(reader.id, Class(class as u8));
            batch.push(Op::Put { table: tables::CURSOR, key, value: cursor.to_bytes() });
        }
        if let Some(trial) = &mut durable.trial {
            trial.outcome = Some(Box::pin(tenure.commit(batch.ops)));
        }
        true
    }

    /// Settles what was tried, once all before it has landed.
    pub(super) fn poll_trial(&mut self, cx: &mut std::task::Context<'_>) -> bool {
        let Some(durable) = self.durable.as_mut().filter(|durable| durable.committing.is_empty()) else { return false };
        let Some(outcome) = durable.trial.as_mut().and_then(|trial| trial.outcome.as_mut()) else { return false };
        let std::task::Poll::Ready(outcome) = outcome.as_mut().poll(cx) else { return false };
        if let Err(error) = &outcome
            && error.is_loss()
        {
            let source = Arc::new(error.clone());
            self.lose(crate::store::StoreError::Io { what: "a commit".to_owned(), source });
            return true;
        }
        let Some(trial) = durable.trial.take() else { return true };
        match outcome {
            Ok(committed) => self.accepted(trial, &committed),
            Err(CommitError::Conflict { table, key, .. }) => self.refused(trial, table, &key),
            Err(error) => {
                let error = HandlerError::transient(error);
                trial.proposals.into_iter().for_each(|proposal| self.turn_down(proposal, &error));
            }
        }
        true
    }

    /// All of it is in the store.
    fn accepted(&mut self, trial: Trial, committed: &Committed) {
        let Some(durable) = &mut self.durable else { return };
        let (mut events, mut ended) = (Vec::new(), Vec::new());
        for Proposal { whose, content } in trial.proposals {
            let Content { events: written, looped, writes } = content;
            for prepared in written {
                match prepared.due {
                    Some(due) => durable.horizon.add((due, prepared.held.event.id.as_u128())),
                    None => events.push(prepared.held.event),
                }
            }
            if let Some(writes) = &writes {
                writes.shelf().has_changed(writes);
            }
            ended.push((whose, looped));
        }
        let wanted: Vec<_> = events.iter().map(|event| self.parts.registry.wants(&event.name)).collect();
        let places = committed.appended.iter().copied().zip(events).collect();
        durable.tail.land(Landed { begin: committed.begin, end: committed.end, events: places });
        let mut state = self.parts.intake.lock();
        state.log.afloat -= wanted.len() as u64;
        state.tally.route(&wanted);
        state.log.ends_at(committed.end);
        drop(state);
        for (whose, looped) in ended {
            for (event, refusal) in looped {
                self.parts.intake.count_loop(&event);
                self.loop_died(&event, &refusal);
            }
            match whose {
                Whose::Delivery(job, _) => self.delivered(*job),
                Whose::Outside(reply) => drop(reply.send(Ok(Ok(())))),
            }
        }
        self.parts.intake.settled.notify_waiters();
    }

    /// A delivery whose end is in the store.
    fn delivered(&mut self, job: Job) {
        if let Some(logged) = job.logged
            && let Some(reader) = &mut self.subscribers[job.subscriber].reader
        {
            match logged.place {
                Place::Log => {
                    let cursor = &mut reader.cursors[usize::from(logged.key.class.0)];
                    // It was written as done: only what came after is news.
                    let was_dirty = cursor.is_dirty;
                    cursor.done(logged.key.seq);
                    cursor.is_dirty = was_dirty;
                }
                Place::Row => reader.rows -= 1,
                Place::Nowhere => {}
            }
        }
        self.leave_flight(&job);
        self.has_handled(job);
    }

    /// One row was not new: whose it was is settled, the others are tried again.
    fn refused(&mut self, trial: Trial, table: Table, key: &Bytes) {
        let row = RowKey { table, key: key.clone() };
        let mut again = VecDeque::new();
        let mut turned_down = Vec::new();
        for mut proposal in trial.proposals {
            if proposal.content.keys().all(|key| key != row) {
                again.push_back(proposal);
            } else if table == tables::ONCE {
                let is_it = |event: &Prepared| {
                    event.held.stored().and_then(|stored| stored.once.as_ref()).is_some_and(|(once, _)| once == key)
                };
                let (duplicates, rest) = proposal.content.events.drain(..).partition::<Vec<_>, _>(is_it);
                self.parts.intake.settle_refused(&duplicates, true);
                proposal.content.events = rest;
                again.push_back(proposal);
            } else {
                turned_down.push(proposal);
            }
        }
        if let Some(durable) = &mut self.durable {
            again.append(&mut durable.proposals);
            durable.proposals = again;
        }
        for proposal in turned_down {
            let error = proposal.taken_version(key);
            self.turn_down(proposal, &error);
        }
    }

    /// Nothing of it is written: the delivery has failed, and its next attempt sees what is there now.
    fn turn_down(&mut self, proposal: Proposal, error: &HandlerError) {
        self.parts.intake.settle_refused(&proposal.content.events, false);
        match proposal.whose {
            Whose::Delivery(job, began) => {
                self.leave_flight(&job);
                self.fail(*job, error, began);
            }
            Whose::Outside(reply) => drop(reply.send(Ok(Err(Stale)))),
        }
    }

    /// Ends all proposals: their deliveries are taken out of flight, their events counted as not saved.
    pub(in crate::dispatch) fn take_proposed(&mut self) -> Vec<Job> {
        let Some(durable) = &mut self.durable else { return Vec::new() };
        let tried = durable.trial.take().map(Trial::into_proposals).unwrap_or_default();
        let mut jobs = Vec::new();
        for proposal in tried.into_iter().chain(std::mem::take(&mut durable.proposals)) {
            let (job, events) = proposal.abandon("the store failed, or the runtime was shut down");
            self.parts.intake.settle_refused(&events, false);
            jobs.extend(job);
        }
        for job in &jobs {
            self.done.book.deliveries.in_flight -= 1;
            self.subscribers[job.subscriber].free_slot(job.class());
        }
        jobs
    }
}

impl Proposal {
    /// Says whose version was taken.
    fn taken_version(&self, key: &Bytes) -> HandlerError {
        let is_it = |event: &&Prepared| {
            event.held.stored().and_then(|stored| stored.version.as_ref()).is_some_and(|version| version == key)
        };
        let aggregate = self.content.events.iter().find(is_it).and_then(|event| event.held.event.aggregate());
        let what = aggregate.map_or_else(String::new, |a| format!("version {} of {} `{}`", a.version, a.kind, a.id));
        conflict(format!("{what} is taken by another event"))
    }
}
