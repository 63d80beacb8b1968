//! Waiting for room: first come, first served, and a grant that is not used goes back.

use std::{fmt, sync::Arc};

use tokio::sync::oneshot;

use super::{Intake, State};
use crate::{event::Tenant, tenant::Use};

/// Somebody who waits for room for one event.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) class: usize,
    pub(crate) tenant: Option<Tenant>,
    pub(crate) grant: oneshot::Sender<Grant>,
}

/// Room that is held for an event that comes later. Dropped, it goes to whoever waits next.
pub(crate) struct Grant {
    intake: Option<Arc<Intake>>,
    class: usize,
    tenant: Option<Tenant>,
}

impl Grant {
    /// The room goes to the event that the caller now queues.
    pub(crate) fn redeem(mut self) {
        self.intake = None;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(intake) = self.intake.take() {
            let mut state = intake.lock();
            state.release(self.class, self.tenant.as_ref());
            intake.serve_waiting(&mut state);
        }
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("class", &self.class).finish_non_exhaustive()
    }
}

impl Intake {
    /// Gives room that came free to those who wait, in the order in which they came; who cannot use it is passed over.
    pub(crate) fn serve_waiting(self: &Arc<Self>, state: &mut State) {
        let mut place = 0;
        while place < state.waiting.len() && (0..crate::queue::CLASSES).any(|class| state.queue.room().has(class)) {
            let Waiter { class, ref tenant, .. } = state.waiting[place];
            let over_quota = tenant.as_ref().is_some_and(|tenant| state.tenants.exceeded(tenant, Use::Queue).is_some());
            if over_quota || !state.queue.room().has(class) {
                place += 1;
                continue;
            }
            if let Some(waiter) = state.waiting.remove(place) {
                self.grant(state, waiter);
            }
        }
    }

    fn grant(self: &Arc<Self>, state: &mut State, waiter: Waiter) {
        let Waiter { class, tenant, grant } = waiter;
        state.queue.hold(class);
        if let Some(tenant) = &tenant {
            state.tenants.add(tenant, Use::Queue);
        }
        let intake = Some(Arc::clone(self));
        // Whoever gave up waiting leaves the room to the next; the grant must not take the lock that is held here.
        if let Err(unused) = grant.send(Grant { intake, class, tenant }) {
            state.release(unused.class, unused.tenant.as_ref());
            unused.redeem();
        }
    }
}
