//! Under the lock: an event gets its place in the queue, or a reason why not.

use std::sync::Arc;

use super::{
    Fate, Held, Intake, PersistError, Phase, Prepared, Refusal, State, What,
    prepare::{Refused, refused},
};
use crate::{event::Envelope, queue::Offer, tenant::Use};

/// How an event comes in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    Outside,
    /// From whoever would rather wait than lose an event, whatever the policy.
    Waits,
    /// From a handler that runs now: taken while draining.
    Handler,
    /// From a handler that would rather wait than lose an event. It cannot, and is told so.
    HandlerWaits,
    /// With room that was held for it, which is redeemed when this is accepted. The grant is not here: an unused one takes
    /// the lock to give its room back.
    Granted,
}

impl Intake {
    /// Under the lock: takes the event in, or says why not.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the event goes to its place in the queue without a copy between")]
    pub(super) fn accept(&self, state: &mut State, prepared: Prepared, entry: Entry) -> Result<Fate, Refused> {
        if (state.phase != Phase::Open || prepared.held.event.lineage.depth > 0)
            && let Some(reason) = Self::closed_to(state.phase, entry).or_else(|| Self::exhausted(state, &prepared))
        {
            return Err(refused(prepared.into_draft(), reason));
        }
        if let Some(reason) = &state.log.failure {
            return Err(Self::store_failed(reason.clone(), prepared));
        }
        if prepared.due.is_some() {
            return if self.pump.is_some() {
                self.delay_in_store(state, prepared, entry)
            } else {
                self.delay(state, prepared)
            };
        }
        let held = prepared.held;
        let (root, depth) = (held.event.lineage.root, held.event.lineage.depth);
        let seen = self.observer.as_ref().map(|_| Arc::clone(&held.event));
        let fate = match entry {
            Entry::Granted => {
                let (class, tenant) = (held.event.priority.class(), held.event.tenant.clone());
                state.queue.push_held(class, tenant.as_ref(), held);
                Fate::Queued
            }
            Entry::Waits | Entry::HandlerWaits if !state.queue.room().has(held.event.priority.class()) => {
                return Err(Self::without_room(state, held));
            }
            Entry::Outside | Entry::Waits | Entry::Handler | Entry::HandlerWaits => self.offer(state, held)?,
        };
        state.tally.emitted += 1;
        if depth > 0 {
            state.roots.count(root, self.clock.now());
        }
        if let Some(event) = seen {
            self.observe(&event, What::Emitted);
            if fate == Fate::Dropped {
                self.observe(&event, What::Dropped { reason: "overflow" });
            }
        }
        Ok(fate)
    }

    #[cold]
    fn store_failed(reason: String, prepared: Prepared) -> Refused {
        refused(prepared.into_draft(), Refusal::StoreFailed { reason })
    }

    /// There is no room, and nobody loses his for it. What is wrong beside that comes first, as ever.
    #[cold]
    fn without_room(state: &mut State, held: Held) -> Refused {
        let reason = state.forbids(&held.event).unwrap_or_else(|| state.full(held.event.priority));
        refused(held.into_draft(), reason)
    }

    pub(super) fn closed_to(phase: Phase, entry: Entry) -> Option<Refusal> {
        match (phase, entry) {
            (Phase::Open, _) | (Phase::Draining, Entry::Handler | Entry::HandlerWaits) => None,
            (phase, _) => Some(Self::closed_in(phase)),
        }
    }

