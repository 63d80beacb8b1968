//! Outcomes that a commit may refuse are tried together.
//!
//! A refused row takes its whole batch down. So proposals go in a batch of their own, right behind all that came before
//! them, and nothing is handed over before it is known what became of it: then a later batch never says of a delivery that it is
//! done whose outcome was refused. Many proposals share a batch; the one that is refused is settled, and the rest are tried
//! again.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{
    Batch, Content, Durable, Pending, Place,
    outcome::letter_gone,
    proposal::{Proposal, Whose},
};
use crate::{
    dispatch::{Dispatcher, finish::conflict, job::Job},
    intake::{Landed, NotWritten, Prepared, Told, chain},
    journal::{Cursor, DueKey, cursor_key, row_key, unmark_op},
    stage::HandlerError,
    storage::{Stale, StorageError},
    store::{Class, CommitError, Committed, Op, RowKey, StoreError, Table, tables},
};

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

/// The most bytes, unless a single one has more.
const MOST_BYTES: usize = 16 << 20;

impl Trial {
    /// The most proposals in a batch.
    pub(super) const MOST: usize = 1_024;

    fn clashes(&self, content: &Content) -> bool {
        content.keys().any(|key| self.keys.contains(&key)) || self.locks(content)
    }

    /// Whether a row of the storage that is to be written may just have changed.
    pub(super) fn locks(&self, content: &Content) -> bool {
        content.writes.as_ref().is_some_and(|writes| writes.changes().any(|(row, _)| self.rows.contains(row)))
    }

    fn has_room(&self, bytes: usize, most: usize) -> bool {
        self.proposals.is_empty() || self.proposals.len() < most && self.bytes + bytes <= MOST_BYTES
    }

    fn add(&mut self, proposal: Proposal) {
        self.bytes += proposal.content.size();
        self.keys.extend(proposal.content.keys());
        let writes = proposal.content.writes.iter();
        self.rows.extend(writes.flat_map(|writes| writes.changes().map(|(row, _)| row.clone())));
        self.proposals.push(proposal);
    }

    /// Whether it was handed over, so that it may be in the store.
    pub(super) fn is_on_way(&self) -> bool {
        self.outcome.is_some()
    }

    /// The delayed events that it writes.
    pub(super) fn delayed(&self) -> impl Iterator<Item = DueKey> {
        let events = self.proposals.iter().flat_map(|proposal| &proposal.content.events);
        events.filter_map(|event| Some((event.due?, event.held.event.id.as_u128())))
    }

    /// The proposals, and where it was handed over already, nobody hears of it any more.
    pub(super) fn into_proposals(self) -> Vec<Proposal> {
        self.proposals
    }
}

impl Content {
    /// The rows that must be new, the events, and what is written beside them.
    fn add_to(&self, batch: &mut Batch) {
        for event in &self.events {
            let Some(stored) = event.held.stored() else { continue };
            batch.ops.extend(stored.conditions(&event.held.event));
            match event.due {
                Some(due) => {
                    let (table, value) = (tables::DELAYED, stored.bytes.clone());
                    batch.push(match event.delayed_key() {
                        Some(key) => Op::PutNew { table, key, value, life: None },
                        None => Op::Put { table, key: row_key((due, event.held.event.id.as_u128())), value },
                    });
                }
                None => batch.append(Arc::clone(&event.held.event), stored.bytes.clone()),
            }
        }
        batch.ops.extend(self.writes.iter().flat_map(|writes| writes.ops()));
    }
}

impl Durable {
    /// Puts them before all that waits to be tried.
    fn propose_again(&mut self, proposals: impl IntoIterator<Item = Proposal>) {
        let mut again: VecDeque<_> = proposals.into_iter().collect();
        again.append(&mut self.proposals);
        self.proposals = again;
    }
}

