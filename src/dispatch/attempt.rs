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
    event::Envelope,
    intake::{Held, Origin, What},
    request::Hold,
    stage::{Delivery, HandlerError, Outcome, Outputs, Parked, Started, lend},
};

/// The first attempt of a delivery, polled once.
pub(super) struct First {
    pub(super) id: u64,
    started: Box<Started>,
    span: Option<Span>,
}

/// Which attempt of which delivery begins.
#[derive(Clone, Copy)]
struct Turn {
    delivery: u64,
    attempt: u32,
}

/// What waits for the answer, where the event is a request.
fn above(origin: Option<&Origin>) -> Option<Arc<Hold>> {
    origin?.request.as_ref()?.hold.clone()
}

impl Dispatcher {
    /// Begins an attempt of a delivery that has its slot.
    pub(super) fn start(&mut self, mut job: Job, cx: &mut Context<'_>) {
        self.done.book.deliveries.in_flight += 1;
        self.observe(&job.held.event, job.subscriber, || What::Started { attempt: job.attempt });
        let span = self.span_of(&job.held.event, job.held.origin.as_deref(), job.subscriber, job.attempt);
        let turn = Turn { delivery: job.id, attempt: job.attempt };
        let Held { event, origin } = job.held;
        let (event, started) = self.poll_once(event, origin.as_deref(), job.subscriber, turn, span.as_ref(), cx);
        job.held = Held { event, origin };
        match started.map(|started| *started) {
            None => self.settle(job, Ok(Outputs::none()), self.now),
            Some(Started::Done(outcome)) => self.settle(job, outcome, self.now),
            Some(Started::Parked(attempt)) => self.park(job, attempt, span),
        }
    }

    /// Delivers to a subscription that has nothing to wait for: most attempts end at the first poll, and those that
    /// succeed need nothing that a [`Job`] carries. `None` where it has ended like that.
    pub(super) fn deliver_at_once(
        &mut self,
        event: Arc<Envelope>,
        origin: Option<&Origin>,
        place: usize,
        cx: &mut Context<'_>,
    ) -> (Arc<Envelope>, Option<First>) {
        self.last_job += 1;
        let id = self.last_job;
        self.observe(&event, place, || What::Started { attempt: 1 });
        let span = self.span_of(&event, origin, place, 1);
        let turn = Turn { delivery: id, attempt: 1 };
        let (event, started) = self.poll_once(event, origin, place, turn, span.as_ref(), cx);
        let Some(started) = started else {
            self.done.book.deliveries.created += 1;
            self.done.book.deliveries.handled += 1;
            let meter = &self.subscribers[place].entry.meter;
            meter.created.up();
            meter.handled.up();
            self.observe(&event, place, || What::Handled);
            return (event, None);
        };
        (event, Some(First { id, started, span }))
    }

    /// Goes on with a first attempt that did not end in nothing but success.
    pub(super) fn go_on(&mut self, job: Job, first: First) {
        self.done.book.deliveries.in_flight += 1;
        self.subscribers[job.subscriber].take_slot(job.class());
        match *first.started {
            Started::Done(outcome) => self.settle(job, outcome, self.now),
            Started::Parked(attempt) => self.park(job, attempt, first.span),
        }
    }

