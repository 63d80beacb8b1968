//! Opening a subscription: its name is found in the store, or written there, and what it had is taken up.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::stream::StreamExt;

use super::{Durable, Logged, Pending, Place, Reader};
use crate::{
    dispatch::{
        Command, Dispatcher,
        job::{Job, OpenEvent, OrderKey, Past, Stake},
        registry::Entry,
        timers::Due,
    },
    intake::Held,
    journal::{Cursor, FailedKey, Known, Opened, Stand, Standing, Subscribed, cursor_key, open},
    queue::CLASSES,
    stage::{Since, Start},
    store::{Class, Op, Seq, StoreError, tables},
};

/// The reading of one subscription's rows.
pub(super) struct Opening {
    place: usize,
    entry: u64,
    rows: Pending<Result<Opened, StoreError>>,
}

impl Future for Opening {
    type Output = (usize, u64, Result<Opened, StoreError>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.rows.as_mut().poll(cx).map(|opened| (self.place, self.entry, opened))
    }
}

impl Dispatcher {
    /// Opens subscriptions that are not, and takes up what they had.
    pub(super) fn open_subscriptions(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        let closed = |s: &super::super::subscriber::Subscriber| {
            s.reader.is_none() && !s.is_opening && !s.is_broken && s.is_subscribed && !s.entry.options.is_tap
        };
        let places: Vec<_> = self.subscribers.iter().filter(|(_, s)| closed(s)).map(|(place, _)| place).collect();
        for place in places {
            moved |= self.begin_opening(place);
        }
        if moved {
            self.tell_orphans();
        }
        while let Some(durable) = &mut self.durable
            && let Poll::Ready(Some((place, entry, opened))) = durable.opening.poll_next_unpin(cx)
        {
            moved = true;
            match opened {
                Ok(opened) => self.opened(place, entry, opened),
                Err(error) => {
                    let is_here = self.subscribers.get(place).is_some_and(|s| s.entry.id == entry);
                    if is_here && !self.cannot_read(place, &[], error) {
                        return true;
                    }
                }
            }
        }
        moved
    }

    /// Finds the subscription in the store, or writes it there.
    fn begin_opening(&mut self, place: usize) -> bool {
        let Some(durable) = &mut self.durable else { return false };
        let Some(tenure) = durable.tenure().cloned() else { return false };
        let entry = Arc::clone(&self.subscribers[place].entry);
        let name = entry.name().to_string();
        // The letters of a name that changes are written all at once.
        if durable.is_being_forgotten(&name) || entry.options.was.is_some() && durable.trial.is_some() {
            return false;
        }
        if self.is_of_a_stage(&name) {
            self.cannot_open(place);
            return true;
        }
        if let Some(why) = self.harm_of(&name, entry.options.was.as_deref()) {
            self.cannot_read(place, &[], why);
            return true;
        }
        let Some(durable) = &mut self.durable else { return false };
        let is_named =
            |other: &str| self.subscribers.iter().any(|(_, s)| s.is_subscribed && &**s.entry.name() == other);
        // Somebody else may have the earlier name still, or again.
        let was = entry.options.was.as_deref().filter(|was| !durable.known.contains_key(&name) && !is_named(was));
        let known = durable.known.get(&name).or_else(|| durable.known.get(was?)).cloned();
        let Some(mut known) = known.or_else(|| durable.first_known(&entry, was)) else { return false };
        known.row.since = Since::Said(known.row.since.or(entry.options.start));
        let id = known.row.id;
        let is_held = self.subscribers.iter().any(|(_, s)| s.reader.as_ref().is_some_and(|reader| reader.id == id));
        if is_held || !durable.is_closed(id) {
            // It was taken back and subscribed again: what the old one has in flight ends first, and is written.
            return false;
        }
        let was = entry.options.was.as_deref().filter(|was| *was != name && !is_named(was));
        drop(entry.site.origin.set(known.row.origin.as_str().into()));
        self.take_name(&entry, was, known);
        self.subscribers[place].is_opening = true;
        let Some(durable) = &mut self.durable else { return false };
        let rows = Box::pin(async move { open(&tenure, id).await });
        durable.opening.push(Opening { place, entry: entry.id, rows });
        true
    }

