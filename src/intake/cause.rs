//! Why an event is emitted: which event's handler did it, and what that handler holds while it waits.

use std::{cell::Cell, marker::PhantomData, sync::Arc};

use crate::{
    event::{Draft, Envelope, EventId, Lineage, Way},
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
    /// How what is caused comes in.
    pub(crate) way: Way,
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
        Lineage { root, cause: Some(self.event.id), correlation, depth, way: self.way }
    }
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

/// Finds what the handler causes that the runtime of an intake polls on this thread, if there is one.
pub(crate) type FindCause = fn(intake: usize) -> Option<Cause>;

thread_local! {
    /// How many handlers are polled on this thread, one inside of the other.
    static HANDLERS: Cell<usize> = const { Cell::new(0) };
}

/// Says, while it lives, that a handler is polled on this thread. Nearly every emit comes from outside, and this answers
/// it without a look at deliveries.
#[derive(Debug)]
pub(crate) struct Handling(PhantomData<*const ()>);

impl Handling {
    pub(crate) fn begin() -> Self {
        HANDLERS.set(HANDLERS.get() + 1);
        Self(PhantomData)
    }

    /// Whether any handler of any runtime is polled on this thread.
    pub(crate) fn is_any() -> bool {
        HANDLERS.get() > 0
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        HANDLERS.set(HANDLERS.get() - 1);
    }
}
