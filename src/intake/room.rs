//! Waiting for room: first come, first served, and a grant that is not used goes back.

use std::{collections::VecDeque, fmt, sync::Arc};

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

/// Those who wait, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    line: VecDeque<Waiter>,
    /// Those who have given up are looked for when it is so long.
    sweep_at: usize,
}

/// The shortest line in which those who have given up are looked for.
const SWEEP_AT_LEAST: usize = 64;

impl Waiting {
    /// Adds one to the end. Returns those who had given up meanwhile: whoever comes and goes leaves nothing behind, whether
    /// room ever comes free or not.
    #[must_use = "what they hold is not dropped under the lock"]
    pub(crate) fn push(&mut self, waiter: Waiter) -> VecDeque<Waiter> {
        let mut gone = VecDeque::new();
        if self.line.len() >= self.sweep_at.max(SWEEP_AT_LEAST) {
            (gone, self.line) = std::mem::take(&mut self.line).into_iter().partition(|w| w.grant.is_closed());
            self.sweep_at = self.line.len() * 2;
        }
        self.line.push_back(waiter);
        gone
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// All of them, to be dropped, which tells them, when the lock is free.
    pub(crate) fn take(&mut self) -> VecDeque<Waiter> {
        std::mem::take(&mut self.line)
    }
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
            let granted = intake.serve_waiting(&mut state);
            drop(state);
            granted.tell();
        }
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("class", &self.class).finish_non_exhaustive()
    }
}

/// Grants for those who wait, and the places of those who have given up. Whoever is told is woken, and a waker may do
/// anything: so that is for when the lock is free.
#[derive(Debug, Default)]
#[must_use = "who waits is to be told when the lock is free"]
pub(crate) struct Granted {
    grants: Vec<(oneshot::Sender<Grant>, Grant)>,
    gone: Vec<Waiter>,
}

impl Granted {
    /// Tells them. A grant of one who gives up just now goes to the next.
    pub(crate) fn tell(self) {
        for (waiter, grant) in self.grants {
            drop(waiter.send(grant));
        }
    }
}

impl Intake {
    /// Gives room that came free to those who wait, in the order in which they came; who cannot use it is passed over.
    pub(crate) fn serve_waiting(self: &Arc<Self>, state: &mut State) -> Granted {
        let mut granted = Granted::default();
        let mut place = 0;
        while let Some(Waiter { class, tenant, grant }) = state.waiting.line.get(place)
            && (0..crate::queue::CLASSES).any(|class| state.queue.room().has(class))
        {
            let over_quota = tenant.as_ref().is_some_and(|tenant| state.tenants.exceeded(tenant, Use::Queue).is_some());
            let is_gone = grant.is_closed();
            if !is_gone && (over_quota || !state.queue.room().has(*class)) {
                place += 1;
                continue;
            }
            let Some(waiter) = state.waiting.line.remove(place) else { break };
            if is_gone {
                granted.gone.push(waiter);
            } else {
                granted.grants.push(self.grant(state, waiter));
            }
        }
        granted
    }

    fn grant(self: &Arc<Self>, state: &mut State, waiter: Waiter) -> (oneshot::Sender<Grant>, Grant) {
        let Waiter { class, tenant, grant } = waiter;
        state.queue.hold(class);
        if let Some(tenant) = &tenant {
            state.tenants.add(tenant, Use::Queue);
        }
        (grant, Grant { intake: Some(Arc::clone(self)), class, tenant })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One comes, and gives up at once unless `staying` keeps him; how long the line is then.
    fn come(waiting: &mut Waiting, staying: Option<&mut Vec<oneshot::Receiver<Grant>>>) -> usize {
        let (grant, granted) = oneshot::channel();
        drop(waiting.push(Waiter { class: 2, tenant: None, grant }));
        if let Some(staying) = staying {
            staying.push(granted);
        }
        waiting.line.len()
    }

    #[test]
    fn whoever_gives_up_waiting_leaves_nothing_behind() {
        let (mut waiting, mut staying) = (Waiting::default(), Vec::new());
        for n in 1..=10 {
            assert_eq!(come(&mut waiting, Some(&mut staying)), n);
        }
        for _ in 0..10_000 {
            assert!(come(&mut waiting, None) <= SWEEP_AT_LEAST);
        }
        for _ in 0..1_000 {
            come(&mut waiting, Some(&mut staying));
        }
        let line = waiting.take();
        assert_eq!(line.iter().filter(|waiter| !waiter.grant.is_closed()).count(), 1_010);
        assert!(line.len() <= 2 * 1_010);
    }
}
