//! Why an event is emitted: which event's handler did it, and what that handler holds while it waits.

use std::{cell::Cell, sync::Arc};

use crate::{
    event::{Draft, Envelope, EventId, Lineage},
    request::Hold,
};

/// The event whose handler emits, carried by [`Context`](crate::Context) and its handles.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) event: Arc<Envelope>,
    /// How many events the root may cause, where the subscription says other than the runtime.
    pub(crate) per_root: Option<u32>,
    /// What waits for the answer, if this is a request.
    pub(crate) hold: Option<Arc<Hold>>,
}

impl Cause {
    /// The lineage of an event caused here; a tenant and a cancellation token are inherited.
    pub(crate) fn pass_on(&self, draft: &mut Draft, id: EventId, new_root: bool) -> Lineage {
        if draft.tenant.is_none() {
            draft.tenant.clone_from(&self.event.tenant);
        }
        if let Some(token) = self.event.cancellation()
            && draft.more.as_ref().is_none_or(|more| more.cancellation.is_none())
        {
            draft.more().cancellation = Some(token.clone());
        }
        let above = &self.event.lineage;
        let correlation = draft.more.as_ref().and_then(|more| more.correlation).unwrap_or(above.correlation);
        let (root, depth) = if new_root { (id, 0) } else { (above.root, above.depth + 1) };
        Lineage { root, cause: Some(self.event.id), correlation, depth }
    }
}

/// The delivery whose handler is being polled on this thread. It lets an emit on a captured runtime know its cause, and
/// a wait inside a handler know that it would wait for itself.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) event: Arc<Envelope>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) delivery: u64,
    pub(crate) above: Option<Arc<Hold>>,
}

/// What all deliveries of one subscription have in common.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Which runtime polls: the address of its intake.
    pub(crate) intake: usize,
    pub(crate) subscription: u64,
    pub(crate) ordered: bool,
    pub(crate) per_root: Option<u32>,
}

thread_local! {
    static CURRENT: Cell<Option<Current>> = const { Cell::new(None) };
}

impl Current {
    /// Makes it the current delivery and returns the one before it, which may be another runtime's.
    pub(crate) fn enter(self) -> Option<Self> {
        CURRENT.replace(Some(self))
    }

    /// Ends it and puts the one before it back.
    pub(crate) fn leave(before: Option<Self>) -> Option<Self> {
        CURRENT.replace(before)
    }

    /// Runs something as this delivery, on a thread that is not the dispatcher's.
    pub(crate) fn around<R>(self, work: impl FnOnce() -> R) -> R {
        /// Puts back what was current, even where the work panics.
        struct Before(Option<Current>);

        impl Drop for Before {
            fn drop(&mut self) {
                Current::leave(self.0.take());
            }
        }

        let _before = Before(self.enter());
        work()
    }

    /// What the handler that this runtime polls on this thread causes, if there is one.
    pub(crate) fn cause(intake: usize) -> Option<Cause> {
        Self::look(|current| current.filter(|current| current.seat.intake == intake).map(Self::to_cause))
    }

    /// Whether this runtime polls a handler on this thread.
    pub(crate) fn is_inside(intake: usize) -> bool {
        Self::look(|current| current.is_some_and(|current| current.seat.intake == intake))
    }

    fn look<R>(look: impl FnOnce(Option<&Self>) -> R) -> R {
        let current = CURRENT.take();
        let seen = look(current.as_ref());
        CURRENT.set(current);
        seen
    }

    fn to_cause(&self) -> Cause {
        let key = self.event.key.as_ref().filter(|_| self.seat.ordered);
        let hold = Hold {
            subscription: self.seat.subscription,
            delivery: self.delivery,
            tenant: self.event.tenant.clone(),
            key: key.map(|key| (self.event.tenant.clone(), key.clone())),
            above: self.above.clone(),
        };
        Cause { event: Arc::clone(&self.event), per_root: self.seat.per_root, hold: Some(Arc::new(hold)) }
    }
}
