//! The dispatcher's side of the lock: once a batch, it settles what it did and takes what comes next.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use millstream_operators::Timestamp;

use super::{
    Cause, DispatchBook, EventBook, Granted, Held, Intake, Phase, Prepared, Pulled, Refusal, Saturated, State, What,
};
use crate::{
    event::{Draft, Envelope, EventId, Lineage, Tenant},
    queue::CLASSES,
};

/// What the dispatcher did since it last held the lock.
#[derive(Debug, Default)]
pub(crate) struct Settlement {
    /// What handlers returned. Added before anything is released, so that nothing ever seems at rest that is not.
    pub(crate) returned: Vec<Prepared>,
    /// Events whose last delivery has ended, by class.
    pub(crate) released: [usize; CLASSES],
    /// Their tenants.
    pub(crate) left: Vec<Tenant>,
    /// The books, as they are now.
    pub(crate) book: DispatchBook,
    /// The subscriptions that hold their whole share, where that has changed.
    pub(crate) saturated: Option<Vec<Saturated>>,
    /// Whether something was done that somebody has asked for and waits for, though no book may show it.
    pub(crate) obeyed: bool,
}

/// What the dispatcher learns in return.
#[derive(Debug)]
pub(crate) struct Outlook {
    /// When the next delayed event is due.
    pub(crate) next_due: Option<Timestamp>,
    /// The lowest sequence that still waits in the queue.
    pub(crate) oldest: Option<u64>,
    /// Whether tokens were cancelled, so that a sweep is due.
    pub(crate) cancelled: bool,
    /// How many wait in the queue, by class.
    pub(crate) depth: [usize; CLASSES],
    /// The event book now.
    pub(crate) events: EventBook,
    /// Returned events that their root may not cause any more.
    pub(crate) looped: Vec<(Arc<Envelope>, Refusal)>,
}

/// Why events that a handler returned are not in the log after all.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NotWritten {
    /// Another has their idempotency key.
    Duplicate,
    /// The store refused what they belong to, or nobody knows.
    Unsaved,
    /// The attempt begins again, and returns what it returns then.
    Again,
}

impl Intake {
    /// Settles, then pulls up to `most` events. Where nothing was pulled, `sleeper` is woken by the next event.
    pub(crate) fn exchange(
        self: &Arc<Self>,
        done: &mut Settlement,
        batch: &mut VecDeque<Pulled>,
        most: usize,
        sleeper: Option<&Waker>,
    ) -> Outlook {
        let mut guard = self.lock();
        let state = &mut *guard;
        let looped = self.settle_returned(state, done);
        // Whoever waits is told of changes alone: two drivers in one task would wake each other for ever.
        let changed = std::mem::take(&mut done.obeyed)
            || state.dispatch != done.book
            || done.saturated.is_some()
            || done.released.iter().any(|&n| n > 0);
        state.dispatch = done.book;
        for (class, released) in done.released.iter_mut().enumerate() {
            state.queue.release(class, std::mem::take(released));
        }
        for tenant in done.left.drain(..) {
            state.leave(Some(&tenant));
        }
        if let Some(saturated) = done.saturated.take() {
            state.saturated = saturated;
        }
        if !state.delayed.is_empty() {
            state.move_due(self.clock.now());
        }
        let granted = if state.waiting.is_empty() { Granted::default() } else { self.serve_waiting(state) };
        Self::pull(state, batch, most);
        let sleeper = if batch.is_empty() { sleeper.cloned() } else { None };
        let slept_before = std::mem::replace(&mut state.consumer, sleeper);
        let outlook = Outlook {
            next_due: state.delayed.first_key_value().map(|(&(due, _), _)| due),
            oldest: state.dispatch_is_strict.then(|| state.queue.oldest()).flatten(),
            cancelled: std::mem::take(&mut state.cancelled),
            depth: state.queue.len_by_class(),
            events: state.event_book(),
            looped,
        };
        drop(guard);
        drop(slept_before);
        granted.tell();
        if changed {
            self.settled.notify_waiters();
        }
        outlook
    }

    fn pull(state: &mut State, batch: &mut VecDeque<Pulled>, most: usize) {
        let before = batch.len();
        state.queue.pop_many(most.saturating_sub(before), batch, |(sequence, held)| Pulled { sequence, held });
        state.tally.pulled += (batch.len() - before) as u64;
    }

    fn settle_returned(&self, state: &mut State, done: &mut Settlement) -> Vec<(Arc<Envelope>, Refusal)> {
        let mut looped = Vec::new();
        for prepared in done.returned.drain(..) {
            let lineage = prepared.held.event.lineage;
            if let Some(reason) = Self::exhausted(state, &prepared).or_else(|| self.too_many_delayed(state, &prepared))
            {
                state.tally.emitted += 1;
                state.tally.loops += 1;
                self.observe(&prepared.held.event, What::Emitted);
                looped.push((prepared.held.event, reason));
            } else if prepared.due.is_some() {
                self.store_delayed(state, prepared);
            } else {
                state.tally.emitted += 1;
                self.observe(&prepared.held.event, What::Emitted);
                if lineage.depth > 0 {
                    state.roots.count(lineage.root, self.clock.now());
                }
                state.overdraw(prepared.held);
            }
        }
        looped
    }

