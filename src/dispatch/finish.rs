//! The end of an attempt, of a delivery, of an event.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use millstream_middleware::{ErrorKind, RetryHint};
use millstream_operators::Timestamp;

use super::{
    dispatcher::Dispatcher,
    job::{Job, Past},
    timers::Due,
};
use crate::{
    dead_letter::{DeadLetter, Death, Failure},
    event::{Envelope, Tenant, Way},
    intake::{Cause, Held, Prepared, Refusal, What},
    request::NoAnswer,
    stage::{HandlerError, Outcome, Outputs, contained},
    storage::Stale,
};

/// What becomes of what an attempt returned.
pub(super) enum Accepted {
    /// It is taken.
    Done,
    /// It may be refused for what is in the store.
    Held(Box<super::durable::Content>),
    /// What it read of the storage and writes was written by another in between.
    Stale(Stale),
}

/// How often an attempt is begun again for what others have written before it is taken for failed. Each time one of those that
/// meet has got on, so they end; one that writes itself what it watches never would.
const MOST_CONFLICTS: u32 = 1_000;

/// What the delivery's next attempt sees is not what this one saw.
pub(super) fn conflict(error: impl Into<crate::stage::BoxError>) -> HandlerError {
    HandlerError::transient(error).with_code("conflict")
}

impl Dispatcher {
    /// Settles an attempt that was in flight.
    pub(super) fn settle(&mut self, job: Job, outcome: Outcome, began: Timestamp) {
        match outcome.and_then(|outputs| self.accept(outputs, &job)) {
            Ok(Accepted::Done) => {
                self.leave_flight(&job);
                self.handled(job);
            }
            Ok(Accepted::Held(content)) => self.hold(job, began, *content),
            Ok(Accepted::Stale(why)) => self.begin_again(job, why, began),
            Err(error) => {
                self.leave_flight(&job);
                if error.kind() == ErrorKind::Panicked {
                    self.done.book.deliveries.panics += 1;
                }
                self.fail(job, &error, began);
                if contained(|| drop(error)).is_err() {
                    self.done.book.deliveries.panics += 1;
                }
            }
        }
    }

    /// What an attempt has read is not there any more: it begins again at once, with its slot and its key, and nothing has failed.
    pub(super) fn begin_again(&mut self, mut job: Job, why: Stale, began: Timestamp) {
        self.done.book.deliveries.conflicts += 1;
        job.conflicts += 1;
        if job.conflicts > MOST_CONFLICTS {
            self.leave_flight(&job);
            return self.fail(job, &conflict(why), began);
        }
        tracing::debug!(event = %job.held.event.name, attempt = job.attempt, "{why}: the attempt begins again");
        self.let_mark_go(&job);
        self.done.book.deliveries.in_flight -= 1;
        self.ready.push_back(job);
    }

    /// Takes what an attempt returned, all or nothing.
    fn accept(&mut self, outputs: Outputs, job: &Job) -> Result<Accepted, HandlerError> {
        if outputs.is_nothing() {
            return Ok(Accepted::Done);
        }
        let entry = Arc::clone(&self.subscribers[job.subscriber].entry);
        if outputs.len() > entry.max_outputs {
            let (count, most) = (outputs.len(), entry.max_outputs);
            let message =
                format!("the handler returned {count} events, allowed are {most}: `max_outputs` declares more");
            return Err(HandlerError::permanent(message));
        }
        if self.durable.is_some() {
            return self.accept_logged(outputs, job, &entry);
        }
        let Outputs { mut drafts, writes } = outputs;
        let intake = Arc::clone(&self.parts.intake);
        for draft in &mut drafts {
            // Looks at the data, which is the user's.
            contained(|| intake.check(draft))?.map_err(HandlerError::permanent)?;
        }
        if let Some(writes) = writes
            && let Err(stale) = self.parts.shelf.write_direct(&writes)
        {
            return Ok(Accepted::Stale(stale));
        }
        let (event, per_root) = (Arc::clone(&job.held.event), entry.options.per_root);
        let cause = Cause { event, per_root, hold: None, way: Way::Returned };
        let now = intake.clock.now();
        for draft in drafts {
            entry.meter.returned(draft.name.as_str());
            match intake.prepare(now, draft, Some(&cause), None) {
                Ok(prepared) => self.take_returned(prepared, job),
                Err(refused) => {
                    let event = Arc::new(intake.envelope_of(refused.event, &cause));
                    intake.count_loop(&event);
                    self.loop_died(&event, &refused.reason);
                }
            }
        }
        Ok(Accepted::Done)
    }

