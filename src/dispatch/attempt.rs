//! One attempt: begun and polled in place, parked if it waits, timed out if it takes too long.

use std::{sync::Arc, task::Context};

use futures_util::future::{AbortHandle, Abortable};
use millstream_middleware::ErrorKind;
use tracing::{Level, Span, level_filters::LevelFilter};

use super::{
    dispatcher::Dispatcher,
    job::Job,
    meters::TIMED,
    running::{InFlight, Running},
    timers::Due,
};
use crate::{
    intake::{Current, What},
    stage::{Delivery, HandlerError, Outcome, Parked, Started},
};

impl Dispatcher {
    /// Begins an attempt of a delivery that has its slot.
    pub(super) fn start(&mut self, mut job: Job, cx: &mut Context<'_>) {
        self.done.book.deliveries.in_flight += 1;
        let span = self.span_of(&job);
        self.observe(&job, || What::Started { attempt: job.attempt });
        let subscriber = &mut self.subscribers[job.subscriber];
        let began = subscriber.durations.is_next().then(|| self.parts.intake.clock.now());
        let (site, id) = (&subscriber.entry.site, job.id);
        let above = job.held.request.as_ref().and_then(|request| request.hold.clone());
        let event = Arc::clone(&job.held.event);
        let delivery = Delivery::new(event, job.attempt, id, Arc::clone(site), above.clone());
        self.beat.begin(site.subscription);
        let before = Current {
            intake: self.parts.intake.address(),
            event: job.held.event,
            subscription: site.subscription,
            delivery: id,
            ordered: site.ordered,
            per_root: site.per_root,
            above,
        }
        .enter();
        let started = match &span {
            None => subscriber.call.start(delivery, cx),
            Some(span) => span.in_scope(|| subscriber.call.start(delivery, cx)),
        };
        let current = Current::leave(before);
        self.beat.end();
        // Whatever a handler polled inside, the current delivery is this one again.
        let Some(current) = current else { return };
        job.held.event = Arc::clone(&current.event);
        match started {
            Started::Done(outcome) => {
                drop(current);
                if let Some(began) = began {
                    let took = self.parts.intake.clock.now().since(began);
                    self.subscribers[job.subscriber].durations.record(took, outcome.is_ok(), TIMED);
                }
                self.settle(job, outcome, self.now);
            }
            Started::Parked(attempt) => self.park(job, attempt, current, span),
        }
    }

    /// The attempt waits for something: from now on it is polled when it is woken, and has a time limit.
    fn park(&mut self, mut job: Job, attempt: Parked, current: Current, span: Option<Span>) {
        self.pin(&mut job);
        let limit = self.subscribers[job.subscriber].entry.options.timeout.unwrap_or(self.parts.timeout);
        let began = self.parts.intake.clock.now();
        let place = self.in_flight.vacant_key();
        let timeout = Some(self.timers.add(began + limit, Due::Timeout(place)));
        let running = Running::new(place, attempt, current, span.unwrap_or_else(Span::none), Arc::clone(&self.beat));
        let (abort, registration) = AbortHandle::new_pair();
        self.in_flight.insert(InFlight { job, began, timeout, abort });
        self.running.push(Abortable::new(running, registration));
    }

    /// A parked attempt has ended.
    pub(super) fn complete(&mut self, place: usize, outcome: Outcome) {
        let Some(InFlight { job, began, timeout, .. }) = self.in_flight.try_remove(place) else { return };
        if let Some(timeout) = timeout {
            self.timers.remove(timeout);
        }
        let took = self.parts.intake.clock.now().since(began);
        self.subscribers[job.subscriber].durations.record(took, outcome.is_ok(), 1);
        self.settle(job, outcome, began);
    }

    /// A parked attempt has had its time: its future is dropped before anything else is polled.
    pub(super) fn time_out(&mut self, place: usize) {
        let Some(InFlight { job, began, abort, .. }) = self.in_flight.try_remove(place) else { return };
        abort.abort();
        self.done.book.deliveries.timeouts += 1;
        let took = self.now.since(began);
        self.subscribers[job.subscriber].durations.record(took, false, 1);
        let error = HandlerError::new(ErrorKind::Timeout, format!("the attempt took longer than {took:?}"));
        self.settle(job, Err(error), began);
    }

    /// The first attempt is a child of where the event was emitted; later ones only follow from there, for they come
    /// when that is long over.
    fn span_of(&self, job: &Job) -> Option<Span> {
        if LevelFilter::current() < LevelFilter::INFO {
            return None;
        }
        let (event, origin) = (&job.held.event, job.held.span.as_deref());
        let name = &**self.subscribers[job.subscriber].entry.name();
        let parent = origin.filter(|_| job.attempt == 1).and_then(Span::id);
        let span = tracing::span!(
            parent: parent,
            Level::INFO,
            "handle",
            otel.kind = "consumer",
            event = %event.name,
            id = %event.id,
            subscription = name,
            attempt = job.attempt,
        );
        if job.attempt > 1 {
            span.follows_from(origin.and_then(Span::id));
        }
        Some(span)
    }

    /// Tells the observer, if there is one.
    pub(super) fn observe(&self, job: &Job, what: impl FnOnce() -> What) {
        if let Some(observer) = &self.parts.intake.observer {
            let subscription = Some(Arc::clone(self.subscribers[job.subscriber].entry.name()));
            let (at, event) = (self.parts.intake.clock.now(), Arc::clone(&job.held.event));
            observer.observe(crate::intake::Step { at, event, subscription, what: what() });
        }
    }
}
