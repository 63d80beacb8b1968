//! Events that are accepted, written and refused together: what is appended to an aggregate.

use bytes::Bytes;
use millstream_operators::Timestamp;
use tokio::sync::oneshot;

use super::{Held, Intake, Prepared, Refusal, State, What, accept::Entry};
use crate::{
    event::{Draft, EventId},
    store::{CommitError, Committed, MAX_BATCH_BYTES, Op, tables},
    tenant::Use,
};

/// Keeps others of a key out until then, and what they find there.
#[derive(Clone, Debug)]
pub(crate) struct Once {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) until: Timestamp,
}

/// Events that go to the store together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) events: Vec<Held>,
    pub(crate) once: Option<Once>,
    now: Timestamp,
    /// Told what became of them.
    told: oneshot::Sender<Result<Committed, CommitError>>,
}

/// Events that are on their way together: their ids, and what becomes of them.
pub(crate) struct Appending {
    pub(crate) ids: Vec<EventId>,
    pub(crate) landing: oneshot::Receiver<Result<Committed, CommitError>>,
}

/// What events that are appended together may take: a batch has room for it with all that goes with them.
const MOST_BYTES: usize = MAX_BATCH_BYTES / 4 * 3;

impl Group {
    /// The row that must be new before any of the events' own.
    pub(super) fn once_op(&self) -> Option<Op> {
        self.once.clone().map(|Once { key, value, until }| Op::PutNew {
            table: tables::ONCE,
            key,
            value,
            life: Some((self.now, until)),
        })
    }

    pub(super) fn tell(self, landed: &Result<Committed, CommitError>) {
        // Nobody may wait any more.
        let _ = self.told.send(landed.clone());
    }
}

impl Intake {
    /// Accepts all of these or none, and sends them to the store together. `once` is made of the first one's id and of the
    /// time.
    pub(crate) fn append(
        &self,
        drafts: Vec<Draft>,
        once: impl FnOnce(EventId, Timestamp) -> Option<Once>,
    ) -> Result<Appending, (Vec<Draft>, Refusal)> {
        let (cause, now) = (self.cause_here(), self.clock.now());
        let entry = if cause.is_some() { Entry::Handler } else { Entry::Outside };
        let mut prepared = Vec::with_capacity(drafts.len());
        let mut drafts = drafts.into_iter();
        while let Some(draft) = drafts.next() {
            match self.prepare(now, draft, cause.as_ref(), None) {
                Ok(next) => prepared.push(next),
                Err(refused) => {
                    let (event, reason) = (refused.event, refused.reason);
                    return Err((self.hand_back(prepared, std::iter::once(event).chain(drafts)), reason));
                }
            }
        }
        // Each has a row beside its record.
        let bytes = |prepared: &Prepared| prepared.held.stored().map_or(0, |stored| 2 * stored.size);
        let bytes: usize = prepared.iter().map(bytes).sum();
        if bytes > MOST_BYTES {
            let what = "events that are appended together".to_owned();
            let reason = Refusal::TooLargeToStore { what, bytes, limit: MOST_BYTES };
            return Err((self.hand_back(prepared, drafts), reason));
        }
        let ids: Vec<_> = prepared.iter().map(|prepared| prepared.held.event.id).collect();
        let once = ids.first().and_then(|&first| once(first, now));
        let mut state = self.lock();
        if let Err(reason) = Self::admit_group(&mut state, &prepared, entry) {
            drop(state);
            return Err((self.hand_back(prepared, drafts), reason));
        }
        let (told, landing) = oneshot::channel();
        for Prepared { held, .. } in &prepared {
            let lineage = held.event.lineage;
            if lineage.depth > 0 {
                state.roots.count(lineage.root, now);
            }
            self.observe(&held.event, What::Emitted);
        }
        state.tally.emitted += prepared.len() as u64;
        state.log.afloat += prepared.len() as u64;
        let events = prepared.into_iter().map(|prepared| prepared.held).collect();
        state.log.to_append.push_back(Group { events, once, now, told });
        self.let_in(state);
        Ok(Appending { ids, landing })
    }

    /// Under the lock: room for all of them, or for none.
    fn admit_group(state: &mut State, prepared: &[Prepared], entry: Entry) -> Result<(), Refusal> {
        let closed = Self::closed_to(state.phase, entry);
        let failed = state.log.failure.clone().map(|reason| Refusal::StoreFailed { reason });
        if let Some(reason) = closed.or(failed) {
            return Err(reason);
        }
        for (held, next) in prepared.iter().enumerate() {
            let event = &next.held.event;
            let class = event.priority.class();
            let refusal = Self::exhausted(state, next).or_else(|| state.forbids(event));
            let refusal = refusal.or_else(|| (!state.queue.hold(class)).then(|| state.full(event.priority)));
            if let Some(refusal) = refusal {
                for before in &prepared[..held] {
                    state.release(before.held.event.priority.class(), before.held.event.tenant.as_ref());
                }
                return Err(refusal);
            }
            if let Some(tenant) = &event.tenant {
                state.tenants.add(tenant, Use::Queue);
            }
        }
        Ok(())
    }

    /// All the drafts again, in their order.
    fn hand_back(&self, prepared: Vec<Prepared>, rest: impl Iterator<Item = Draft>) -> Vec<Draft> {
        let drafts: Vec<_> = prepared.into_iter().map(Prepared::into_draft).chain(rest).collect();
        self.lock().tally.refused += drafts.len() as u64;
        drafts
    }

    /// Groups that a shutdown finds on their way to the store go nowhere.
    pub(super) fn drop_groups(state: &mut State) -> Vec<Held> {
        let groups = std::mem::take(&mut state.log.to_append);
        let dropped: Vec<_> = groups.into_iter().flat_map(|group| group.events).collect();
        state.log.afloat -= dropped.len() as u64;
        for held in &dropped {
            state.release(held.event.priority.class(), held.event.tenant.as_ref());
        }
        dropped
    }
}

impl std::fmt::Debug for Appending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Appending").field("ids", &self.ids).finish_non_exhaustive()
    }
}
