//! One commit after the other: all that came of the deliveries since the last one, with the cursors that say so.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;

use super::{Batch, Durable, Hold, MOST_BYTES, Pending, proposal::Reply};
use crate::{
    dispatch::{Dispatcher, subscriber::Subscriber},
    event::{Envelope, EventId},
    intake::{Landed, Told},
    journal::{DueKey, cursor_key},
    queue::CLASSES,
    stage::Start,
    store::{Class, CommitError, Committed, Op, Seq, StoreError, tables},
};

/// A commit in flight.
pub(super) struct Committing {
    pub(super) number: u64,
    pub(super) events: Vec<(Arc<Envelope>, usize)>,
    pub(super) delayed: Vec<DueKey>,
    pub(super) roots: Vec<EventId>,
    fired: Vec<Bytes>,
    pub(super) dropped: Vec<u64>,
    pub(super) replies: Vec<Reply>,
    outcome: Pending<Result<Committed, CommitError>>,
}

/// The most commits in flight.
const MOST: usize = 2;

impl Dispatcher {
    /// Settles the commits that have landed.
    pub(in crate::dispatch) fn poll_commits(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Some(durable) = &mut self.durable
            && let Some(first) = durable.committing.front_mut()
            && let Poll::Ready(outcome) = first.outcome.as_mut().poll(cx)
        {
            moved = true;
            match outcome {
                Ok(committed) => self.landed(&committed),
                Err(error) => {
                    self.lose(StoreError::Io { what: "a commit".to_owned(), source: Arc::new(error) });
                    return true;
                }
            }
        }
        moved | self.poll_trial(cx)
    }

    fn landed(&mut self, committed: &Committed) {
        let Some(durable) = &mut self.durable else { return };
        let Some(Committing { number, events, delayed, fired, dropped, replies, .. }) = durable.committing.pop_front()
        else {
            return;
        };
        durable.losses = 0;
        durable.care.landed(number);
        durable.forgetting.landed(number);
        self.parts.shelf.landed(number);
        for key in delayed {
            durable.horizon.add(key);
        }
        for key in fired {
            durable.firing.remove(&key);
        }
        self.count_dropped(dropped.len());
        if !events.is_empty() {
            let wanted: Vec<_> = events.iter().map(|(event, _)| self.parts.registry.wants(&event.name)).collect();
            let mut state = self.parts.intake.lock();
            state.log.afloat -= events.len() as u64;
            state.route(events.iter().map(|(event, _)| &event.name), &wanted);
            drop(state);
            let Some(durable) = &mut self.durable else { return };
            let events = committed.appended.iter().zip(events);
            let events = events.map(|(&seq, (event, bytes))| Told { seq, event, bytes }).collect();
            durable.tail.land(Landed { begin: committed.begin, end: committed.end, events });
        } else if let Some(durable) = &mut self.durable {
            let events = Vec::new();
            durable.tail.land(Landed { begin: committed.begin, end: committed.end, events });
        }
        for reply in replies {
            drop(reply.send(Ok(Ok(()))));
        }
        self.parts.intake.lock().log.ends_at(committed.end);
        self.parts.intake.settled.notify_waiters();
    }

    /// Hands the next commit over, if there is something to write.
    pub(super) fn commit(&mut self, cx: &mut Context<'_>) -> bool {
        if self.durable.as_ref().is_none_or(|durable| durable.committing.len() >= MOST || durable.trial.is_some()) {
            return false;
        }
        self.choose_proposals();
        if self.durable.as_ref().is_some_and(|durable| durable.committing.len() > MOST) {
            // What came of those that were turned down has filled them all.
            return true;
        }
        let handed_over = self.hand_over() | self.try_proposals();
        if handed_over {
            // A store that is ready at once needs no second round.
            self.poll_commits(cx);
        }
        handed_over
    }

    /// Hands over all that has come together, with the cursors that say so.
    pub(super) fn hand_over(&mut self) -> bool {
        // What is made up of what never landed, as how far to trim, must not wait for the next claim.
        let Some(tenure) = self.durable.as_ref().and_then(|durable| durable.tenure().cloned()) else { return false };
        self.write_cursors();
        let now = self.parts.intake.clock.now();
        let Some(durable) = &mut self.durable else { return false };
        if durable.batch.ops.is_empty() && now.since(durable.saved_now) < CLOCK_STEP {
            return durable.answer_nothing();
        }
        let Batch { mut ops, events, delayed, roots, fired, dropped, replies, .. } = std::mem::take(&mut durable.batch);
        let clock = durable.clock_op(now);
        let is_told = clock.is_some();
        ops.extend(clock);
        let (number, outcome) = (durable.batch_number, Box::pin(tenure.commit(ops)));
        durable.batch_number += 1;
        durable.committing.push_back(Committing { number, events, delayed, roots, fired, dropped, replies, outcome });
        if is_told {
            self.clock_is_whole();
        }
        true
    }

    /// Sees to it that so many bytes more can be written: hands over what there is, if need be. False where that cannot be
    /// now, for enough is on its way, or nothing may follow what is being tried.
    pub(super) fn make_room(&mut self, bytes: usize) -> bool {
        let Some(durable) = &self.durable else { return true };
        durable.has_room(bytes) || durable.can_hand_over() && self.hand_over()
    }

    /// The cursors of all that has ended since the last commit, and of those who passed over much that nobody wanted.
    fn write_cursors(&mut self) {
        let Some(durable) = &mut self.durable else { return };
        for (_, subscriber) in &mut self.subscribers {
            durable.write_cursors_of(subscriber, LAG);
        }
        self.trim();
    }

