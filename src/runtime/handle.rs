//! The handle that everybody holds.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{Builder, health::Recent, shutdown::Life, stream::Tap};
use crate::{
    dead_letter::DeadLetters,
    dispatch::{Command, Dispatcher, Home, Registry, SlowPolls, Statuses},
    event::{Clock, Draft, Event, IntoDraft},
    intake::{self, EmitAllError, EmitError, Intake, Receipt, RequestError},
    stage::{Extensions, Outside},
    storage::Shelf,
};

/// An event runtime: subscribe with [`on`](Self::on), emit with [`emit`](Self::emit), drive it with
/// [`process`](Self::process) or [`run`](Self::run). Cheap to clone; all clones are the same runtime.
///
/// A handler that captures a clone keeps the runtime alive until it is shut down.
#[derive(Clone)]
pub struct Runtime {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) intake: Arc<Intake>,
    pub(super) registry: Arc<Registry>,
    pub(super) letters: Arc<Mutex<DeadLetters>>,
    pub(super) commands: Arc<Mutex<Vec<Command>>>,
    pub(super) slow: Option<Arc<SlowPolls>>,
    pub(super) extensions: Arc<Extensions>,
    /// What handlers and plugins keep by key.
    pub(super) shelf: Arc<Shelf>,
    /// Where events survive, in a durable runtime.
    pub(super) home: Mutex<Option<Home>>,
    /// What all handlers wear.
    pub(super) outside: Outside,
    /// How the operator stages are.
    pub(super) statuses: Arc<Statuses>,
    /// What was found wrong, and when that was new.
    pub(super) recent: Mutex<Recent>,
    /// Held by whoever drives.
    pub(super) dispatcher: tokio::sync::Mutex<Dispatcher>,
    /// Cancelled when a shutdown's grace is over.
    pub(super) stop: CancellationToken,
    /// Cancelled when it is stopped.
    pub(super) closed: CancellationToken,
    pub(super) life: Mutex<Life>,
    /// Held by the shutdown whose grace counts.
    pub(super) ending: tokio::sync::Mutex<()>,
    /// For the description only, by subscription: a stream takes itself out when it is dropped.
    pub(super) streams: Mutex<BTreeMap<u64, Arc<Tap>>>,
}