    fn take_returned(&mut self, prepared: Prepared, job: &Job) {
        if let Some(request) = job.held.request() {
            request.offer(&prepared.held.event);
        }
        self.done.returned.push(prepared);
    }

    fn handled(&mut self, job: Job) {
        self.log_end(&job);
        self.has_handled(job);
    }

    /// A delivery has ended well, and the log knows.
    pub(super) fn has_handled(&mut self, job: Job) {
        self.done.book.deliveries.handled += 1;
        self.subscribers[job.subscriber].entry.meter.handled.up();
        self.observe(&job.held.event, job.subscriber, || What::Handled);
        self.release_key(&job);
        self.end(job, None);
    }

    /// An attempt failed: another one, or the dead letters.
    pub(super) fn fail(&mut self, mut job: Job, error: &HandlerError, began: Timestamp) {
        let now = self.parts.intake.clock.now();
        let mut past = job.past.take().unwrap_or_else(|| Box::new(Past::since(began)));
        let failure = self.failure_of(error, job.attempt, now);
        past.remember(failure.clone());
        let verdict = self.verdict(&job, &mut past, error, now);
        if let Ok(delay) = verdict {
            past.delay = delay;
        }
        job.past = Some(past);
        let delay = match verdict {
            Ok(delay) => delay,
            Err(death) => return self.die(job, death, failure),
        };
        tracing::debug!(
            event = %job.held.event.name,
            attempt = job.attempt,
            error = failure.message,
            ?delay,
            "an attempt failed and is tried again"
        );
        self.observe(&job.held.event, job.subscriber, || What::Retrying { error: failure.message, delay });
        (job.attempt, job.conflicts) = (job.attempt + 1, 0);
        self.pin(&mut job);
        self.await_attempt(job, now + delay);
    }

    /// What an error says, which is for the user's code to say: where that panics, the panic is what is said.
    fn failure_of(&mut self, error: &HandlerError, attempt: u32, at: Timestamp) -> Failure {
        contained(|| Failure::of(error, attempt, at)).unwrap_or_else(|panic| {
            self.done.book.deliveries.panics += 1;
            Failure { kind: error.kind(), ..Failure::of(&panic, attempt, at) }
        })
    }

    /// How long until the next attempt, or why there is none. A policy that panics is no reason for another one.
    fn verdict(&mut self, job: &Job, past: &mut Past, error: &HandlerError, now: Timestamp) -> Result<Duration, Death> {
        let policy = &self.subscribers[job.subscriber].entry.retry;
        let elapsed = now.since(past.first_began);
        let asked = contained(|| {
            let hint = policy.hint(error);
            (hint, policy.policy().next_delay(job.attempt, elapsed, past.delay, hint, &mut self.random))
        });
        let (hint, delay) = asked.unwrap_or_else(|panic| {
            self.done.book.deliveries.panics += 1;
            past.remember(Failure::of(&panic, job.attempt, now));
            (RetryHint::Never, None)
        });
        match delay.filter(|_| !job.is_cancelled()) {
            Some(_) if self.is_over_retries(job) => Err(Death::RetryQuota),
            Some(delay) => Ok(delay),
            None if hint == RetryHint::Never => Err(Death::Permanent),
            None => Err(Death::Exhausted),
        }
    }

    /// Keeps a delivery until its next attempt is due. It has no slot meanwhile; its key it keeps.
    pub(super) fn await_attempt(&mut self, mut job: Job, due: Timestamp) {
        self.log_waiting(&mut job, due);
        self.count_waiting(&job);
        self.timers.add(due, Due::Attempt(Box::new(job)));
    }

    /// Counts a delivery as waiting for its next attempt.
    pub(super) fn count_waiting(&mut self, job: &Job) {
        self.done.book.deliveries.waiting += 1;
        self.subscribers[job.subscriber].entry.meter.waiting.up();
        if let Some(tenant) = job.tenant().cloned().filter(|tenant| self.parts.quotas.of(tenant).retries.is_some()) {
            self.loads.entry(tenant).or_default().retries += 1;
        }
    }