    fn opened(&mut self, place: usize, entry: u64, opened: Opened) {
        let is_there = self.subscribers.get(place).is_some_and(|subscriber| subscriber.entry.id == entry);
        if !is_there {
            return;
        }
        self.subscribers[place].is_opening = false;
        if !self.meets_harmed_rows(place, &opened.harmed) {
            return;
        }
        let Some(durable) = &mut self.durable else { return };
        let subscriber = &mut self.subscribers[place];
        let Some(known) = durable.known.get(&**subscriber.entry.name()) else { return };
        subscriber.reader = Some(Reader {
            id: known.row.id,
            since: known.row.since.or(subscriber.entry.options.start),
            cursors: known.cursors.clone(),
            is_attached: [false; CLASSES],
            is_reading: [false; CLASSES],
            resume: std::array::from_fn(|class| known.cursors[class].first_open()),
            written: std::array::from_fn(|class| known.cursors[class].high),
            rows: opened.rows.len(),
        });
        durable.care.opened(known.row.id, &opened.rows.iter().map(|(key, ..)| *key).collect());
        self.halt_keys(place);
        let mut blocked = Vec::new();
        for (key, standing, event) in opened.rows {
            let held = Held { event: Arc::new(event), origin: None };
            let job = self.logged_job(held, place, Logged { key, place: Place::Row });
            self.take_up(job, standing, &mut blocked);
        }
        // Rows lie in the order of their classes; those of a key wait in the order of emission, as they did before.
        blocked.sort_unstable_by_key(|job| job.sequence);
        for job in blocked {
            if let Some(job) = self.pass_key(job) {
                self.ready.push_back(job);
            }
        }
    }

    /// Keys whose head is a dead letter stay halted, also where it is out and is replayed once the subscription is open.
    fn halt_keys(&mut self, place: usize) {
        let subscriber = &mut self.subscribers[place];
        if !subscriber.entry.options.halt {
            return;
        }
        let name = &**subscriber.entry.name();
        let mut halted = self.parts.letters.lock().unwrap_or_else(PoisonError::into_inner).halted(name);
        let commands = self.parts.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = commands.iter().filter_map(|c| if let Command::Replay(asked) = c { Some(asked) } else { None });
        let deferred = self.durable.iter().flat_map(|durable| &durable.replays).chain(asked.flatten());
        halted.extend(deferred.filter_map(|replay| replay.letter.halted(name)));
        for key in halted {
            subscriber.keys.entry(key).or_default().is_halted = true;
        }
    }

    /// One delivery that left the log, where it stood.
    fn take_up(&mut self, mut job: Job, standing: Standing, blocked: &mut Vec<Job>) {
        job.attempt = standing.attempt;
        let Standing { stand, due, first_began, delay, failures, has_key, .. } = standing;
        job.past = Some(Box::new(Past { first_began, delay, failures }));
        let is_ordered = self.subscribers[job.subscriber].is_ordered();
        let key: Option<OrderKey> = job.order_key().filter(|_| is_ordered && has_key);
        if stand == Stand::Blocked {
            blocked.push(job);
            return;
        }
        if let Some(key) = key {
            let line = self.subscribers[job.subscriber].keys.entry(key).or_default();
            (line.head_waits, job.has_key) = (true, true);
        }
        self.count_waiting(&job);
        self.timers.add(due, Due::Attempt(Box::new(job)));
    }

    /// A delivery of an event of the log.
    pub(super) fn logged_job(&mut self, held: Held, place: usize, logged: Logged) -> Job {
        Job { sequence: logged.key.seq.0, logged: Some(logged), ..self.roomless_job(held, place) }
    }

    /// A delivery that holds no room in the queue.
    pub(super) fn roomless_job(&mut self, held: Held, place: usize) -> Job {
        let class = held.event.priority.class();
        let event = self.open.insert(OpenEvent { class, open: 0, with_room: 0, failure: None });
        let job = self.make_job(held, event, place, 0);
        self.open[event].with_room = 0;
        Job { stake: Stake::Logged, ..job }
    }

    /// The name is the subscription's, with what the store has under an earlier one: how far it is, and its dead letters.
    fn take_name(&mut self, entry: &Entry, was: Option<&str>, known: Known) {
        let Some(durable) = &mut self.durable else { return };
        let name = &**entry.name();
        // In the batch of the new name: a process that died in between would leave nobody who has what the earlier one had.
        if let Some(was) = was {
            durable.leave_name(was, name);
        }
        durable.claim_name(name.to_owned(), entry.pattern.as_str(), known);
        let Some(was) = was.filter(|was| !durable.known.contains_key(*was)) else { return };
        // Some may be left of a process that died between two commits.
        let renamed = self.parts.letters.lock().unwrap_or_else(PoisonError::into_inner).rename(was, name);
        for letter in &renamed {
            self.make_room_at_once_for(&letter.event);
            self.log_letter(letter);
        }
    }
}

