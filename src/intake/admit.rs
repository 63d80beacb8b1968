//! Emit: from a draft to an event in the queue, or back to the emitter with a reason.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use millstream_operators::Timestamp;
use tokio::sync::{Notify, oneshot};
use tracing::{Span, level_filters::LevelFilter};

use super::{
    Advice, Cause, Current, EmitError, Fate, Held, Observer, Phase, Receipt, Refusal, State, Step, Types, Waiter, What,
    room::Grant,
};
use crate::{
    event::{Clock, Draft, Due, Envelope, EventId, IdSource, IntoDraft, JsonSize, Lineage},
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

/// An event that needs only room.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) held: Held,
    pub(crate) due: Option<Timestamp>,
    /// How many events its root may cause.
    per_root: u32,
}

/// How an event comes in.
#[derive(Debug)]
enum Entry {
    Outside,
    /// From a handler that runs now: taken while draining.
    Handler,
    /// With room that was held for it.
    Granted(Grant),
}

/// A delay from which on an event begins a new root: a daily job is no loop.
const NEW_ROOT_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

impl Intake {
    pub(crate) fn new(
        state: State,
        clock: Clock,
        seed: u64,
        limits: Limits,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        Self {
            state: Mutex::new(state),
            clock,
            ids: IdSource::new(seed),
            types: Types::default(),
            limits,
            observer,
            settled: Notify::new(),
        }
    }

    /// A panic under the lock would be a bug of the engine's own; what the lock protects stays consistent, for no
    /// user code runs under it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the dispatcher if it sleeps, without the lock.
    pub(crate) fn wake(mut state: MutexGuard<'_, State>) {
        let sleeper = state.consumer.take();
        drop(state);
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }

    /// Names this runtime among others, for [`Current`].
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Emits, or hands back.
    pub(crate) fn emit<E: IntoDraft>(&self, event: E, cause: Option<&Cause>) -> Result<Receipt, EmitError<E>> {
        self.emit_draft(event.into_draft(), cause, None)
            .map_err(|(draft, reason)| EmitError { event: E::handed_back(*draft), reason })
    }

    pub(crate) fn emit_draft(
        &self,
        draft: Draft,
        cause: Option<&Cause>,
        request: Option<Arc<Request>>,
    ) -> Result<Receipt, (Box<Draft>, Refusal)> {
        let current = if cause.is_none() { Current::cause(self.address()) } else { None };
        let entry = if current.is_some() { Entry::Handler } else { Entry::Outside };
        let prepared = self.prepare(draft, current.as_ref().or(cause), request);
        let accepted = prepared.and_then(|prepared| {
            let mut state = self.lock();
            let accepted = self.accept(&mut state, prepared, entry);
            Self::wake(state);
            accepted
        });
        accepted.inspect_err(|(draft, reason)| self.count_refusal(draft, reason))
    }

    /// Emits each, under one lock, until one is refused.
    pub(crate) fn emit_all<E: IntoDraft>(
        &self,
        events: impl IntoIterator<Item = E>,
        cause: Option<&Cause>,
    ) -> (Vec<Receipt>, Option<(E, Refusal)>, Vec<E>) {
        let current = if cause.is_none() { Current::cause(self.address()) } else { None };
        let cause = current.as_ref().or(cause);
        // What the caller's iterator does, it does before the lock is taken.
        let mut events = events.into_iter().collect::<Vec<_>>().into_iter();
        let prepared: Vec<_> = events.by_ref().map(|event| self.prepare(event.into_draft(), cause, None)).collect();
        let mut state = self.lock();
        let mut accepted = Vec::with_capacity(prepared.len());
        let (mut refused, mut rest) = (None, Vec::new());
        for prepared in prepared {
            if refused.is_some() {
                rest.push(E::handed_back(match prepared {
                    Ok(prepared) => *prepared.into_draft(),
                    Err((draft, _)) => *draft,
                }));
                continue;
            }
            let entry = if current.is_some() { Entry::Handler } else { Entry::Outside };
            match prepared.and_then(|prepared| self.accept(&mut state, prepared, entry)) {
                Ok(receipt) => accepted.push(receipt),
                Err((draft, reason)) => refused = Some((draft, reason)),
            }
        }
        Self::wake(state);
        if let Some((draft, reason)) = &refused {
            self.count_refusal(draft, reason);
        }
        (accepted, refused.map(|(draft, reason)| (E::handed_back(*draft), reason)), rest)
    }

    /// Emits, after waiting for room where there is none.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the event is dropped with it and not counted; room that was granted goes to the next.
    pub(crate) async fn emit_wait<E: IntoDraft>(
        self: &Arc<Self>,
        event: E,
        cause: Option<&Cause>,
    ) -> Result<Receipt, EmitError<E>> {
        let mut draft = Box::new(event.into_draft());
        loop {
            let mut settled = pin!(self.settled.notified());
            settled.as_mut().enable();
            let (back, reason) = match self.emit_draft(*draft, cause, None) {
                Ok(receipt) => return Ok(receipt),
                Err(refused) => refused,
            };
            draft = back;
            match self.wait_out(&draft, reason, settled).await {
                Ok(Some(grant)) => return self.redeem(*draft, cause, grant),
                Ok(None) => {}
                Err(reason) => return Err(EmitError { event: E::handed_back(*draft), reason }),
            }
        }
    }