impl Dispatcher {
    /// Puts together what is tried next. Those that saw what is not there any more are turned down first, for what comes of them
    /// goes before it; where there is no room for all of that, nothing is tried yet.
    pub(super) fn choose_proposals(&mut self) {
        let Some(durable) = &mut self.durable else { return };
        if durable.proposals.is_empty() || durable.tenure().is_none() {
            return;
        }
        let (mut trial, mut later, mut stale) = (Trial::default(), VecDeque::new(), VecDeque::new());
        for proposal in durable.proposals.drain(..) {
            if !trial.has_room(proposal.content.size(), durable.most_tried) || trial.clashes(&proposal.content) {
                later.push_back(proposal);
            } else if let Err(why) = proposal.content.is_fresh() {
                stale.push_back((proposal, why));
            } else {
                trial.add(proposal);
            }
        }
        durable.proposals = later;
        self.turn_down_stale(stale);
        let Some(durable) = &mut self.durable else { return };
        if durable.can_hand_over() {
            durable.trial = (!trial.proposals.is_empty()).then_some(trial);
        } else {
            durable.propose_again(trial.proposals);
        }
    }

    /// Turns down those that saw what is not there any more, as far as there is room to write what comes of that. The rest is tried
    /// again.
    fn turn_down_stale(&mut self, mut rest: VecDeque<(Proposal, Stale)>) {
        while !self.is_stuffed()
            && let Some((proposal, why)) = rest.pop_front()
        {
            match proposal.whose {
                Whose::Delivery(job, began) => {
                    self.parts.intake.settle_refused(&proposal.content.events, NotWritten::Again);
                    self.begin_again(*job, why, began);
                }
                _ => self.turn_down(proposal, &conflict(why)),
            }
        }
        if let Some(durable) = &mut self.durable {
            durable.propose_again(rest.into_iter().map(|(proposal, _)| proposal));
        }
    }