    #[inline(never)]
    pub(super) fn exhausted(state: &State, prepared: &Prepared) -> Option<Refusal> {
        let event = &prepared.held.event;
        let is_spent = event.lineage.depth > 0 && state.roots.is_spent(event.lineage.root, prepared.per_root);
        is_spent.then(|| Refusal::RootExhausted { name: event.name.clone(), limit: prepared.per_root })
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the event goes to its place in the queue without a copy between")]
    fn offer(&self, state: &mut State, held: Held) -> Result<Fate, Refused> {
        let class = held.event.priority.class();
        if (held.event.tenant.is_some() || !state.saturated.is_empty())
            && let Some(reason) = state.forbids(&held.event)
        {
            return Err(refused(held.into_draft(), reason));
        }
        let tenant = held.event.tenant.clone();
        let offer = state.queue.offer(class, tenant.as_ref(), held);
        if let Some(tenant) = &tenant
            && !matches!(offer, Offer::Refused(_) | Offer::Dropped(_))
        {
            state.tenants.add(tenant, Use::Queue);
        }
        if matches!(offer, Offer::Queued) { Ok(Fate::Queued) } else { self.overflowed(state, offer) }
    }

    #[cold]
    fn overflowed(&self, state: &mut State, offer: Offer<Held>) -> Result<Fate, Refused> {
        match offer {
            Offer::Queued => Ok(Fate::Queued),
            Offer::Displaced(_, old) => {
                state.leave(old.event.tenant.as_ref());
                state.tally.overflow += 1;
                self.observe(&old.event, What::Dropped { reason: "overflow" });
                if let Some(stored) = old.stored() {
                    stored.landing.tell(Err(PersistError::Dropped { id: old.event.id }));
                }
                state.gone.push(old);
                Ok(Fate::Queued)
            }
            Offer::Dropped(new) => {
                state.gone.push(new);
                state.tally.overflow += 1;
                Ok(Fate::Dropped)
            }
            Offer::Refused(held) => {
                let reason = state.full(held.event.priority);
                Err(refused(held.into_draft(), reason))
            }
        }
    }

    #[inline(never)]
    fn delay(&self, state: &mut State, prepared: Prepared) -> Result<Fate, Refused> {
        let limit = self.limits.delayed;
        if state.delayed.len() >= limit {
            return Err(refused(prepared.into_draft(), Refusal::DelayedFull { limit }));
        }
        if let Some(tenant) = &prepared.held.event.tenant
            && let Some(limit) = state.tenants.exceeded(tenant, Use::Delayed)
        {
            let reason = Refusal::QuotaExceeded { tenant: tenant.clone(), what: "delayed events", limit };
            return Err(refused(prepared.into_draft(), reason));
        }
        if let Some(tenant) = &prepared.held.event.tenant
            && let Some(reason) = state.too_fast(tenant)
        {
            return Err(refused(prepared.into_draft(), reason));
        }
        Ok(self.store_delayed(state, prepared))
    }

    /// Sends an event to the store, where it waits until it is due. On its way it holds room in the queue.
    #[inline(never)]
    fn delay_in_store(&self, state: &mut State, prepared: Prepared, entry: Entry) -> Result<Fate, Refused> {
        if !matches!(entry, Entry::Granted)
            && let Some(reason) = Self::hold_on_its_way(state, &prepared.held.event)
        {
            return Err(refused(prepared.into_draft(), reason));
        }
        let Prepared { held, due, .. } = prepared;
        let due = due.unwrap_or_default();
        state.tally.emitted += 1;
        state.tally.delayed += 1;
        if held.event.lineage.depth > 0 {
            state.roots.count(held.event.lineage.root, self.clock.now());
        }
        self.observe(&held.event, What::Delayed { due });
        state.log.to_delay.push_back((due, held));
        // When it is due is known to whoever drives once it has landed.
        state.log.unsettled = true;
        Ok(Fate::Delayed { due })
    }

    /// Holds room and its tenant's quota for an event, or says why there is none.
    fn hold_on_its_way(state: &mut State, event: &Envelope) -> Option<Refusal> {
        if let Some(reason) = state.forbids(event) {
            return Some(reason);
        }
        if !state.queue.hold(event.priority.class()) {
            return Some(state.full(event.priority));
        }
        if let Some(tenant) = &event.tenant {
            state.tenants.add(tenant, Use::Queue);
        }
        None
    }

    /// Keeps an event until it is due, whatever the tenant's limits.
    pub(super) fn store_delayed(&self, state: &mut State, prepared: Prepared) -> Fate {
        let Prepared { held, due, .. } = prepared;
        let due = due.unwrap_or_default();
        let lineage = held.event.lineage;
        state.tally.emitted += 1;
        if lineage.depth > 0 {
            state.roots.count(lineage.root, self.clock.now());
        }
        if let Some(tenant) = &held.event.tenant {
            state.tenants.add(tenant, Use::Delayed);
        }
        self.observe(&held.event, What::Delayed { due });
        state.last_delayed += 1;
        state.delayed.insert((due, state.last_delayed), held);
        Fate::Delayed { due }
    }
}