    /// Waits until trying again makes sense, or has room held.
    async fn wait_out(
        self: &Arc<Self>,
        draft: &Draft,
        reason: Refusal,
        settled: impl Future<Output = ()>,
    ) -> Result<Option<Grant>, Refusal> {
        if reason.advice() == Advice::Never {
            return Err(reason);
        }
        if Current::is_inside(self.address()) {
            return Err(Refusal::WouldDeadlock);
        }
        match reason {
            Refusal::Full { .. } | Refusal::QuotaExceeded { what: "queued events", .. } => {
                return self.wait_for_room(draft).await.map(Some);
            }
            Refusal::RateExceeded { retry_after, .. } => tokio::time::sleep(retry_after).await,
            _ => settled.await,
        }
        Ok(None)
    }

    async fn wait_for_room(self: &Arc<Self>, draft: &Draft) -> Result<Grant, Refusal> {
        let granted = {
            let mut state = self.lock();
            let (grant, granted) = oneshot::channel();
            let class = draft.priority.unwrap_or_default().class();
            state.waiting.push_back(Waiter { class, tenant: draft.tenant.clone(), grant });
            // Room may have come free between the refusal and this lock.
            self.serve_waiting(&mut state);
            if state.phase != Phase::Open {
                state.waiting.clear();
            }
            granted
        };
        granted.await.map_err(|_| self.closed())
    }

    fn redeem<E: IntoDraft>(&self, draft: Draft, cause: Option<&Cause>, grant: Grant) -> Result<Receipt, EmitError<E>> {
        let accepted = self.prepare(draft, cause, None).and_then(|prepared| {
            let mut state = self.lock();
            let accepted = self.accept(&mut state, prepared, Entry::Granted(grant));
            Self::wake(state);
            accepted
        });
        accepted.map_err(|(draft, reason)| EmitError { event: E::handed_back(*draft), reason })
    }

    /// All that needs no lock: the draft becomes an event that only lacks room.
    pub(crate) fn prepare(
        &self,
        mut draft: Draft,
        cause: Option<&Cause>,
        request: Option<Arc<Request>>,
    ) -> Result<Prepared, (Box<Draft>, Refusal)> {
        if let Err(reason) = self.check(&mut draft) {
            return Err((Box::new(draft), reason));
        }
        let now = self.clock.now();
        let id = draft.id().unwrap_or_else(|| self.ids.next(now));
        let due = draft.more.as_ref().and_then(|more| more.due).map(|due| match due {
            Due::After(delay) => now + delay,
            Due::At(at) => at,
        });
        let due = due.filter(|&due| due > now);
        let lineage = match cause {
            None => Self::root(&draft, id),
            Some(cause) => {
                let new_root = due.is_some_and(|due| due.since(now) >= NEW_ROOT_AFTER);
                cause.pass_on(&mut draft, id, new_root)
            }
        };
        if lineage.depth > self.limits.depth {
            let reason = Refusal::TooDeep { name: draft.name.clone(), depth: lineage.depth, limit: self.limits.depth };
            return Err((Box::new(draft), reason));
        }
        let per_root = cause.and_then(|cause| cause.per_root).unwrap_or(self.limits.per_root);
        let event = Arc::new(Envelope::new(draft, id, now, lineage));
        let span = if LevelFilter::current() >= LevelFilter::INFO { Some(Box::new(Span::current())) } else { None };
        Ok(Prepared { held: Held { event, request, span }, due, per_root })
    }

    fn root(draft: &Draft, id: EventId) -> Lineage {
        let mut lineage = Lineage::root(id);
        if let Some(correlation) = draft.more.as_ref().and_then(|more| more.correlation) {
            lineage.correlation = correlation;
        }
        lineage
    }

