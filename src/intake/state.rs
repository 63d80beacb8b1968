//! What the intake's lock protects.

use std::{collections::BTreeMap, sync::Arc, task::Waker};

use millstream_operators::Timestamp;

use super::{DispatchBook, EventBook, LogSide, Refusal, Roots, Stored, Tally, Waiting};
use crate::{
    event::{Envelope, EventName, Pattern, Priority, Tenant},
    queue::Bounded,
    request::Request,
    tenant::{Ledger, Use},
};

/// An accepted event with what only the engine needs to know of it. Two words: it changes hands often.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) event: Arc<Envelope>,
    /// None for most.
    pub(crate) origin: Option<Box<Origin>>,
}

/// What only the engine needs to know of an event: where it came from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// Who waits for an answer to it.
    pub(crate) request: Option<Arc<Request>>,
    /// Where it was emitted, for tracing.
    pub(crate) span: Option<tracing::Span>,
    /// What goes to the store, in a durable runtime.
    pub(crate) stored: Option<Stored>,
}

impl Held {
    /// Who waits for an answer to it.
    pub(crate) fn request(&self) -> Option<&Arc<Request>> {
        self.origin.as_ref()?.request.as_ref()
    }
}

/// An event that the dispatcher took out of the queue. It holds its room until it is released.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) sequence: u64,
    pub(crate) held: Held,
}

/// How far the runtime is in its life, as the intake sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Takes events.
    Open,
    /// Takes only what handlers return.
    Draining,
    /// Takes nothing.
    Stopped,
}

/// A subscription that holds its whole share of a class and refuses more.
#[derive(Clone, Debug)]
pub(crate) struct Saturated {
    pub(crate) subscription: String,
    pub(crate) pattern: Pattern,
    /// Takes only this tenant's events.
    pub(crate) tenant: Option<Tenant>,
    pub(crate) class: usize,
    pub(crate) held: usize,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) queue: Bounded<Tenant, Held>,
    /// By due time, then in the order of their emission: ids are the emitters' own and need not differ.
    pub(crate) delayed: BTreeMap<(Timestamp, u64), Held>,
    pub(crate) last_delayed: u64,
    pub(crate) waiting: Waiting,
    pub(crate) tenants: Ledger,
    pub(crate) roots: Roots,
    pub(crate) saturated: Vec<Saturated>,
    pub(crate) tally: Tally,
    pub(crate) dispatch: DispatchBook,
    /// What was dropped: data may do anything when it goes, so it goes when the lock is free.
    pub(crate) gone: Vec<Held>,
    /// Set while the dispatcher sleeps.
    pub(crate) consumer: Option<Waker>,
    /// Whether a subscription wants events in the order of their emission, whatever their class.
    pub(crate) dispatch_is_strict: bool,
    /// Set where a sweep for cancelled deliveries is due.
    pub(crate) cancelled: bool,
    /// The way to the log, in a durable runtime.
    pub(crate) log: LogSide,
}

impl State {
    pub(crate) fn event_book(&self) -> EventBook {
        let Tally { emitted, refused, overflow, cancelled, loops, parked, pulled, .. } = self.tally;
        let Tally { routed, unrouted, delayed, unsaved, duplicate, .. } = self.tally;
        let in_dispatch = pulled - self.dispatch.settled();
        EventBook {
            emitted,
            refused,
            routed: self.dispatch.routed + routed,
            unrouted: self.dispatch.unrouted + unrouted,
            dropped: super::Drops {
                overflow,
                cancelled: cancelled + self.dispatch.cancelled,
                loops,
                unsaved,
                duplicate,
            },
            queued: self.queue.len() as u64 + in_dispatch + self.log.afloat,
            delayed: self.delayed.len() as u64 + delayed,
            parked: parked + self.dispatch.parked,
        }
    }

    /// Whether the event's tenant or a subscription that it would reach forbids it.
    pub(crate) fn forbids(&mut self, event: &Envelope) -> Option<Refusal> {
        let class = event.priority.class();
        let is_full = |full: &&Saturated| {
            full.class == class
                && (full.tenant.is_none() || full.tenant == event.tenant)
                && full.pattern.matches(event.name.as_str())
        };
        if let Some(Saturated { subscription, held, .. }) = self.saturated.iter().find(is_full) {
            let (subscription, held) = (subscription.clone(), *held);
            return Some(Refusal::Saturated { subscription, class: event.priority, held });
        }
        let tenant = event.tenant.as_ref()?;
        // First the rate, which is paid once: whoever then waits for room or quota has paid it.
        self.too_fast(tenant).or_else(|| {
            let limit = self.tenants.exceeded(tenant, Use::Queue)?;
            Some(Refusal::QuotaExceeded { tenant: tenant.clone(), what: "queued events", limit })
        })
    }

    /// Takes one from the tenant's rate, or says how long to wait.
    pub(crate) fn too_fast(&mut self, tenant: &Tenant) -> Option<Refusal> {
        let retry_after = self.tenants.take_rate(tenant).err()?;
        Some(Refusal::RateExceeded { tenant: tenant.clone(), retry_after })
    }

    pub(crate) fn full(&self, class: Priority) -> Refusal {
        let room = self.queue.room();
        Refusal::Full { class, held: room.held(), capacity: room.capacity() }
    }

    /// Events of these names are in the log, and each is wanted or not.
    pub(crate) fn route<'a>(&mut self, names: impl IntoIterator<Item = &'a EventName>, wanted: &[bool]) {
        self.tally.route(wanted);
        for (name, _) in names.into_iter().zip(wanted).filter(|(_, wanted)| !**wanted) {
            self.log.note_unwanted(name);
        }
    }

    /// Gives an event's room back to its class and its tenant.
    pub(crate) fn release(&mut self, class: usize, tenant: Option<&Tenant>) {
        self.queue.release(class, 1);
        self.leave(tenant);
    }

    pub(crate) fn leave(&mut self, tenant: Option<&Tenant>) {
        if let Some(tenant) = tenant {
            self.tenants.remove(tenant, Use::Queue);
        }
    }

    /// Queues delayed events whose time has come: they were accepted, so they may overdraw.
    pub(crate) fn move_due(&mut self, now: Timestamp) {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            let held = entry.remove();
            if let Some(tenant) = &held.event.tenant {
                self.tenants.remove(tenant, Use::Delayed);
            }
            self.overdraw(held);
        }
    }

    pub(crate) fn overdraw(&mut self, held: Held) {
        let event = Arc::clone(&held.event);
        if let Some(tenant) = &event.tenant {
            self.tenants.add(tenant, Use::Queue);
        }
        self.queue.overdraw(event.priority.class(), event.tenant.as_ref(), held);
    }

    /// Drops queued and delayed events whose token is cancelled.
    pub(crate) fn sweep_cancelled(&mut self) -> u64 {
        let is_cancelled =
            |held: &Held| held.event.cancellation().is_some_and(tokio_util::sync::CancellationToken::is_cancelled);
        let swept = self.queue.sweep(is_cancelled);
        for held in &swept {
            self.leave(held.event.tenant.as_ref());
        }
        let delayed: Vec<_> = self.delayed.iter().filter(|(_, held)| is_cancelled(held)).map(|(&due, _)| due).collect();
        for due in &delayed {
            let Some(held) = self.delayed.remove(due) else { continue };
            if let Some(tenant) = &held.event.tenant {
                self.tenants.remove(tenant, Use::Delayed);
            }
            self.gone.push(held);
        }
        let count = (swept.len() + delayed.len()) as u64;
        self.gone.extend(swept);
        self.tally.cancelled += count;
        self.cancelled = true;
        count
    }
}
