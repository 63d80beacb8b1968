//! process and run: whoever awaits them drives the dispatcher.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

use millstream_operators::Timestamp;
use tokio::sync::MutexGuard;

use super::{Runtime, ShutdownReport, Stats, shutdown::Life};
use crate::{
    dispatch::{Dispatcher, Progress},
    intake::chain,
};

/// What one call of [`Runtime::process`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessReport {
    /// Events routed to at least one subscription.
    pub routed: u64,
    /// Deliveries that ended well.
    pub handled: u64,
    /// Deliveries that went to the dead letters.
    pub dead: u64,
    /// Retries begun.
    pub retried: u64,
    /// When the next delayed event is due, or a deadline of a durable stage; it does not come before somebody drives the runtime then.
    pub next_deadline: Option<Timestamp>,
}

/// Why the runtime cannot be driven from here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// A handler waits for the runtime that polls it.
    #[error("a handler must not wait for the runtime that runs it: it would wait for itself")]
    WouldDeadlock,
    /// The store of a durable runtime cannot be opened or read. Nothing accepted is lost; whoever drives again tries again.
    #[error("the store cannot be used: {reason}")]
    Store {
        /// What it says.
        reason: String,
    },
}

impl Runtime {
    /// Runs until nothing is queued, in flight or in backoff, and reports what it did. Delayed events that are not due
    /// and streams that somebody holds are not waited for.
    ///
    /// Several may call it, and it may be called while [`run`](Self::run) runs: one drives, the others wait for rest.
    ///
    /// In a durable runtime it also waits until all that came of the handlers is in the store.
    ///
    /// # Errors
    /// [`ProcessError`] inside a handler of the same runtime, or where the store of a durable runtime cannot be used.
    ///
    /// # Cancel safety
    /// Dropped, nothing is lost: whoever drives next goes on.
    pub async fn process(&self) -> Result<ProcessReport, ProcessError> {
        self.must_be_outside()?;
        let before = self.stats();
        loop {
            let mut settled = pin!(self.shared.intake.settled.notified());
            settled.as_mut().enable();
            if self.is_at_rest() {
                break;
            }
            tokio::select! {
                biased;
                mut dispatcher = self.shared.dispatcher.lock() => {
                    dispatcher.change_hands();
                    poll_fn(|cx| self.poll_until_rest(&mut dispatcher, cx)).await?;
                    break;
                }
                () = settled => {}
            }
        }
        Ok(self.report_since(&before))
    }

    /// Drives until [`shutdown`](Self::shutdown) is called and has drained, and returns the shutdown's report.
    ///
    /// Nothing else ends it. Beside work on the same task, join the two so that the first which fails ends both: with
    /// `join!`, work that returns early by `?` would leave `run` to drive for ever.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::{error::Error, time::Duration};
    /// use millstream::{Draft, Runtime};
    ///
    /// async fn feed(runtime: &Runtime, names: &[&str]) -> Result<(), Box<dyn Error>> {
    ///     for name in names {
    ///         runtime.emit_wait(Draft::json(name, 7.into())).await?;
    ///     }
    ///     runtime.shutdown(Duration::from_secs(10)).await?; // ends `run`
    ///     Ok(())
    /// }
    ///
    /// for (names, is_fed) in [(["order.placed", "order.paid"], true), (["order.placed", "no name"], false)] {
    ///     let runtime = Runtime::builder().build()?;
    ///     runtime.on("order.*", || async {})?;
    ///     let drive = async { Ok(runtime.run().await?) };
    ///     let fed = tokio::try_join!(drive, feed(&runtime, &names));
    ///     assert_eq!(fed.is_ok(), is_fed);
    /// }
    /// # Ok::<(), Box<dyn Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ProcessError`] inside a handler of the same runtime.
    ///
    /// # Cancel safety
    /// Dropped, nothing is lost: whoever drives next goes on.
    pub async fn run(&self) -> Result<ShutdownReport, ProcessError> {
        self.must_be_outside()?;
        loop {
            let mut changed = pin!(self.shared.intake.settled.notified());
            changed.as_mut().enable();
            if let Some(report) = self.life().report() {
                return Ok(report);
            }
            tokio::select! {
                biased;
                mut dispatcher = self.shared.dispatcher.lock() => {
                    dispatcher.change_hands();
                    poll_fn(|cx| self.poll_until_drained(&mut dispatcher, cx)).await;
                    drop(dispatcher);
                    self.await_stop().await;
                }
                () = changed => {}
            }
        }
    }

    pub(super) fn must_be_outside(&self) -> Result<(), ProcessError> {
        if self.shared.intake.is_inside() { Err(ProcessError::WouldDeadlock) } else { Ok(()) }
    }

    fn poll_until_rest(
        &self,
        dispatcher: &mut MutexGuard<'_, Dispatcher>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ProcessError>> {
        match dispatcher.round(cx) {
            Progress::Resting { .. } if !self.shared.has_commands() => Poll::Ready(Ok(())),
            // A shutdown whose grace is over wants the dispatcher.
            _ if matches!(*self.life(), Life::Aborting) => Poll::Ready(Ok(())),
            _ => match dispatcher.store_error() {
                Some(error) => Poll::Ready(Err(ProcessError::Store { reason: chain(error) })),
                None => Poll::Pending,
            },
        }
    }

    /// Until a shutdown has begun and nothing is left to do, or its grace is over.
    pub(super) fn poll_until_drained(
        &self,
        dispatcher: &mut MutexGuard<'_, Dispatcher>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let progress = dispatcher.round(cx);
        let is_over = match *self.life() {
            Life::Open => false,
            Life::Draining => matches!(progress, Progress::Resting { .. }),
            Life::Aborting | Life::Stopped(_) => true,
        };
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether nothing is queued, in flight or in backoff, by the books.
    pub(super) fn is_at_rest(&self) -> bool {
        let stats = self.stats();
        let open = stats.deliveries.open() - stats.deliveries.parked;
        stats.events.queued == 0 && open == 0 && !self.shared.has_commands() && !self.has_due() && self.is_settled()
    }

    /// Whether nothing is on its way to or from the store of a durable runtime.
    fn is_settled(&self) -> bool {
        self.shared.intake.pump.is_none() || !self.shared.intake.lock().log.unsettled
    }

    fn has_due(&self) -> bool {
        let state = self.shared.intake.lock();
        let now = self.shared.intake.clock.now();
        let in_memory = state.delayed.first_key_value().map(|(&(due, _), _)| due);
        in_memory.into_iter().chain(state.log.next_due).any(|due| due <= now)
    }

    fn report_since(&self, before: &Stats) -> ProcessReport {
        let after = self.stats();
        let state = self.shared.intake.lock();
        ProcessReport {
            routed: after.events.routed - before.events.routed,
            handled: after.deliveries.handled - before.deliveries.handled,
            dead: after.deliveries.dead - before.deliveries.dead,
            retried: after.deliveries.retried - before.deliveries.retried,
            next_deadline: state.delayed.first_key_value().map(|(&(due, _), _)| due).or(state.log.next_due),
        }
    }
}