    /// What a draft itself can be wrong about.
    pub(crate) fn check(&self, draft: &mut Draft) -> Result<(), Refusal> {
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
    fn accept(&self, state: &mut State, prepared: Prepared, entry: Entry) -> Result<Receipt, (Box<Draft>, Refusal)> {
        let reason = match (state.phase, &entry) {
            (Phase::Open, _) | (Phase::Draining, Entry::Handler) => None,
            (phase, _) => Some(Self::closed_in(phase)),
        };
        if let Some(reason) = reason.or_else(|| Self::exhausted(state, &prepared)) {
            return Err((prepared.into_draft(), reason));
        }
        if prepared.due.is_some() {
            return self.delay(state, prepared);
        }
        let held = prepared.held;
        let seen = self.observer.as_ref().map(|_| Arc::clone(&held.event));
        let id = held.event.id;
        let (root, depth) = (held.event.lineage.root, held.event.lineage.depth);
        let accepted = match entry {
            Entry::Granted(grant) => {
                grant.redeem();
                let event = Arc::clone(&held.event);
                state.queue.push_held(event.priority.class(), event.tenant.as_ref(), held);
                Ok(Fate::Queued)
            }
            _ => self.offer(state, held),
        };
        let fate = accepted.map_err(|(held, reason)| (held.into_draft(), reason))?;
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

    pub(super) fn exhausted(state: &State, prepared: &Prepared) -> Option<Refusal> {
        let event = &prepared.held.event;
        let is_spent = event.lineage.depth > 0 && state.roots.is_spent(event.lineage.root, prepared.per_root);
        is_spent.then(|| Refusal::RootExhausted { name: event.name.clone(), limit: prepared.per_root })
    }

    fn offer(&self, state: &mut State, held: Held) -> Result<Fate, (Held, Refusal)> {
        let event = &*held.event;
        let class = event.priority.class();
        if (event.tenant.is_some() || !state.saturated.is_empty())
            && let Some(reason) = state.forbids(event)
        {
            return Err((held, reason));
        }
        let Some(tenant) = event.tenant.clone() else {
            let offer = state.queue.offer(class, None, held);
            return self.settle(state, offer);
        };
        state.tenants.add(&tenant, Use::Queue);
        let offer = state.queue.offer(class, Some(&tenant), held);
        if matches!(offer, Offer::Refused(_) | Offer::Dropped(_)) {
            state.tenants.remove(&tenant, Use::Queue);
        }
        self.settle(state, offer)
    }

    fn settle(&self, state: &mut State, offer: Offer<Held>) -> Result<Fate, (Held, Refusal)> {
        match offer {
            Offer::Queued => Ok(Fate::Queued),
            Offer::Displaced(_, old) => {
                state.leave(old.event.tenant.as_ref());
                state.tally.overflow += 1;
                self.observe(&old.event, What::Dropped { reason: "overflow" });
                Ok(Fate::Queued)
            }
            Offer::Dropped(_) => {
                state.tally.overflow += 1;
                Ok(Fate::Dropped)
            }
            Offer::Refused(held) => {
                let reason = state.full(held.event.priority);
                Err((held, reason))
            }
        }
    }

    fn delay(&self, state: &mut State, prepared: Prepared) -> Result<Receipt, (Box<Draft>, Refusal)> {
        let limit = self.limits.delayed;
        if state.delayed.len() >= limit {
            return Err((prepared.into_draft(), Refusal::DelayedFull { limit }));
        }
        if let Some(tenant) = &prepared.held.event.tenant {
            if let Some(limit) = state.tenants.exceeded(tenant, Use::Delayed) {
                let reason = Refusal::QuotaExceeded { tenant: tenant.clone(), what: "delayed events", limit };
                return Err((prepared.into_draft(), reason));
            }
            let tenant = tenant.clone();
            state.tenants.add(&tenant, Use::Delayed);
        }
        Ok(self.store_delayed(state, prepared))
    }

    /// Keeps an event until it is due, whatever the limits.
    pub(crate) fn store_delayed(&self, state: &mut State, prepared: Prepared) -> Receipt {
        let Prepared { held, due, .. } = prepared;
        let (id, due) = (held.event.id, due.unwrap_or_default());
        let lineage = held.event.lineage;
        state.tally.emitted += 1;
        if lineage.depth > 0 {
            state.roots.count(lineage.root, self.clock.now());
        }
        self.observe(&held.event, What::Delayed { due });
        state.delayed.insert((due, id), held);
        Receipt { id, fate: Fate::Delayed { due } }
    }

    /// Tells the observer, if there is one.
    pub(crate) fn observe(&self, event: &Arc<Envelope>, what: What) {
        if let Some(observer) = &self.observer {
            observer.observe(Step { at: self.clock.now(), event: Arc::clone(event), subscription: None, what });
        }
    }

    fn count_refusal(&self, draft: &Draft, reason: &Refusal) {
        self.lock().tally.refused += 1;
        tracing::debug!(event = %draft.name, %reason, "refused");
    }

    pub(crate) fn closed(&self) -> Refusal {
        Self::closed_in(self.lock().phase)
    }

    fn closed_in(phase: Phase) -> Refusal {
        Refusal::Closed { phase: if phase == Phase::Stopped { "stopped" } else { "draining" } }
    }
}

impl Prepared {
    pub(crate) fn into_draft(self) -> Box<Draft> {
        self.held.into_draft()
    }
}

impl Held {
    /// The draft again. The event is new, so nobody else holds it but an observer, for whom it is cloned.
    fn into_draft(self) -> Box<Draft> {
        Box::new(Arc::unwrap_or_clone(self.event).into_refused_draft())
    }
}