    fn is_over_retries(&self, job: &Job) -> bool {
        let limit = job.tenant().and_then(|tenant| self.parts.quotas.of(tenant).retries.map(|limit| (tenant, limit)));
        limit.is_some_and(|(tenant, limit)| self.loads.get(tenant).is_some_and(|load| load.retries >= limit.get()))
    }

    /// Takes a delivery out of backoff.
    pub(super) fn end_wait(&mut self, job: &Job) {
        self.done.book.deliveries.waiting -= 1;
        self.subscribers[job.subscriber].entry.meter.waiting.down();
        if let Some(load) = job.tenant().and_then(|tenant| self.loads.get_mut(tenant)) {
            load.retries = load.retries.saturating_sub(1);
        }
        self.forget_idle_load(job.tenant().cloned());
    }

    /// The next attempt is due.
    pub(super) fn wake_up(&mut self, job: Job) {
        self.end_wait(&job);
        self.resume_own_key(&job);
        self.head_goes_on(&job);
        if job.is_cancelled() {
            return self.cancel(job);
        }
        if job.attempt > 1 {
            self.done.book.deliveries.retried += 1;
            self.subscribers[job.subscriber].entry.meter.retried.up();
        }
        if let Some(job) = self.pass_key(job) {
            self.ready.push_back(job);
        }
    }

    /// A delivery that never got as far as a handler, because matching itself panicked.
    pub(super) fn refuse(&mut self, held: Held, event: usize, place: usize, sequence: u64, error: &HandlerError) {
        let job = self.make_job(held, event, place, sequence);
        self.done.book.deliveries.panics += 1;
        self.fail(job, error, self.now);
    }

    pub(super) fn die(&mut self, job: Job, death: Death, failure: Failure) {
        tracing::warn!(
            event = %job.held.event.name,
            id = %job.held.event.id,
            subscription = &**self.subscribers[job.subscriber].entry.name(),
            attempts = job.attempt,
            error = failure.message,
            "a delivery went to the dead letters"
        );
        self.open[job.event].failure.get_or_insert_with(|| NoAnswer::Failed {
            subscription: self.subscribers[job.subscriber].entry.name().to_string(),
            source: Arc::new(HandlerError::new(failure.kind, failure.message)),
        });
        self.bury(job, death);
    }

    /// Puts a delivery into the dead letters.
    pub(super) fn bury(&mut self, job: Job, death: Death) {
        let subscriber = &self.subscribers[job.subscriber];
        let failures = job.past.as_ref().map_or_else(Vec::new, |past| past.failures.clone());
        let halts = subscriber.entry.options.halt && job.has_key;
        let attempts = if failures.is_empty() { 0 } else { job.attempt };
        let letter = DeadLetter {
            number: 0,
            event: Arc::clone(&job.held.event),
            subscription: Some(subscriber.entry.name().to_string()),
            death,
            attempts,
            failures,
            died_at: self.parts.intake.clock.now(),
            place: job.logged.as_ref().map(|logged| logged.key.seq.0),
            asked: None,
            // Whoever has the name next is not halted behind a letter of the one before.
            halts: halts && (job.logged.is_some() || !self.has_left(job.subscriber)),
        };
        self.observe(&job.held.event, job.subscriber, || What::Dead { reason: letter.reason() });
        subscriber.entry.meter.dead.up();
        if self.can_log_letter(&letter.event) {
            self.make_room_for(&letter.event);
            self.log_end(&job);
        }
        self.let_mark_go(&job);
        self.keep(letter);
        self.done.book.deliveries.dead += 1;
        if halts {
            self.halt_key(&job);
            self.log_line(&job);
            if self.has_left(job.subscriber) {
                self.let_parked_go(job.subscriber);
            }
        } else {
            self.release_key(&job);
        }
        self.end(job, None);
    }

    /// Puts an event into the dead letters that no delivery of it stands for.
    pub(super) fn bury_event(&mut self, event: &Arc<Envelope>, death: Death, failure: Option<Failure>) {
        let letter = DeadLetter {
            number: 0,
            event: Arc::clone(event),
            subscription: None,
            death,
            attempts: 0,
            failures: failure.into_iter().collect(),
            died_at: self.parts.intake.clock.now(),
            place: None,
            asked: None,
            halts: false,
        };
        self.keep(letter);
    }