    /// Calls the handler and polls it once, as the current delivery, under the watchdog, sometimes timed.
    #[inline]
    fn poll_once(
        &mut self,
        event: Arc<Envelope>,
        origin: Option<&Origin>,
        place: usize,
        turn: Turn,
        span: Option<&Span>,
        cx: &mut Context<'_>,
    ) -> (Arc<Envelope>, Option<Box<Started>>) {
        let Turn { delivery: id, attempt } = turn;
        let subscriber = &mut self.subscribers[place];
        let began = subscriber.durations.is_next().then(|| self.parts.intake.clock.now());
        let site = subscriber.site.take().unwrap_or_else(|| Arc::clone(&subscriber.entry.site));
        self.beat.begin(site.seat.subscription);
        let mut started = None;
        let poll = |delivery: &Delivery| {
            started = match span {
                None => subscriber.call.start(delivery, cx),
                Some(span) => span.in_scope(|| subscriber.call.start(delivery, cx)),
            }
        };
        let (event, site) = lend(|| Delivery::new(event, attempt, id, site, above(origin)), poll, Delivery::into_parts);
        subscriber.site = Some(site);
        self.beat.end();
        if let Some(began) = began
            && let Some(is_ok) = started.as_ref().map_or(Some(true), |started| started.is_ok())
        {
            let took = self.parts.intake.clock.now().since(began);
            subscriber.durations.record(took, is_ok, TIMED);
        }
        (event, started)
    }

    /// The attempt waits for something: from now on it is polled when it is woken, and has a time limit.
    fn park(&mut self, mut job: Job, attempt: Parked, span: Option<Span>) {
        self.pin(&mut job);
        let (event, site) = (&job.held.event, &self.subscribers[job.subscriber].entry.site);
        let above = above(job.held.origin.as_deref());
        let delivery = Delivery::new(Arc::clone(event), job.attempt, job.id, Arc::clone(site), above);
        let limit = self.subscribers[job.subscriber].entry.options.timeout.unwrap_or(self.parts.timeout);
        let began = self.parts.intake.clock.now();
        let place = self.in_flight.vacant_key();
        let timeout = Some(self.timers.add(began + limit, Due::Timeout(place)));
        let running = Running::new(place, attempt, delivery, span.unwrap_or_else(Span::none), Arc::clone(&self.beat));
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

    /// A parked attempt has had its time: its future is dropped before anything starts in its place.
    pub(super) fn time_out(&mut self, place: usize) {
        let Some(InFlight { job, began, abort, .. }) = self.in_flight.try_remove(place) else { return };
        abort.abort();
        self.aborted += 1;
        self.done.book.deliveries.timeouts += 1;
        let subscriber = &mut self.subscribers[job.subscriber];
        subscriber.durations.record(self.now.since(began), false, 1);
        let limit = subscriber.entry.options.timeout.unwrap_or(self.parts.timeout);
        let error =
            HandlerError::new(ErrorKind::Timeout, format!("the attempt took longer than its limit of {limit:?}"));
        self.settle(job, Err(error), began);
    }

    /// The first attempt is a child of where the event was emitted; later ones only follow from there, for they come
    /// when that is long over.
    #[inline]
    fn span_of(&self, event: &Envelope, origin: Option<&Origin>, place: usize, attempt: u32) -> Option<Span> {
        (LevelFilter::current() >= LevelFilter::INFO).then(|| self.make_span(event, origin, place, attempt))
    }

    #[inline(never)]
    fn make_span(&self, event: &Envelope, origin: Option<&Origin>, place: usize, attempt: u32) -> Span {
        let origin = origin.and_then(|origin| origin.span.as_ref());
        let name = &**self.subscribers[place].entry.name();
        let parent = origin.filter(|_| attempt == 1).and_then(Span::id);
        let span = tracing::span!(
            parent: parent,
            Level::INFO,
            "handle",
            otel.kind = "consumer",
            event = %event.name,
            id = %event.id,
            subscription = name,
            attempt,
        );
        if attempt > 1 {
            span.follows_from(origin.and_then(Span::id));
        }
        span
    }

    /// Tells the observer, if there is one.
    pub(super) fn observe(&self, event: &Arc<Envelope>, place: usize, what: impl FnOnce() -> What) {
        if let Some(observer) = &self.parts.intake.observer {
            let subscription = Some(Arc::clone(self.subscribers[place].entry.name()));
            let (at, event) = (self.parts.intake.clock.now(), Arc::clone(event));
            observer.observe(crate::intake::Step { at, event, subscription, what: what() });
        }
    }
}
