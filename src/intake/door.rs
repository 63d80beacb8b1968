//! The intake: the one lock, and all around it that needs none.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::{Cause, FindCause, Handling, Observer, Phase, Pump, Refusal, State, Step, Types, What};
use crate::{
    event::{Clock, Envelope, IdSource},
    store::wake,
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

    /// Gives the lock back after something was taken in. In memory the dispatcher is woken for it; in a durable runtime it goes
    /// to the store first, and its landing wakes the dispatcher.
    #[inline]
    pub(super) fn let_in(&self, mut state: MutexGuard<'_, State>) {
        let Some(pump) = &self.pump else { return Self::wake(state) };
        let gone = std::mem::take(&mut state.gone);
        drop(state);
        drop(gone);
        pump.go();
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
            wake(sleeper);
        }
    }

    /// Lets go of the store of a durable runtime.
    pub(crate) fn release(&self) {
        if let Some(pump) = &self.pump {
            pump.release();
        }
    }

    /// What never went to the store, where the runtime is dropped and nobody has shut it down.
    fn abandon(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let queued = state.queue.sweep(|_| true);
        let delayed = std::mem::take(&mut state.log.to_delay).into_iter().map(|(_, held)| held);
        queued.into_iter().chain(delayed).for_each(|held| held.tell_refused("the runtime was dropped"));
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

    /// Tells the observer, if there is one.
    pub(crate) fn observe(&self, event: &Arc<Envelope>, what: What) {
        if let Some(observer) = &self.observer {
            observer.observe(Step { at: self.clock.now(), event: Arc::clone(event), subscription: None, what });
        }
    }

    pub(super) fn closed(&self) -> Refusal {
        Self::closed_in(self.lock().phase)
    }

    pub(super) fn closed_in(phase: Phase) -> Refusal {
        Refusal::Closed { phase: if phase == Phase::Stopped { "stopped" } else { "draining" } }
    }
}

/// The file of a store is closed when a runtime is dropped, with all that was handed over in it.
impl Drop for Intake {
    fn drop(&mut self) {
        if self.pump.is_some() {
            self.abandon();
            self.release();
        }
    }
}