    fn keep(&mut self, mut letter: DeadLetter) {
        let mut letters = self.parts.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letter.number = letters.next_number();
        let gone = letters.add(letter.clone());
        drop(letters);
        self.log_letter(&letter);
        self.let_all_go(gone);
    }

    /// These dead letters were dropped for want of room: nobody can replay or purge them any more.
    pub(super) fn let_all_go(&mut self, gone: Vec<DeadLetter>) {
        for letter in gone {
            tracing::warn!(event = %letter.event.name, number = letter.number, "a dead letter was dropped for want of room");
            self.let_go(&letter);
            match &mut self.durable {
                Some(durable) => durable.drops(letter.number),
                None => self.count_dropped(1),
            }
        }
    }

    /// So many dead letters were dropped for want of room, and are gone.
    pub(super) fn count_dropped(&self, letters: usize) {
        if letters == 0 {
            return;
        }
        self.parts.letters.lock().unwrap_or_else(PoisonError::into_inner).count_dropped(letters);
        metrics::counter!("millstream_dropped_total", "stage" => "dead_letters", "reason" => "overflow")
            .increment(letters as u64);
    }

    /// An event that a handler returned and that loop protection stops here.
    pub(super) fn loop_died(&mut self, event: &Arc<Envelope>, refusal: &Refusal) {
        tracing::warn!(event = %event.name, depth = event.lineage.depth, %refusal, "a loop was stopped");
        self.parts.intake.observe(event, What::Dropped { reason: "loop" });
        let error = HandlerError::permanent(refusal.clone());
        let failure = Failure::of(&error, 0, self.parts.intake.clock.now());
        self.bury_event(event, Death::Loop, Some(failure));
    }

    pub(super) fn cancel(&mut self, job: Job) {
        self.done.book.deliveries.cancelled += 1;
        self.observe(&job.held.event, job.subscriber, || What::Dropped { reason: "cancelled" });
        self.release_key(&job);
        self.end(job, Some(NoAnswer::Abandoned));
    }

    /// Cancels a delivery that has its slot and has not begun.
    pub(super) fn cancel_ready(&mut self, job: Job) {
        self.done.book.deliveries.in_flight += 1;
        self.leave_flight(&job);
        self.cancel(job);
    }

    /// A delivery has ended, one way or another.
    #[expect(clippy::needless_pass_by_value, reason = "the delivery is over: nobody has it any more")]
    pub(super) fn end(&mut self, job: Job, failure: Option<NoAnswer>) {
        self.unpin(&job);
        let subscriber = &mut self.subscribers[job.subscriber];
        subscriber.open -= 1;
        let is_gone = !subscriber.is_subscribed && subscriber.open == 0;
        if let Some(failure) = failure {
            self.open[job.event].failure.get_or_insert(failure);
        }
        self.close(job.event, &job.held, job.stake.has_room());
        if is_gone {
            self.drop_subscriber(job.subscriber);
        }
    }

    /// One delivery less keeps the event open; the last one gives its room back.
    pub(super) fn close(&mut self, event: usize, held: &Held, has_room: bool) {
        let open = &mut self.open[event];
        open.open -= 1;
        let class = open.class;
        let is_over = open.open == 0;
        if has_room {
            open.with_room -= 1;
            if open.with_room == 0 {
                self.leave(class, held.event.tenant.as_ref());
            }
        }
        if is_over {
            let ended = self.open.remove(event);
            if let Some(request) = held.request() {
                request.fail(ended.failure.unwrap_or(NoAnswer::NoReply));
            }
        }
    }

    /// A delivery beyond its subscription's share does not hold room.
    pub(super) fn give_room_back(&mut self, job: &Job) {
        let open = &mut self.open[job.event];
        open.with_room -= 1;
        if open.with_room == 0 {
            let class = open.class;
            self.leave(class, job.tenant());
        }
    }

    /// An event's room is free again.
    pub(super) fn leave(&mut self, class: usize, tenant: Option<&Tenant>) {
        self.done.released[class] += 1;
        if let Some(tenant) = tenant {
            self.done.left.push(tenant.clone());
        }
    }
}
