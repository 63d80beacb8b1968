//! The life of a runtime: open, draining, stopped.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;

use super::{ProcessError, Runtime};
use crate::{event::Envelope, intake};

/// Where a runtime is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// Takes events.
    Open,
    /// Takes no more events from outside, and finishes what it has.
    Draining,
    /// Its handlers are dropped; it does nothing more.
    Stopped,
}

/// What a shutdown left.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Deliveries that ended well between the call and the end.
    pub handled: u64,
    /// Events that were accepted and not begun, or waited for a retry, a key or a slot: handed back, to be kept or emitted
    /// elsewhere. An event that several subscriptions waited for is here once for each.
    pub parked: Vec<Arc<Envelope>>,
    /// Events whose handlers were dropped in flight when the grace was over.
    pub abandoned: Vec<Arc<Envelope>>,
}

/// The phases, with the report that the last one leaves.
#[derive(Debug, Default)]
pub(super) enum Life {
    #[default]
    Open,
    Draining,
    /// The grace is over.
    Aborting,
    Stopped(ShutdownReport),
}

impl Life {
    pub(super) fn report(&self) -> Option<ShutdownReport> {
        if let Self::Stopped(report) = self { Some(report.clone()) } else { None }
    }
}

/// How long a shutdown waits for its last commit at least.
const LAST_WRITE: Duration = Duration::from_secs(1);

impl Runtime {
    pub(super) fn life(&self) -> MutexGuard<'_, Life> {
        self.shared.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        match *self.life() {
            Life::Open => Phase::Open,
            Life::Draining | Life::Aborting => Phase::Draining,
            Life::Stopped(_) => Phase::Stopped,
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.phase() == Phase::Stopped
    }

    /// Stops: takes no more events, finishes what is queued, in flight and in backoff within the grace time, then drops
    /// what is still in flight, hands back what was not begun, and lets go of its handlers. Delayed events that are not
    /// due are handed back, too.
    ///
    /// Called again, it waits for the first call's end and returns the same report; its own grace counts only where
    /// the first call was dropped.
    ///
    /// # Errors
    /// [`ProcessError`] inside a handler of the same runtime.
    ///
    /// # Cancel safety
    /// Dropped, the runtime goes on draining, without a limit, if somebody drives it; call it again to end it.
    ///
    /// # Data loss
    /// None that the report does not name. In a durable runtime what is not handled stays in the store, and is not in the
    /// report; the store is let go of.
    pub async fn shutdown(&self, grace: Duration) -> Result<ShutdownReport, ProcessError> {
        self.must_be_outside()?;
        let handled_before = self.stats().deliveries.handled;
        self.begin_draining();
        let _turn = self.shared.ending.lock().await;
        if let Some(report) = self.life().report() {
            return Ok(report);
        }
        let drained = tokio::time::timeout(grace, self.drain()).await.is_ok();
        if !drained {
            self.begin_aborting();
        }
        let mut dispatcher = self.shared.dispatcher.lock().await;
        // From here on nobody subscribes, not even a handler that goes.
        self.shared.registry.close();
        let (abandoned, waiting) = dispatcher.abort_all();
        self.shared.intake.close(intake::Phase::Stopped);
        let written = poll_fn(|cx| dispatcher.poll_release(cx));
        if tokio::time::timeout(grace.max(LAST_WRITE), written).await.is_err() {
            tracing::warn!("the last commit did not end in time: what it holds is done again after a restart");
        }
        let mut parked = dispatcher.stop();
        parked.extend(waiting);
        parked.extend(self.shared.intake.park_all());
        let handled = self.stats().deliveries.handled - handled_before;
        let report = ShutdownReport { handled, parked, abandoned };
        *self.life() = Life::Stopped(report.clone());
        drop(dispatcher);
        self.shared.intake.settled.notify_waiters();
        self.shared.intake.release();
        self.shared.shelf.release();
        self.shared.closed.cancel();
        self.shared.home.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(report)
    }

    fn begin_draining(&self) {
        let mut life = self.life();
        if matches!(*life, Life::Open) {
            *life = Life::Draining;
            drop(life);
            self.shared.intake.close(intake::Phase::Draining);
        }
    }

    /// Handlers see that their time is over; whoever drives lets go.
    fn begin_aborting(&self) {
        let mut life = self.life();
        if matches!(*life, Life::Draining) {
            *life = Life::Aborting;
            drop(life);
            self.shared.stop.cancel();
            self.shared.intake.close(intake::Phase::Draining);
        }
    }

    /// Drives, unless somebody does, until nothing is left to do.
    async fn drain(&self) {
        let mut dispatcher = self.shared.dispatcher.lock().await;
        if matches!(*self.life(), Life::Draining) {
            dispatcher.change_hands();
            poll_fn(|cx| self.poll_until_drained(&mut dispatcher, cx)).await;
        }
    }

    /// Waits for the shutdown that has drained the runtime to end it.
    pub(super) async fn await_stop(&self) {
        loop {
            let mut changed = pin!(self.shared.intake.settled.notified());
            changed.as_mut().enable();
            if !matches!(*self.life(), Life::Draining | Life::Aborting) {
                return;
            }
            changed.await;
        }
    }
}
