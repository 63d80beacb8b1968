//! Admission: from a draft to an event in the queue, or to a reason why not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_operators::Timestamp;
use tokio::sync::Notify;
use tracing::{Span, level_filters::LevelFilter};

use super::{Cause, EmitError, Fate, Held, Observer, Origin, Phase, Receipt, Refusal, State, Step, Types, What};
use crate::{
    event::{Clock, Draft, Due, Envelope, EventId, IdSource, JsonSize, Lineage},
    queue::Offer,
    request::Request,
    tenant::Use,
};

/// What an event must keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) event_size: usize,
    pub(crate) measure_typed: bool,
    pub(crate) depth: u32,
    pub(crate) per_root: u32,
    pub(crate) delayed: usize,
}

/// The lock, and all around it that needs none.
#[derive(Debug)]
pub(crate) struct Intake {
    state: Mutex<State>,
    pub(crate) clock: Clock,
    pub(crate) ids: IdSource,
    pub(crate) types: Types,
    pub(crate) limits: Limits,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// Told whenever the dispatcher has settled something.
    pub(crate) settled: Notify,
}

/// A draft that was refused. Boxed: the way of those that are not should not be wide.
pub(crate) type Refused = Box<EmitError<Draft>>;

/// An event that needs only room.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) held: Held,
    pub(crate) due: Option<Timestamp>,
    /// How many events its root may cause.
    per_root: u32,
}

/// How an event comes in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    Outside,
    /// From a handler that runs now: taken while draining.
    Handler,
    /// With room that was held for it, which is redeemed when this is accepted. The grant is not here: an unused one takes
    /// the lock to give its room back.
    Granted,
}

/// A delay from which on an event begins a new root: a daily job is no loop.
const NEW_ROOT_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

#[cold]
pub(super) fn refused(event: Draft, reason: Refusal) -> Refused {
    Box::new(EmitError { event, reason })
}

/// Where an event comes from, where anybody will ask.
#[inline]
fn origin(request: Option<Arc<Request>>) -> Option<Box<Origin>> {
    let is_traced = LevelFilter::current() >= LevelFilter::INFO;
    (is_traced || request.is_some()).then(|| {
        let span = is_traced.then(Span::current);
        Box::new(Origin { request, span })
    })
}

impl Intake {
    pub(crate) fn new(
        state: State,
        clock: Clock,
        seed: u64,
        limits: Limits,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        let ids = IdSource::new(seed);
        let (types, settled) = (Types::default(), Notify::new());
        Self { state: Mutex::new(state), clock, ids, types, limits, observer, settled }
    }

    /// A panic under the lock would be a bug of the engine's own; what the lock protects stays consistent, for no
    /// user code runs under it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the lock back, then drops what is gone and wakes the dispatcher if it sleeps.
    #[inline]
    pub(crate) fn wake(state: MutexGuard<'_, State>) {
        if state.consumer.is_some() || !state.gone.is_empty() {
            Self::wake_sleeper(state);
        }
    }

    #[inline(never)]
    fn wake_sleeper(mut state: MutexGuard<'_, State>) {
        let (sleeper, gone) = (state.consumer.take(), std::mem::take(&mut state.gone));
        drop(state);
        drop(gone);
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }

    /// Names this runtime among others, for [`Current`](super::Current).
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// All that needs no lock: the draft becomes an event that only lacks room.
    pub(crate) fn prepare(
        &self,
        mut draft: Draft,
        cause: Option<&Cause>,
        request: Option<Arc<Request>>,
    ) -> Result<Prepared, Refused> {
        match self.check(&mut draft) {
            Ok(()) => self.prepare_at(self.clock.now(), draft, cause, request),
            Err(reason) => Err(refused(draft, reason)),
        }
    }

    /// What is left to do of [`prepare`](Self::prepare) once a draft is checked.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the event is built from where the draft lies, without a copy between")]
    pub(super) fn prepare_at(
        &self,
        now: Timestamp,
        mut draft: Draft,
        cause: Option<&Cause>,
        request: Option<Arc<Request>>,
    ) -> Result<Prepared, Refused> {
        let (id, due, lineage) = if cause.is_none() && draft.more.is_none() {
            let id = self.ids.next(now);
            (id, None, Lineage::root(id))
        } else {
            self.place(&mut draft, cause, now)
        };
        if lineage.depth > self.limits.depth {
            let reason = Refusal::TooDeep { name: draft.name.clone(), depth: lineage.depth, limit: self.limits.depth };
            return Err(refused(draft, reason));
        }
        let per_root = cause.and_then(|cause| cause.per_root).unwrap_or(self.limits.per_root);
        let origin = origin(request);
        let event = Arc::new(Envelope::new(draft, id, now, lineage));
        Ok(Prepared { held: Held { event, origin }, due, per_root })
    }

