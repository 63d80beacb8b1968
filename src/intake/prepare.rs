//! All that needs no lock: the draft is checked and becomes an event that only lacks room.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use millstream_operators::Timestamp;
use tracing::{Span, level_filters::LevelFilter};

use super::{
    Cause, EmitError, Fate, Held, Intake, Landing, Origin, Receipt, Refusal, Stored, Teller, pump::delayed_key,
};
use crate::{
    event::{Draft, Envelope, EventId, JsonSize, Lineage, aggregate_key, scoped},
    request::Request,
    store::MAX_BATCH_BYTES,
};

/// A draft that was refused. Boxed: the way of those that are not should not be wide.
pub(crate) type Refused = Box<EmitError<Draft>>;

/// An event that needs only room.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) held: Held,
    pub(crate) due: Option<Timestamp>,
    /// How many events its root may cause.
    pub(super) per_root: u32,
}

/// What the header of a stored event may come to beside its data.
const HEADER: usize = 64 << 10;

/// What the record of an event may take: a commit has room for it beside its aggregate's row, or as a dead letter beside others.
const MOST_STORED: usize = MAX_BATCH_BYTES / 4;

/// Keys of different tenants are different keys.
fn once_key(event: &Envelope, key: &str) -> Bytes {
    let mut row = scoped(event.tenant.as_ref(), &[]);
    row.extend_from_slice(key.as_bytes());
    row.into()
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
        if bytes.len() > MOST_STORED {
            return Err(Refusal::TooLargeToStore {
                what: event.name.to_string(),
                bytes: bytes.len(),
                limit: MOST_STORED,
            });
        }
        let until = event.emitted + self.limits.once;
        let once = event.once().map(|key| (once_key(event, key), until));
        let version = event.aggregate().map(|aggregate| aggregate_key(event.tenant.as_ref(), aggregate));
        Ok(Stored { size: bytes.len(), bytes, landing: Teller::new(event.id), once, version })
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
    /// The key of its row, where it is delayed and another one may have the same.
    pub(crate) fn delayed_key(&self) -> Option<Bytes> {
        let due = self.due.filter(|_| self.held.event.has_given_id())?;
        Some(delayed_key(due, self.held.event.id))
    }

    /// What its receipt will say, but for what becomes of it.
    #[inline]
    pub(super) fn claim(&self) -> Claim {
        let landing = self.held.stored().map(|stored| stored.landing.landing());
        Claim { id: self.held.event.id, landing }
    }

    pub(super) fn into_draft(self) -> Draft {
        self.held.into_draft()
    }
}

impl Held {
    /// The draft again. The event is new, so nobody else holds it but an observer, for whom it is cloned.
    pub(super) fn into_draft(self) -> Draft {
        Arc::unwrap_or_clone(self.event).into_refused_draft()
    }
}
