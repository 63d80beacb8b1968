//! Admission: from a draft to an event in the queue, or to a reason why not.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use millstream_operators::Timestamp;
use tokio::sync::Notify;
use tracing::{Span, level_filters::LevelFilter};

use super::{
    Cause, EmitError, Fate, FindCause, Handling, Held, Landing, Observer, Origin, PersistError, Phase, Pump, Receipt,
    Refusal, State, Step, Stored, Types, What,
};
use crate::{
    event::{Clock, Draft, Envelope, EventId, IdSource, JsonSize, Lineage, Tenant, aggregate_key},
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
    /// For how long an idempotency key is remembered.
    pub(crate) once: Duration,
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
    /// Whoever polls handlers knows.
    find_cause: FindCause,
    /// Told whenever the dispatcher has settled something.
    pub(crate) settled: Notify,
    /// The way to the store, in a durable runtime.
    pub(crate) pump: Option<Arc<Pump>>,
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

/// What the header of a stored event may come to beside its data.
const HEADER: usize = 64 << 10;

/// Keys of different tenants are different keys.
fn once_key(event: &Envelope, key: &str) -> Bytes {
    let tenant = event.tenant.as_ref().map_or("", Tenant::as_str);
    [tenant.as_bytes(), &[0], key.as_bytes()].concat().into()
}

/// A delay from which on an event begins a new root: a daily job is no loop.
const NEW_ROOT_AFTER: Duration = Duration::from_secs(1);

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
        Box::new(Origin { request, span, stored: None })
    })
}

impl Intake {
    pub(crate) fn new(
        state: State,
        clock: Clock,
        seed: u64,
        limits: Limits,
        observer: Option<Arc<dyn Observer>>,
        find_cause: FindCause,
        pump: Option<Arc<Pump>>,
    ) -> Arc<Self> {
        let ids = IdSource::new(seed);
        let (types, settled) = (Types::default(), Notify::new());
        let state = Mutex::new(state);
        let intake = Arc::new(Self { state, clock, ids, types, limits, observer, find_cause, settled, pump });
        if let Some(pump) = &intake.pump {
            pump.attach(&intake);
        }
        intake
    }

    /// Lets what was queued go on to the store, in a durable runtime.
    pub(crate) fn pump(&self) {
        if let Some(pump) = &self.pump {
            pump.go();
        }
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

    /// Lets go of the store of a durable runtime.
    pub(crate) fn release(&self) {
        if let Some(pump) = &self.pump {
            pump.release();
        }
    }

    /// Names this runtime among others.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// What the handler causes that this runtime polls on this thread, if there is one.
    pub(crate) fn cause_here(&self) -> Option<Cause> {
        if Handling::is_any() { (self.find_cause)(self.address()) } else { None }
    }

    /// Whether this runtime polls a handler on this thread.
    pub(crate) fn is_inside(&self) -> bool {
        self.cause_here().is_some()
    }

    /// All that needs no lock: the draft becomes an event that only lacks room.
    pub(crate) fn prepare(
        &self,
        now: Timestamp,
        mut draft: Draft,
        cause: Option<&Cause>,
        request: Option<Arc<Request>>,
    ) -> Result<Prepared, Refused> {
        match self.check(&mut draft) {
            Ok(()) => self.prepare_at(now, draft, cause, request),
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
        let mut held = Held { event, origin };
        if (self.pump.is_some() || held.event.once().is_some())
            && let Err(reason) = self.prepare_to_store(&mut held)
        {
            return Err(refused(held.into_draft(), reason));
        }
        Ok(Prepared { held, due, per_root })
    }

    #[inline(never)]
    fn prepare_to_store(&self, held: &mut Held) -> Result<(), Refusal> {
        let stored = self.to_store(&held.event, held.request().is_some())?;
        held.origin.get_or_insert_default().stored = Some(stored);
        Ok(())
    }

    /// What the store gets of an event.
    pub(crate) fn to_store(&self, event: &Envelope, is_request: bool) -> Result<Stored, Refusal> {
        if self.pump.is_none() {
            return Err(Refusal::NeedsStore { what: "an idempotency key" });
        }
        if is_request {
            return Err(Refusal::NotDurable { what: "a request" });
        }
        if event.cancellation().is_some() {
            return Err(Refusal::NotDurable { what: "a cancellation token" });
        }
        let refused =
            |error: serde_json::Error| Refusal::NotStorable { name: event.name.clone(), reason: error.to_string() };
        let bytes = event.to_record().map_err(refused)?;
        let limit = self.limits.event_size;
        if bytes.len() > limit.saturating_add(HEADER) {
            return Err(Refusal::TooLarge { name: event.name.clone(), limit });
        }
        let until = event.emitted + self.limits.once;
        let once = event.once().map(|key| (once_key(event, key), until));
        let version = event.aggregate().map(|aggregate| aggregate_key(event.tenant.as_ref(), aggregate));
        Ok(Stored { bytes, landing: Arc::default(), once, version })
    }

    /// The id, the due time if that is to come, and the lineage.
    fn place(&self, draft: &mut Draft, cause: Option<&Cause>, now: Timestamp) -> (EventId, Option<Timestamp>, Lineage) {
        let id = draft.id().unwrap_or_else(|| self.ids.next(now));
        let due = draft.due(now);
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

/// A receipt for an event that is not accepted yet.
#[derive(Debug)]
pub(super) struct Claim {
    id: EventId,
    landing: Option<Arc<Landing>>,
}

impl Claim {
    pub(super) fn receipt(self, fate: Fate) -> Receipt {
        Receipt { id: self.id, fate, landing: self.landing }
    }
}

impl Prepared {
    /// What its receipt will say, but for what becomes of it.
    #[inline]
    pub(super) fn claim(&self) -> Claim {
        let landing = self.held.stored().map(|stored| Arc::clone(&stored.landing));
        Claim { id: self.held.event.id, landing }
    }

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
