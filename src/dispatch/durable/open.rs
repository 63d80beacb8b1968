//! Opening a subscription: its name is found in the store, or written there, and what it had is taken up.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::stream::StreamExt;

use super::{Durable, Logged, Pending, Place, Reader};
use crate::{
    dispatch::{
        Dispatcher, Replay,
        job::{Job, OpenEvent, OrderKey, Past, Stake},
        timers::Due,
    },
    intake::Held,
    journal::{Cursor, FailedKey, Known, Opened, Stand, Standing, Subscribed, cursor_key, open},
    queue::CLASSES,
    stage::Start,
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
            s.reader.is_none() && !s.is_opening && s.is_subscribed && !s.entry.options.is_tap
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
                Ok(opened) => {
                    self.opened(place, entry, opened);
                    self.replay_waiting();
                }
                Err(error) => {
                    self.lose(error);
                    return true;
                }
            }
        }
        moved
    }

    /// Whether a delivery can be written: there is no store, or it is held.
    pub(in crate::dispatch) fn holds_partition(&self) -> bool {
        self.durable.as_ref().is_none_or(|durable| durable.tenure().is_some())
    }

    /// A dead letter can be delivered again, unless its subscription is not open yet: then it waits for that.
    pub(in crate::dispatch) fn begin_replay(&mut self, place: usize, replay: Replay) -> Option<Replay> {
        let is_open = self.subscribers[place].reader.is_some();
        match &mut self.durable {
            Some(durable) if !is_open => {
                durable.replays.push(replay);
                None
            }
            _ => Some(replay),
        }
    }

    /// Finds the subscription in the store, or writes it there.
    fn begin_opening(&mut self, place: usize) -> bool {
        let Some(durable) = &mut self.durable else { return false };
        let Some(tenure) = durable.tenure().cloned() else { return false };
        let entry = Arc::clone(&self.subscribers[place].entry);
        let name = entry.name().to_string();
        let was = entry.options.was.clone().filter(|_| !durable.known.contains_key(&name));
        let old = was.and_then(|was| durable.known.remove(&was).map(|known| (was, known)));
        let known = match (durable.known.get(&name), old) {
            (Some(known), _) => known.clone(),
            (None, Some((was, known))) => {
                let key: Bytes = was.into_bytes().into();
                durable.batch.push(Op::Delete { table: tables::SUBSCRIPTION, key: Bytes::clone(&key) });
                durable.batch.push(Op::Delete { table: tables::START, key });
                known
            }
            (None, None) => {
                let marked = durable.starts.get(&name).copied();
                let Some(start) = marked.or_else(|| Durable::start_of(entry.options.start, entry.start.get().copied()))
                else {
                    return false;
                };
                durable.last_id += 1;
                let row = Subscribed { id: durable.last_id, pattern: String::new(), origin: name.clone() };
                Known { row, cursors: std::array::from_fn(|_| Cursor::fresh(start)) }
            }
        };
        let id = known.row.id;
        if self.subscribers.iter().any(|(_, s)| s.reader.as_ref().is_some_and(|reader| reader.id == id)) {
            // It was taken back and subscribed again: what the old one has in flight ends first.
            return false;
        }
        let Some(durable) = &mut self.durable else { return false };
        let known = durable.claim_name(name, entry.pattern.as_str(), known);
        self.subscribers[place].is_opening = true;
        drop(entry.site.origin.set(known.row.origin.as_str().into()));
        let rows = Box::pin(async move { open(&tenure, id).await });
        durable.opening.push(Opening { place, entry: entry.id, rows });
        true
    }

    /// Those that waited for a subscription to be open, and still wait where it was another's.
    fn replay_waiting(&mut self) {
        let waiting = self.durable.as_mut().map(|durable| std::mem::take(&mut durable.replays));
        waiting.into_iter().flatten().for_each(|replay| self.replay(replay));
    }

    fn opened(&mut self, place: usize, entry: u64, opened: Opened) {
        let is_there = self.subscribers.get(place).is_some_and(|subscriber| subscriber.entry.id == entry);
        let Some(durable) = self.durable.as_mut().filter(|_| is_there) else { return };
        let subscriber = &mut self.subscribers[place];
        subscriber.is_opening = false;
        let Some(known) = durable.known.get(&**subscriber.entry.name()) else { return };
        subscriber.reader = Some(Reader {
            id: known.row.id,
            cursors: known.cursors.clone(),
            is_attached: [false; CLASSES],
            is_reading: [false; CLASSES],
            resume: std::array::from_fn(|class| known.cursors[class].first_open()),
            written: std::array::from_fn(|class| known.cursors[class].high),
            rows: opened.rows.len(),
            broken: None,
        });
        self.halt_keys(place);
        let mut blocked = Vec::new();
        for (key, standing, event) in opened.rows {
            let held = Held { event: Arc::new(event), origin: None };
            let job = self.logged_job(held, place, Logged { key, place: Place::Row });
            self.take_up(job, standing, &mut blocked);
        }
        for job in blocked {
            if let Some(job) = self.pass_key(job) {
                self.ready.push_back(job);
            }
        }
    }

    /// Keys whose head is a dead letter stay halted.
    fn halt_keys(&mut self, place: usize) {
        let subscriber = &mut self.subscribers[place];
        if !subscriber.entry.options.halt {
            return;
        }
        let letters = self.parts.letters.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let name = &**subscriber.entry.name();
        for (tenant, key) in letters.halted(name) {
            subscriber.keys.entry((tenant, key)).or_default().is_halted = true;
        }
    }

    /// One delivery that left the log, where it stood.
    fn take_up(&mut self, mut job: Job, standing: Standing, blocked: &mut Vec<Job>) {
        job.attempt = standing.attempt;
        let Standing { stand, due, first_began, delay, failures, .. } = standing;
        job.past = Some(Box::new(Past { first_began, delay, failures }));
        if stand == Stand::Blocked {
            blocked.push(job);
            return;
        }
        let subscriber = &self.subscribers[job.subscriber];
        // Who is replayed gets his key when he is due, like anybody else: another may be its head. Where keys are halted,
        // nobody else can be.
        let is_head = subscriber.is_ordered() && (job.attempt > 1 || subscriber.entry.options.halt);
        let key: Option<OrderKey> = job.order_key().filter(|_| is_head);
        if let Some(key) = key {
            let line = self.subscribers[job.subscriber].keys.entry(key).or_default();
            (line.head_waits, job.has_key) = (true, true);
        }
        self.count_waiting(&job);
        self.timers.add(due, Due::Attempt(Box::new(job)));
    }

    /// A delivery of an event of the log. It holds no room in the queue.
    pub(super) fn logged_job(&mut self, held: Held, place: usize, logged: Logged) -> Job {
        let class = held.event.priority.class();
        let event = self.open.insert(OpenEvent { class, open: 0, with_room: 0, failure: None });
        let mut job = self.make_job(held, event, place, logged.key.seq.0);
        self.open[event].with_room = 0;
        job.stake = Stake::Logged;
        job.logged = Some(logged);
        job
    }

    /// A subscription is forgotten for good, with all that waits for it.
    pub(in crate::dispatch) fn forget(&mut self, name: &str) {
        if self.subscribers.iter().any(|(_, s)| &**s.entry.name() == name) {
            return;
        }
        let Some(durable) = &mut self.durable else { return };
        let is_stage = durable.stage_cursors.contains_key(name);
        if is_stage && !durable.stages.iter().any(|stage| &*stage.border().stage == name) {
            durable.to_forget.push(name.to_owned());
        }
        let Some(known) = durable.known.remove(name) else { return };
        let ops = &mut durable.batch.ops;
        let key = Bytes::copy_from_slice(name.as_bytes());
        ops.push(Op::Delete { table: tables::SUBSCRIPTION, key: key.clone() });
        ops.push(Op::Delete { table: tables::START, key });
        #[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
        let classes = (0..CLASSES).map(|class| Class(class as u8));
        ops.extend(classes.map(|class| Op::Delete { table: tables::CURSOR, key: cursor_key(known.row.id, class) }));
        self.tell_orphans();
    }
}

impl Durable {
    /// Where a new subscription begins; none while that is not known.
    pub(super) fn start_of(start: Start, end: Option<Seq>) -> Option<Seq> {
        match start {
            Start::Earliest | Start::At(_) => Some(Seq(0)),
            Start::Latest => end,
        }
    }

    /// The name and the pattern are the subscription's from now on.
    fn claim_name(&mut self, name: String, pattern: &str, mut known: Known) -> Known {
        if known.row.pattern != pattern || !self.known.contains_key(&name) {
            pattern.clone_into(&mut known.row.pattern);
            let value = serde_json::to_vec(&known.row).unwrap_or_default().into();
            let key = name.as_bytes().to_vec().into();
            self.batch.push(Op::Put { table: tables::SUBSCRIPTION, key, value });
        }
        self.known.insert(name, known.clone());
        known
    }
}

/// Names the delivery of an event.
#[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
pub(super) fn failed_key(subscription: u32, class: usize, seq: Seq) -> FailedKey {
    FailedKey { subscription, class: Class(class as u8), seq }
}
