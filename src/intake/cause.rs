//! Why an event is emitted: which event's handler did it, and what that handler holds while it waits.

use std::{cell::Cell, mem::ManuallyDrop, sync::Arc};

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

/// The place of the current delivery: a cell for each part, so that each is moved as it was written, in one word.
struct Place {
    event: Cell<Option<Arc<Envelope>>>,
    seat: Cell<Option<Arc<Seat>>>,
    delivery: Cell<u64>,
    above: Cell<Option<Arc<Hold>>>,
}

impl Place {
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the current delivery changes hands in registers")]
    fn replace(&self, current: Option<Current>) -> Option<Current> {
        let (event, seat, delivery, above) = match current {
            Some(Current { event, seat, delivery, above }) => (Some(event), Some(seat), delivery, above),
            None => (None, None, 0, None),
        };
        let (event, seat) = (self.event.replace(event), self.seat.replace(seat));
        let (delivery, above) = (self.delivery.replace(delivery), self.above.replace(above));
        Some(Current { event: event?, seat: seat?, delivery, above })
    }
}

thread_local! {
    /// Not dropped with its thread, which saves a look at each use: whoever enters leaves, so it is empty by then.
    static CURRENT: ManuallyDrop<Place> = const {
        ManuallyDrop::new(Place {
            event: Cell::new(None),
            seat: Cell::new(None),
            delivery: Cell::new(0),
            above: Cell::new(None),
        })
    };
    /// The intake of the current delivery, zero without one. Nearly every emit comes from outside, and this answers it
    /// without moving the delivery.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

impl Current {
    /// Makes it the current delivery and returns the one before it, which may be another runtime's.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the current delivery changes hands in registers")]
    pub(crate) fn enter(self) -> Option<Self> {
        INSIDE.set(self.seat.intake);
        CURRENT.with(|place| place.replace(Some(self)))
    }

    /// Ends it and puts the one before it back.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the current delivery changes hands in registers")]
    pub(crate) fn leave(before: Option<Self>) -> Option<Self> {
        INSIDE.set(before.as_ref().map_or(0, |before| before.seat.intake));
        CURRENT.with(|place| place.replace(before))
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
        Self::is_inside(intake).then(Self::look).flatten()
    }

    /// Whether this runtime polls a handler on this thread.
    pub(crate) fn is_inside(intake: usize) -> bool {
        INSIDE.get() == intake
    }

    #[cold]
    fn look() -> Option<Cause> {
        CURRENT.with(|place| {
            let current = place.replace(None);
            let cause = current.as_ref().map(Self::to_cause);
            place.replace(current);
            cause
        })
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
        let (event, hold) = (Arc::clone(&self.event), Some(Arc::new(hold)));
        Cause { event, per_root: self.seat.per_root, hold, way: Way::Emitted }
    }
}