    /// The id, the due time if that is to come, and the lineage.
    fn place(&self, draft: &mut Draft, cause: Option<&Cause>, now: Timestamp) -> (EventId, Option<Timestamp>, Lineage) {
        let id = draft.id().unwrap_or_else(|| self.ids.next(now));
        let due = draft.more.as_ref().and_then(|more| more.due).map(|due| match due {
            Due::After(delay) => now + delay,
            Due::At(at) => at,
        });
        let due = due.filter(|&due| due > now);
        let lineage = match cause {
            None => Self::root(draft, id),
            Some(cause) => {
                let new_root = due.is_some_and(|due| due.since(now) >= NEW_ROOT_AFTER);
                cause.pass_on(draft, id, new_root)
            }
        };
        (id, due, lineage)
    }

    fn root(draft: &Draft, id: EventId) -> Lineage {
        let mut lineage = Lineage::root(id);
        if let Some(correlation) = draft.more.as_ref().and_then(|more| more.correlation) {
            lineage.correlation = correlation;
        }
        lineage
    }

    /// What a draft itself can be wrong about. A typed one under its own name is right unless its size is limited.
    #[inline]
    pub(crate) fn check(&self, draft: &mut Draft) -> Result<(), Refusal> {
        if draft.name_is_checked && !self.limits.measure_typed && !draft.data.is_json() {
            return Ok(());
        }
        self.check_all(draft)
    }

    #[inline(never)]
    fn check_all(&self, draft: &mut Draft) -> Result<(), Refusal> {
        if !draft.name_is_checked {
            draft.name.check()?;
        }
        let is_json = draft.data.is_json();
        if is_json {
            self.types.complete(draft);
        }
        let limit = self.limits.event_size;
        if (is_json || self.limits.measure_typed) && draft.data.json_size(limit) == JsonSize::Over {
            return Err(Refusal::TooLarge { name: draft.name.clone(), limit });
        }
        Ok(())
    }

    /// Under the lock: takes the event in, or says why not.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the event goes to its place in the queue without a copy between")]
    pub(super) fn accept(&self, state: &mut State, prepared: Prepared, entry: Entry) -> Result<Receipt, Refused> {
        if (state.phase != Phase::Open || prepared.held.event.lineage.depth > 0)
            && let Some(reason) = Self::closed_to(state.phase, entry).or_else(|| Self::exhausted(state, &prepared))
        {
            return Err(refused(prepared.into_draft(), reason));
        }
        if prepared.due.is_some() {
            return self.delay(state, prepared);
        }
        let held = prepared.held;
        let (id, root, depth) = (held.event.id, held.event.lineage.root, held.event.lineage.depth);
        let seen = self.observer.as_ref().map(|_| Arc::clone(&held.event));
        let fate = match entry {
            Entry::Granted => {
                let (class, tenant) = (held.event.priority.class(), held.event.tenant.clone());
                state.queue.push_held(class, tenant.as_ref(), held);
                Fate::Queued
            }
            Entry::Outside | Entry::Handler => self.offer(state, held)?,
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
        Ok(Receipt { id, fate })
    }

    fn closed_to(phase: Phase, entry: Entry) -> Option<Refusal> {
        match (phase, entry) {
            (Phase::Open, _) | (Phase::Draining, Entry::Handler) => None,
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
    fn delay(&self, state: &mut State, prepared: Prepared) -> Result<Receipt, Refused> {
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

    /// Keeps an event until it is due, whatever the tenant's limits.
    pub(super) fn store_delayed(&self, state: &mut State, prepared: Prepared) -> Receipt {
        let Prepared { held, due, .. } = prepared;
        let (id, due) = (held.event.id, due.unwrap_or_default());
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
        Receipt { id, fate: Fate::Delayed { due } }
    }

    /// Tells the observer, if there is one.
    pub(crate) fn observe(&self, event: &Arc<Envelope>, what: What) {
        if let Some(observer) = &self.observer {
            observer.observe(Step { at: self.clock.now(), event: Arc::clone(event), subscription: None, what });
        }
    }

    pub(super) fn closed(&self) -> Refusal {
        Self::closed_in(self.lock().phase)
    }

    fn closed_in(phase: Phase) -> Refusal {
        Refusal::Closed { phase: if phase == Phase::Stopped { "stopped" } else { "draining" } }
    }
}

impl Prepared {
    pub(super) fn into_draft(self) -> Draft {
        self.held.into_draft()
    }
}

impl Held {
    /// The draft again. The event is new, so nobody else holds it but an observer, for whom it is cloned.
    fn into_draft(self) -> Draft {
        Arc::unwrap_or_clone(self.event).into_refused_draft()
    }
}
