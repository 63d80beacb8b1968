//! One event to all who want it, and what becomes of one that nobody wants.

use std::{sync::Arc, task::Context};

use serde::{Deserialize, Serialize};

use super::{
    attempt::First,
    dispatcher::Dispatcher,
    job::{Job, OpenEvent},
};
use crate::{
    dead_letter::Death,
    event::{Envelope, EventName},
    intake::{Held, Pulled, What},
    request::NoAnswer,
    stage::{HandlerError, contained},
};

/// What becomes of an event that no subscription wants. It is counted in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UnroutedPolicy {
    /// Nothing more.
    Ignore,
    /// A line in the log, the first time for each name. The default.
    #[default]
    Warn,
    /// It is kept as a dead letter, to be emitted again when somebody wants it.
    DeadLetter,
}

/// What is known of a delivery that did not end at once.
struct Delivered {
    held: Held,
    /// Where its event is kept track of.
    open: usize,
    place: usize,
    sequence: u64,
    wants: Result<bool, HandlerError>,
    first: Option<First>,
}

/// Events after which the task's budget is looked at.
const LOOK_UP: usize = 8;
/// Names of which it is remembered that they were warned of.
const MOST_WARNED: usize = 10_000;

impl Dispatcher {
    /// Dispatches the batch; `false` where others should have their turn first.
    pub(super) fn dispatch_batch(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(pulled) = self.batch.pop_front() {
            // A handler may have taken one back that the rest of the batch would go to.
            if self.has_new_subscribers() {
                self.catch_up();
            }
            self.dispatch(pulled, cx);
            if !self.ready.is_empty() {
                self.start_ready(cx);
            }
            if self.batch.len().is_multiple_of(LOOK_UP) && !tokio::task::coop::has_budget_remaining() {
                return false;
            }
        }
        self.release_early(self.oldest);
        true
    }

    /// One event to all who want it.
    fn dispatch(&mut self, pulled: Pulled, cx: &mut Context<'_>) {
        let Pulled { sequence, held: Held { mut event, origin } } = pulled;
        let class = event.priority.class();
        if event.cancellation().is_some_and(tokio_util::sync::CancellationToken::is_cancelled) {
            return self.drop_cancelled(class, &event);
        }
        self.metrics.wait.record(self.now.since(event.emitted));
        self.routes.find(&event.name, &self.subscribers);
        // An event is only kept track of where a delivery does not end at once.
        let mut open = None;
        let mut wanted = false;
        for turn in 0..self.routes.len() {
            let place = self.routes.at(turn);
            let wants = self.wants(place, &event);
            if matches!(wants, Ok(false)) {
                continue;
            }
            wanted = true;
            let mut first = None;
            if wants.is_ok() && self.is_free(place, &event) {
                (event, first) = self.deliver_at_once(event, origin.as_deref(), place, cx);
                if first.is_none() {
                    continue;
                }
            }
            let open = *open.get_or_insert_with(|| self.keep_open(class));
            let held = Held { event: Arc::clone(&event), origin: origin.clone() };
            self.take_on(Delivered { held, open, place, sequence, wants, first }, cx);
        }
        let held = Held { event, origin };
        if wanted {
            self.done.book.routed += 1;
        } else {
            self.unrouted(&held);
        }
        match open {
            Some(open) => self.close(open, &held, true),
            None => self.end_at_once(class, &held),
        }
    }

    /// A delivery that did not end at once: it waits, or something has to come of its first attempt.
    #[inline(never)]
    fn take_on(&mut self, delivered: Delivered, cx: &mut Context<'_>) {
        let Delivered { held, open, place, sequence, wants, first } = delivered;
        match (wants, first) {
            (Err(panic), _) => self.refuse(held, open, place, sequence, &panic),
            (Ok(_), None) => self.deliver(held, open, place, sequence, cx),
            (Ok(_), Some(first)) => {
                let job = self.make_job(held, open, place, sequence);
                self.go_on(Job { id: first.id, ..job }, first);
            }
        }
    }

    #[cold]
    fn drop_cancelled(&mut self, class: usize, event: &Arc<Envelope>) {
        self.done.book.cancelled += 1;
        self.parts.intake.observe(event, What::Dropped { reason: "cancelled" });
        self.leave(class, event.tenant.as_ref());
    }

    /// The dispatch itself keeps the event open, so that it cannot end between two of its deliveries.
    fn keep_open(&mut self, class: usize) -> usize {
        self.open.insert(OpenEvent { class, open: 1, with_room: 1, failure: None })
    }

    fn end_at_once(&mut self, class: usize, held: &Held) {
        self.leave(class, held.event.tenant.as_ref());
        if let Some(request) = held.request() {
            request.fail(NoAnswer::NoReply);
        }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it is asked for each event, and mostly says yes at once")]
    pub(super) fn wants(&self, place: usize, event: &Envelope) -> Result<bool, HandlerError> {
        let entry = &self.subscribers[place].entry;
        if !entry.serves(event) {
            return Ok(false);
        }
        match &entry.options.filter {
            None => Ok(true),
            // Another attempt would call the handler, whether the filter wants that or not.
            Some(filter) => contained(|| filter(event)).map_err(HandlerError::never_retry),
        }
    }

    fn unrouted(&mut self, held: &Held) {
        self.done.book.unrouted += 1;
        self.parts.intake.observe(&held.event, What::Unrouted);
        if let Some(request) = held.request() {
            request.fail(NoAnswer::NoHandler);
        }
        match self.parts.unrouted {
            UnroutedPolicy::Ignore => {}
            UnroutedPolicy::Warn => self.warn_unrouted(&held.event.name),
            UnroutedPolicy::DeadLetter => self.bury_event(&held.event, Death::Unrouted, None),
        }
    }

    /// Events of these names are in the log of a durable runtime, and nobody wants them.
    pub(super) fn warn_unwanted(&mut self, names: &[EventName]) {
        if matches!(self.parts.unrouted, UnroutedPolicy::Warn) {
            for name in names {
                self.warn_unrouted(name);
            }
        }
    }

    fn warn_unrouted(&mut self, name: &EventName) {
        if self.warned.len() < MOST_WARNED && self.warned.insert(name.clone()) {
            tracing::warn!(event = %name, "no subscription wants this event");
        }
    }
}