    /// A handler that delays what it returns begins new roots, so no count of a root would end it.
    fn too_many_delayed(&self, state: &State, prepared: &Prepared) -> Option<Refusal> {
        let limit = self.limits.delayed;
        (prepared.due.is_some() && state.delayed.len() >= limit).then_some(Refusal::DelayedFull { limit })
    }

    /// Whether an operator may give out an event of this lineage; counts it against its root.
    pub(crate) fn admit_lineage(&self, draft: &Draft, lineage: Lineage) -> Result<(), Refusal> {
        let Lineage { root, depth, .. } = lineage;
        if depth > self.limits.depth {
            return Err(Refusal::TooDeep { name: draft.name.clone(), depth, limit: self.limits.depth });
        }
        if depth > 0 {
            let mut state = self.lock();
            if state.roots.is_spent(root, self.limits.per_root) {
                return Err(Refusal::RootExhausted { name: draft.name.clone(), limit: self.limits.per_root });
            }
            state.roots.count(root, self.clock.now());
        }
        Ok(())
    }

    /// Events of these roots that an operator gave out are not there after all.
    pub(crate) fn take_back_lineage(&self, roots: &[EventId]) {
        let mut state = self.lock();
        for root in roots {
            state.roots.take_back(*root);
        }
    }

    /// Counts an event that a handler returned and that goes to the log, or says why its root may not cause it.
    pub(crate) fn admit_returned(&self, prepared: &Prepared) -> Result<(), Refusal> {
        let mut state = self.lock();
        if let Some(refusal) = Self::exhausted(&state, prepared) {
            return Err(refusal);
        }
        state.tally.emitted += 1;
        match prepared.due {
            Some(_) => state.tally.delayed += 1,
            None => state.log.afloat += 1,
        }
        let lineage = prepared.held.event.lineage;
        if lineage.depth > 0 {
            state.roots.count(lineage.root, self.clock.now());
        }
        drop(state);
        let event = &prepared.held.event;
        self.observe(event, prepared.due.map_or(What::Emitted, |due| What::Delayed { due }));
        Ok(())
    }

    /// Events that handlers returned are not in the log after all.
    pub(crate) fn settle_refused(&self, events: &[Prepared], why: NotWritten) {
        let mut state = self.lock();
        for prepared in events {
            let lineage = prepared.held.event.lineage;
            if lineage.depth > 0 {
                // Returned again, it would count again.
                state.roots.take_back(lineage.root);
            }
            match prepared.due {
                Some(_) => state.tally.undelay(1),
                None => state.log.afloat -= 1,
            }
        }
        let count = events.len() as u64;
        match why {
            NotWritten::Duplicate => state.tally.duplicate += count,
            NotWritten::Unsaved => state.tally.unsaved += count,
            NotWritten::Again => state.tally.emitted -= count,
        }
    }

    /// Counts an event that a handler returned and that was too deep to be queued.
    pub(crate) fn count_loop(&self, event: &Arc<Envelope>) {
        let mut state = self.lock();
        state.tally.emitted += 1;
        state.tally.loops += 1;
        self.observe(event, What::Emitted);
    }

    /// The event that a refused draft would have been.
    pub(crate) fn envelope_of(&self, mut draft: Draft, cause: &Cause) -> Envelope {
        let now = self.clock.now();
        let id = draft.id().unwrap_or_else(|| self.ids.next(now));
        let lineage = cause.pass_on(&mut draft, id, false);
        Envelope::new(draft, id, now, lineage)
    }

    /// Takes no more from outside, or nothing more at all; whoever waits for room is told.
    pub(crate) fn close(&self, phase: Phase) {
        let mut state = self.lock();
        if state.phase != Phase::Stopped {
            state.phase = phase;
        }
        let waiting = state.waiting.take();
        Self::wake(state);
        drop(waiting);
        self.settled.notify_waiters();
    }

    /// Takes out all that waits, for a shutdown to hand back.
    pub(crate) fn park_all(&self) -> Vec<Arc<Envelope>> {
        let mut state = self.lock();
        let mut parked = state.queue.sweep(|_| true);
        for held in &parked {
            state.leave(held.event.tenant.as_ref());
        }
        for (_, held) in std::mem::take(&mut state.log.to_delay) {
            state.release(held.event.priority.class(), held.event.tenant.as_ref());
            state.tally.undelay(1);
            parked.push(held);
        }
        parked.extend(std::mem::take(&mut state.delayed).into_values());
        parked.extend(Self::drop_groups(&mut state));
        state.tally.parked += parked.len() as u64;
        drop(state);
        // Whoever waits for an answer, or for the store, learns that there is none.
        for held in &parked {
            held.tell_refused("the runtime was shut down");
        }
        parked.into_iter().map(|Held { event, .. }| event).collect()
    }
}