    /// A subscriber goes: how far it was is written.
    pub(in crate::dispatch) fn close_reader(&mut self, place: usize) {
        let Some(durable) = &mut self.durable else { return };
        let subscriber = &mut self.subscribers[place];
        durable.write_cursors_of(subscriber, 1);
        match &subscriber.reader {
            Some(reader) => {
                durable.closing.insert(reader.id, durable.batch_number);
                // Also what was written with an outcome that was tried: whoever has the name next begins with that.
                if let Some(known) = durable.known.get_mut(&**subscriber.entry.name()) {
                    known.cursors.clone_from(&reader.cursors);
                }
            }
            None if subscriber.entry.options.start == Start::Latest && !subscriber.entry.options.is_tap => {
                let (name, start) = (Arc::clone(subscriber.entry.name()), subscriber.entry.start.get().copied());
                self.keep_start(&name, start);
            }
            None => {}
        }
    }

    /// A name was marked where it begins, and it keeps that, though it was never opened.
    pub(in crate::dispatch) fn keep_start(&mut self, name: &str, start: Option<Seq>) {
        if let (Some(durable), Some(start)) = (&mut self.durable, start)
            && !durable.known.contains_key(name)
        {
            durable.starts.entry(name.to_owned()).or_insert(start);
        }
    }

    /// How far each is, for a partition that is given back.
    pub(in crate::dispatch) fn write_all_cursors(&mut self) {
        if let Some(durable) = &mut self.durable {
            for (_, subscriber) in &mut self.subscribers {
                durable.write_cursors_of(subscriber, 1);
            }
        }
    }

    /// Writes that the claim has ended as it should.
    fn give_back(&mut self) {
        if let Some(durable) = &mut self.durable {
            durable.batch.ops.extend(durable.care.give_back());
        }
    }

    /// Writes all that came of the deliveries, for a partition that is given back. Ready at once where it is not held; one that
    /// is just being claimed is given back after that.
    pub(crate) fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_claiming = |durable: &Durable| matches!(durable.hold, Hold::Claiming(_));
        if self.durable.as_deref().is_some_and(is_claiming) {
            let is_new = self.durable.as_ref().is_some_and(|durable| durable.care.is_new());
            if !self.hold_partition(cx) {
                return Poll::Pending;
            }
            if let Some(durable) = self.durable.as_mut().filter(|durable| is_new && durable.tenure().is_some()) {
                durable.care.pass_on();
            }
        }
        loop {
            self.poll_commits(cx);
            // What is being tried says itself how far its subscriptions are, and nothing follows that says otherwise.
            if self.durable.as_ref().is_some_and(|durable| durable.trial.is_none()) {
                self.write_all_cursors();
                self.give_back();
            }
            let is_held = self.durable.as_ref().is_some_and(|durable| durable.tenure().is_some());
            if !is_held || !self.commit(cx) {
                break;
            }
        }
        let is_over = self.durable.as_ref().is_none_or(|d| d.is_written() || d.tenure().is_none());
        if is_over && !self.awaits_emits(cx) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether emitted events were handed over and it is not known what became of them. Whoever asks is woken once more is known.
    fn awaits_emits(&self, cx: &Context<'_>) -> bool {
        let mut state = self.parts.intake.lock();
        let is_any = state.log.on_way > 0;
        if is_any {
            state.consumer = Some(cx.waker().clone());
        }
        is_any
    }

    /// Why the store is not held.
    pub(crate) fn store_error(&self) -> Option<&StoreError> {
        let durable = self.durable.as_ref()?;
        durable.error.as_ref().filter(|_| durable.has_failed())
    }
}

impl Durable {
    /// Writes the cursors that have moved: by what has ended, or by so many places that nobody wanted.
    fn write_cursors_of(&mut self, subscriber: &mut Subscriber, lag: u64) {
        let Some(reader) = &mut subscriber.reader else { return };
        let mut moved = false;
        for op in self.care.passed(reader.id, &reader.cursors) {
            self.batch.push(op);
        }
        for class in 0..CLASSES {
            let cursor = &mut reader.cursors[class];
            if reader.is_attached[class] {
                cursor.pass(self.told);
            }
            if !cursor.is_dirty && cursor.high.0 - reader.written[class].0 < lag {
                continue;
            }
            (cursor.is_dirty, moved) = (false, true);
            reader.written[class] = cursor.high;
            #[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
            let key = cursor_key(reader.id, Class(class as u8));
            self.batch.push(Op::Put { table: tables::CURSOR, key, value: cursor.to_bytes() });
        }
        if moved && let Some(known) = self.known.get_mut(&**subscriber.entry.name()) {
            known.cursors.clone_from(&reader.cursors);
        }
    }

    /// Whether so many bytes more go with the batch that is put together now.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.batch.bytes == 0 || self.batch.bytes + bytes <= MOST_BYTES
    }

    /// Whether a batch that has no room for more may be handed over: as a third one beside those that are in flight, if need be.
    pub(super) fn can_hand_over(&self) -> bool {
        self.trial.is_none() && self.committing.len() <= MOST
    }

    /// Whether nothing that was handed over is unsettled.
    pub(super) fn is_written(&self) -> bool {
        self.committing.is_empty() && self.trial.is_none()
    }

    /// Whoever wrote nothing waits for what came before.
    fn answer_nothing(&mut self) -> bool {
        let replies = std::mem::take(&mut self.batch.replies);
        let is_any = !replies.is_empty();
        match self.committing.back_mut() {
            Some(last) => last.replies.extend(replies),
            None => replies.into_iter().for_each(|reply| drop(reply.send(Ok(Ok(()))))),
        }
        is_any
    }
}

/// How far the clock may be ahead of its last reading in the store, while anything moves.
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// Places that a cursor may be behind in the store where nothing but passing over was done.
const LAG: u64 = 1_024;
