//! One commit after the other: all that came of the deliveries since the last one, with the cursors that say so.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::{Batch, Durable, Pending};
use crate::{
    dispatch::{Dispatcher, subscriber::Subscriber},
    event::Envelope,
    intake::Landed,
    journal::{DueKey, cursor_key},
    queue::CLASSES,
    store::{Class, CommitError, Committed, Op, StoreError, tables},
};

/// A commit in flight.
pub(super) struct Committing {
    pub(super) events: Vec<Arc<Envelope>>,
    delayed: Vec<DueKey>,
    outcome: Pending<Result<Committed, CommitError>>,
}

/// The most commits in flight.
const MOST: usize = 2;

impl Dispatcher {
    /// Settles the commits that have landed.
    pub(super) fn poll_commits(&mut self, cx: &mut Context<'_>) -> bool {
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
        moved
    }

    fn landed(&mut self, committed: &Committed) {
        let Some(durable) = &mut self.durable else { return };
        let Some(Committing { events, delayed, .. }) = durable.committing.pop_front() else { return };
        for key in delayed {
            durable.horizon.add(key);
        }
        if !events.is_empty() {
            let wanted: Vec<_> = events.iter().map(|event| self.parts.registry.wants(&event.name)).collect();
            let count = events.len() as u64;
            let Some(durable) = &mut self.durable else { return };
            let events = committed.appended.iter().copied().zip(events).collect();
            durable.tail.land(Landed { begin: committed.begin, end: committed.end, events });
            let mut state = self.parts.intake.lock();
            state.log.afloat -= count;
            state.tally.route(&wanted);
        } else if let Some(durable) = &mut self.durable {
            let events = Vec::new();
            durable.tail.land(Landed { begin: committed.begin, end: committed.end, events });
        }
        self.parts.intake.lock().log.ends_at(committed.end);
        self.parts.intake.settled.notify_waiters();
    }

    /// Hands the next commit over, if there is something to write.
    pub(super) fn commit(&mut self, cx: &mut Context<'_>) -> bool {
        if self.durable.as_ref().is_none_or(|durable| durable.committing.len() >= MOST) {
            return false;
        }
        self.write_cursors();
        let now = self.parts.intake.clock.now();
        let Some(durable) = &mut self.durable else { return false };
        if durable.batch.ops.is_empty() && now.since(durable.saved_now) < CLOCK_STEP {
            return false;
        }
        let Some(tenure) = durable.tenure().cloned() else { return false };
        let Batch { mut ops, events, delayed } = std::mem::take(&mut durable.batch);
        ops.extend(durable.clock_op(now));
        let outcome = Box::pin(tenure.commit(ops));
        durable.committing.push_back(Committing { events, delayed, outcome });
        // A store that is ready at once needs no second round.
        self.poll_commits(cx);
        true
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
        if let Some(durable) = &mut self.durable {
            durable.write_cursors_of(&mut self.subscribers[place], 1);
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

    /// Writes all that came of the deliveries, for a partition that is given back. Ready at once where it is not held.
    pub(crate) fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.write_all_cursors();
        loop {
            self.poll_commits(cx);
            let is_held = self.durable.as_ref().is_some_and(|durable| durable.tenure().is_some());
            if !is_held || !self.commit(cx) {
                break;
            }
        }
        let is_over = self.durable.as_ref().is_none_or(|d| d.committing.is_empty() || d.tenure().is_none());
        if is_over { Poll::Ready(()) } else { Poll::Pending }
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
            self.batch.ops.push(Op::Put { table: tables::CURSOR, key, value: cursor.to_bytes() });
        }
        if moved && let Some(known) = self.known.get_mut(&**subscriber.entry.name()) {
            known.cursors.clone_from(&reader.cursors);
        }
    }
}

/// How far the clock may be ahead of its last reading in the store, while anything moves.
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// Places that a cursor may be behind in the store where nothing but passing over was done.
const LAG: u64 = 1_024;