impl Durable {
    /// What the store has under an earlier name is another's from now on.
    fn leave_name(&mut self, was: &str, name: &str) {
        let is_known = self.known.contains_key(was) || self.starts.contains_key(was);
        if self.known.contains_key(name) || !is_known {
            return;
        }
        self.known.remove(was);
        self.starts.remove(was);
        let key = Bytes::copy_from_slice(was.as_bytes());
        self.batch.push(Op::Delete { table: tables::SUBSCRIPTION, key: key.clone() });
        self.batch.push(Op::Delete { table: tables::START, key });
    }

    /// Where a subscription begins that the store does not know; none while that is not known.
    pub(super) fn beginning(&self, entry: &Entry) -> Option<Seq> {
        let marked = self.starts.get(&**entry.name()).copied();
        marked.or_else(|| Self::start_of(entry.options.start, entry.start.get().copied()))
    }

    /// A subscription that the store does not know; none while it is not known where it begins.
    fn first_known(&mut self, entry: &Entry, was: Option<&str>) -> Option<Known> {
        // An earlier name that was marked and never opened holds what came after its mark.
        let marked = was.and_then(|was| self.starts.get(was)).copied();
        if marked.is_none()
            && let Some(was) = was
        {
            tracing::warn!(
                subscription = &**entry.name(),
                was,
                "the store knows nobody by the earlier name: it begins anew"
            );
        }
        let start = self.beginning(entry).into_iter().chain(marked).min()?;
        self.last_id += 1;
        // Whoever has a mark has begun there, whatever is said now.
        let is_marked = marked.is_some() || self.starts.contains_key(&**entry.name());
        let row = Subscribed {
            id: self.last_id,
            pattern: String::new(),
            origin: self.free_origin(entry.name()),
            since: Since::Said(entry.options.start.since().filter(|_| !is_marked)),
        };
        Some(Known { row, cursors: std::array::from_fn(|_| Cursor::fresh(start)) })
    }

    /// What the effect keys of a new subscription go by: its name, unless one that was renamed has had that before, whose keys
    /// stay what they were.
    fn free_origin(&self, name: &str) -> String {
        let is_taken = |origin: &str| self.known.values().any(|known| known.row.origin == origin);
        let (mut origin, mut number) = (name.to_owned(), 1_u32);
        while is_taken(&origin) {
            number += 1;
            origin = format!("{name}#{number}");
        }
        origin
    }

    /// Whether all is in the store that a reader of before has written.
    fn is_closed(&self, id: u32) -> bool {
        let Some(&number) = self.closing.get(&id) else { return true };
        let is_handed_over = self.batch_number > number || self.batch.ops.is_empty();
        is_handed_over && self.trial.is_none() && self.committing.iter().all(|commit| commit.number > number)
    }

    /// Where a new subscription begins; none while that is not known.
    pub(super) fn start_of(start: Start, end: Option<Seq>) -> Option<Seq> {
        match start {
            Start::Earliest | Start::At(_) => Some(Seq(0)),
            Start::Latest => end,
        }
    }

    /// The name and the pattern are the subscription's from now on.
    fn claim_name(&mut self, name: String, pattern: &str, mut known: Known) {
        pattern.clone_into(&mut known.row.pattern);
        if self.known.get(&name).is_none_or(|before| before.row != known.row) {
            let value = serde_json::to_vec(&known.row).unwrap_or_default().into();
            let key = name.as_bytes().to_vec().into();
            self.batch.push(Op::Put { table: tables::SUBSCRIPTION, key, value });
        }
        // With the name: known without it, it would begin with all that there ever was.
        for (class, cursor) in (0..).map(Class).zip(&mut known.cursors).filter(|(_, cursor)| cursor.is_dirty) {
            let key = cursor_key(known.row.id, class);
            self.batch.push(Op::Put { table: tables::CURSOR, key, value: cursor.to_bytes() });
            cursor.is_dirty = false;
        }
        self.closing.remove(&known.row.id);
        self.starts.remove(&name);
        self.known.insert(name, known);
    }
}

/// Names the delivery of an event.
#[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
pub(super) fn failed_key(subscription: u32, class: usize, seq: Seq) -> FailedKey {
    FailedKey { subscription, class: Class(class as u8), seq }
}