    /// Hands over what was chosen, right behind all that came before.
    pub(super) fn try_proposals(&mut self) -> bool {
        let Some(durable) = &mut self.durable else { return false };
        let Some(tenure) = durable.tenure().cloned() else { return false };
        let Some(trial) = durable.trial.as_mut().filter(|trial| trial.outcome.is_none()) else { return false };
        let mut batch = Batch::default();
        let mut cursors: BTreeMap<(usize, usize), Cursor> = BTreeMap::new();
        for Proposal { whose, content } in &trial.proposals {
            content.add_to(&mut batch);
            if let Whose::Letter(letter) = whose {
                batch.push(letter_gone(letter.number));
            }
            let Whose::Delivery(job, _) = whose else { continue };
            let Some(logged) = job.logged else { continue };
            let (place, class) = (job.subscriber, usize::from(logged.key.class.0));
            let Some(reader) = &self.subscribers[place].reader else { continue };
            batch.ops.extend(durable.care.has_marked(logged.key).then(|| unmark_op(logged.key)));
            match logged.place {
                // As it will be once this has landed; until then the delivery is open.
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
        trial.outcome = Some(Box::pin(tenure.commit(batch.ops)));
        true
    }

    /// Settles what was tried, once all before it has landed.
    pub(super) fn poll_trial(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(durable) = self.durable.as_mut().filter(|durable| durable.committing.is_empty()) else { return false };
        let Some(outcome) = durable.trial.as_mut().and_then(|trial| trial.outcome.as_mut()) else { return false };
        let Poll::Ready(outcome) = outcome.as_mut().poll(cx) else { return false };
        if let Err(error) = &outcome
            && error.is_loss()
        {
            let source = Arc::new(error.clone());
            self.lose(StoreError::Io { what: "a commit".to_owned(), source });
            return true;
        }
        let Some(trial) = durable.trial.take() else { return true };
        match outcome {
            Ok(committed) => self.accepted(trial, &committed),
            Err(CommitError::Conflict { table, key, .. }) => self.refused(trial, table, &key),
            Err(error) => self.not_taken(trial, &error),
        }
        true
    }

    /// The store cannot take it, and does not say for whose sake: in smaller parts that shows.
    fn not_taken(&mut self, trial: Trial, error: &CommitError) {
        let Some(durable) = &mut self.durable else { return };
        let count = trial.proposals.len();
        if count > 1 {
            durable.most_tried = count.div_ceil(2);
            durable.propose_again(trial.proposals);
            return;
        }
        for proposal in trial.proposals {
            match proposal.whose {
                Whose::Outside(reply) => drop(reply.send(Err(StorageError::Refused { reason: chain(error) }))),
                _ => self.turn_down(proposal, &HandlerError::transient(error.clone())),
            }
        }
    }

    /// All of it is in the store.
    fn accepted(&mut self, trial: Trial, committed: &Committed) {
        let Some(durable) = &mut self.durable else { return };
        durable.losses = 0;
        durable.most_tried = Trial::MOST.min(durable.most_tried * 2);
        let (mut events, mut ended) = (Vec::new(), Vec::new());
        for Proposal { whose, content } in trial.proposals {
            let Content { events: written, looped, writes } = content;
            for prepared in written {
                let Prepared { held, due, .. } = prepared;
                let bytes = held.stored().map_or(0, |stored| stored.size);
                match due {
                    Some(due) => durable.horizon.add((due, held.event.id.as_u128())),
                    None => events.push((held.event, bytes)),
                }
            }
            if let Some(writes) = &writes {
                writes.shelf().has_changed(writes);
            }
            ended.push((whose, looped));
        }
        let wanted: Vec<_> = events.iter().map(|(event, _)| self.parts.registry.wants(&event.name)).collect();
        let mut state = self.parts.intake.lock();
        state.log.afloat -= wanted.len() as u64;
        state.route(events.iter().map(|(event, _)| &event.name), &wanted);
        state.log.ends_at(committed.end);
        drop(state);
        let places = committed.appended.iter().zip(events);
        let places = places.map(|(&seq, (event, bytes))| Told { seq, event, bytes }).collect();
        durable.tail.land(Landed { begin: committed.begin, end: committed.end, events: places });
        let mut stopped = Vec::new();
        for (whose, looped) in ended {
            stopped.extend(looped);
            match whose {
                Whose::Delivery(job, _) => self.delivered(*job),
                Whose::Letter(_) => {}
                Whose::Outside(reply) => drop(reply.send(Ok(Ok(())))),
            }
        }
        // For these what there is may be handed over, with the cursors of all that is settled.
        for (event, refusal) in stopped {
            self.parts.intake.count_loop(&event);
            self.make_room_for(&event);
            self.loop_died(&event, &refusal);
        }
        self.parts.intake.settled.notify_waiters();
    }

    /// A delivery whose end is in the store.
    fn delivered(&mut self, job: Job) {
        if let (Some(logged), Some(durable)) = (job.logged, &mut self.durable) {
            // Its mark went with it.
            durable.care.ended(logged.key);
        }
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
        let Some(durable) = &mut self.durable else { return };
        let row = RowKey { table, key: key.clone() };
        let mut again = Vec::new();
        let mut turned_down = Vec::new();
        for mut proposal in trial.proposals {
            if proposal.content.keys().all(|key| key != row) {
                again.push(proposal);
            } else if table == tables::ONCE {
                let is_it = |event: &Prepared| {
                    event.held.stored().and_then(|stored| stored.once.as_ref()).is_some_and(|(once, _)| once == key)
                };
                let (duplicates, rest) = proposal.content.events.drain(..).partition::<Vec<_>, _>(is_it);
                self.parts.intake.settle_refused(&duplicates, NotWritten::Duplicate);
                proposal.content.events = rest;
                again.push(proposal);
            } else if table == tables::DELAYED && proposal.content.delay_more(key, &durable.horizon) {
                again.push(proposal);
            } else {
                turned_down.push(proposal);
            }
        }
        durable.propose_again(again);
        for proposal in turned_down {
            let error = match table {
                tables::DELAYED => conflict("another event of its id is due at the end of time"),
                _ => proposal.taken_version(key),
            };
            self.turn_down(proposal, &error);
        }
    }
}