impl Shared {
    pub(super) fn letters(&self) -> MutexGuard<'_, DeadLetters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn command(&self, command: Command) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        if command.is_idle_after(&commands) {
            return;
        }
        commands.push(command);
        drop(commands);
        Intake::wake(self.intake.lock());
    }

    /// Takes subscriptions back. Their handlers go at once where nothing runs, else with the driver's next round.
    pub(super) fn unsubscribe(&self, remove: impl FnOnce(&Registry) -> usize) -> usize {
        let removed = remove(&self.registry);
        if removed > 0 {
            match self.dispatcher.try_lock().map(|mut idle| idle.tidy()) {
                Ok(true) => {}
                Ok(false) => self.command(Command::CatchUp),
                Err(_) => Intake::wake(self.intake.lock()),
            }
        }
        removed
    }

    pub(super) fn has_commands(&self) -> bool {
        !self.commands.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Drop for Shared {
    /// Handles of handlers' own work may live on, and nobody will ever handle what they emit. A store would still keep it.
    fn drop(&mut self) {
        if self.intake.pump.is_none() {
            self.intake.close(intake::Phase::Stopped);
        }
    }
}

impl Runtime {
    /// A builder with the defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn of(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Emits an event: queues it, or hands it back. Never waits, never drops silently.
    ///
    /// Called inside a handler on the runtime that polls it, the event counts as caused by the handler's event.
    ///
    /// # Errors
    /// [`EmitError`] with the event and the reason: no room, a closed runtime, a quota, or something about the event
    /// itself; [`Refusal::advice`](crate::Refusal::advice) says whether trying again can help.
    ///
    /// # Data loss
    /// With [`Overflow::DropOldest`](crate::Overflow::DropOldest) another event may be dropped for this one, with
    /// [`Overflow::DropNewest`](crate::Overflow::DropNewest) this one; both are counted. The receipt of one that is dropped at once says
    /// so ([`Fate::Dropped`](crate::Fate::Dropped)); one that is dropped later, for another, was told already that it is queued, and only
    /// the books know; in a durable runtime awaiting its receipt tells, too.
    pub fn emit<E: IntoDraft>(&self, event: E) -> Result<Receipt, EmitError<E>> {
        self.shared.intake.emit(event, None)
    }

    /// Emits events in their order, until one is refused. The iterator is read to its end before the first is accepted;
    /// all are emitted at one time, which is then.
    ///
    /// # Errors
    /// [`EmitAllError`] with the receipts of those accepted and the rest, the refused one first.
    pub fn emit_all<E: IntoDraft>(&self, events: impl IntoIterator<Item = E>) -> Result<Vec<Receipt>, EmitAllError<E>> {
        let (accepted, refused, later) = self.shared.intake.emit_all(events, None);
        match refused {
            None => Ok(accepted),
            Some(EmitError { event, reason }) => {
                let rest = std::iter::once(event).chain(later).collect();
                Err(EmitAllError { accepted, rest, reason })
            }
        }
    }

    /// Emits an event, after waiting for room, for the tenant's rate or for a subscription that is saturated. Who waits
    /// for room gets it in the order of waiting. Whatever the [`Overflow`](crate::Overflow) policy, nothing is dropped for
    /// it, nor is it dropped itself. Where nobody drives the runtime no room comes free, and it waits.
    ///
    /// # Errors
    /// [`EmitError`] with the event where no waiting can help: something is wrong with the event, the runtime is
    /// closed, or it is called inside a handler, which would wait for itself.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the event is dropped with it, not emitted and not counted.
    pub async fn emit_wait<E: IntoDraft>(&self, event: E) -> Result<Receipt, EmitError<E>> {
        self.shared.intake.emit_wait(event, None).await
    }

    /// Makes an event without emitting it: its id is fixed, its options can still be set.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use millstream::{Draft, Fate, Runtime};
    ///
    /// let runtime = Runtime::builder().build()?;
    /// let reminder = runtime.create(Draft::json("remind", "tea".into())).delay(Duration::from_secs(240));
    /// let id = reminder.id();
    /// let receipt = runtime.emit(reminder)?;
    /// assert_eq!(Some(receipt.id()), id);
    /// assert!(matches!(receipt.fate(), Fate::Delayed { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn create(&self, event: impl IntoDraft) -> Draft {
        let mut draft = event.into_draft();
        let intake = &self.shared.intake;
        let id = draft.id().unwrap_or_else(|| intake.ids.next(intake.clock.now()));
        draft.more().id = Some(id);
        draft
    }

    /// Asks, and waits for the answer: the first event named `R::NAME` that a handler of the question returns. The
    /// answer is emitted as an event, too. Somebody must drive the runtime meanwhile: [`run`](Self::run) it beside.
    ///
    /// # Errors
    /// [`RequestError`]: refused, as every request is in a durable runtime, for whoever waits would be gone after a restart; nobody handles it, no answer within the deadline, the handler failed for good, or it
    /// would wait for itself.
    ///
    /// # Cancel safety
    /// Dropped, the question stays emitted and its answer is an event like others.
    pub async fn request<R: Event>(&self, question: impl IntoDraft, deadline: Duration) -> Result<R, RequestError> {
        let mut answer = self.shared.intake.request(question.into_draft(), deadline, None).await;
        if let Err(RequestError::Timeout { is_driven, .. }) = &mut answer {
            *is_driven = self.shared.dispatcher.try_lock().is_err();
        }
        answer
    }

    /// Cancels all events that carry this token, and what they cause: what is queued, delayed, blocked or in backoff is
    /// dropped and counted as cancelled; a handler in flight sees [`Context::cancelled`](crate::Context::cancelled) and
    /// is not tried again. Returns how many events were taken out of the queue and the delayed ones.
    ///
    /// Cancelling the token itself does the same, but the events are dropped only when their turn comes.
    pub fn cancel(&self, token: &CancellationToken) -> u64 {
        token.cancel();
        let mut state = self.shared.intake.lock();
        let swept = state.sweep_cancelled();
        let granted = self.shared.intake.serve_waiting(&mut state);
        Intake::wake(state);
        granted.tell();
        // Whoever waits to delay an event has room now.
        self.shared.intake.settled.notify_waiters();
        swept
    }

    /// The clock that all of its times come from.
    pub fn clock(&self) -> Clock {
        self.shared.intake.clock
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("phase", &self.phase()).field("stats", &self.stats()).finish_non_exhaustive()
    }
}
