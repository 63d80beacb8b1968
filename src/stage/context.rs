//! What a handler may do beside returning events.

use std::{
    hash::Hasher,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    Delivery, Outputs,
    delivery::{Outbox, Put, Site},
};
use crate::{
    event::{Envelope, Event, EventId, IntoDraft, Way},
    intake::{Cause, EmitError, Receipt, Refusal, RequestError},
    request::Hold,
    storage::{Desk, Scope, Storage},
};

/// What a handler may know and do: the event's envelope, the attempt, emit, request, cancellation. An extractor.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use millstream::{Context, Draft, HandlerError, Runtime};
///
/// async fn split(context: Context) -> Result<(), HandlerError> {
///     for half in ["left", "right"] {
///         context.emit(Draft::json(half, serde_json::json!(context.attempt()))).map_err(HandlerError::permanent)?;
///     }
///     Ok(())
/// }
///
/// let runtime = Runtime::builder().build()?;
/// runtime.on("whole", split)?;
/// runtime.emit(Draft::json("whole", serde_json::json!(null)))?;
/// runtime.process().await?;
/// assert_eq!(runtime.stats().events.emitted, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    event: Arc<Envelope>,
    attempt: u32,
    delivery: u64,
    site: Arc<Site>,
    above: Option<Arc<Hold>>,
    outbox: Outbox,
    /// What it has written to its storage, if it has asked for one; nothing once it has ended.
    desk: OnceLock<Option<Arc<Desk>>>,
}

/// Emits with the cause, depth and tenant of an event, for work that a handler leaves to a task of its own.
///
/// It is an emitter from outside: its events need room and are refused where there is none.
#[derive(Clone, Debug)]
pub struct Handle {
    site: Arc<Site>,
    cause: Cause,
}

impl Context {
    pub(super) fn of(delivery: &Delivery) -> Self {
        Self(Arc::new(Inner {
            event: Arc::clone(&delivery.event),
            attempt: delivery.attempt,
            delivery: delivery.id,
            site: Arc::clone(&delivery.site),
            above: delivery.above.clone(),
            outbox: Outbox::new(),
            desk: OnceLock::new(),
        }))
    }

    /// The event.
    pub fn event(&self) -> &Envelope {
        &self.0.event
    }

    /// Which attempt it is, the first being 1.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// The subscription's name.
    pub fn subscription(&self) -> &str {
        &self.0.site.name
    }

    /// Emits an event together with what the handler returns: when it ends well, before the handler's own events. If
    /// it fails, nothing is emitted. Never waits and needs no room in the queue.
    ///
    /// Work that goes on after the handler has ended well emits from outside, with this event as cause, as
    /// [`handle`](Self::handle) does.
    ///
    /// # Errors
    /// What is wrong with the event itself: its name, its size, its depth; or that it is one more than an attempt may
    /// return; or that the attempt has failed, was timed out or dropped meanwhile.
    pub fn emit<E: IntoDraft>(&self, event: E) -> Result<(), EmitError<E>> {
        let mut draft = event.into_draft();
        if let Err(reason) = self.0.site.intake.check_output(&mut draft, &self.0.event) {
            return Err(EmitError { event: E::handed_back(draft), reason });
        }
        let limit = self.0.site.max_outputs;
        match self.0.outbox.put(draft, limit) {
            Put::In => Ok(()),
            Put::Full(draft) => {
                let reason = Refusal::TooManyOutputs { name: draft.name.clone(), limit };
                Err(EmitError { event: E::handed_back(draft), reason })
            }
            Put::GivenUp(draft) => {
                let reason = Refusal::GivenUp { name: draft.name.clone() };
                Err(EmitError { event: E::handed_back(draft), reason })
            }
            Put::Late(late) => {
                let emitted = self.0.site.intake.emit(late, Some(&self.cause(false)));
                emitted
                    .map(drop)
                    .map_err(|EmitError { event, reason }| EmitError { event: E::handed_back(event), reason })
            }
        }
    }

    /// Asks, and waits for the answer. See [`Runtime::request`](crate::Runtime::request).
    ///
    /// # Errors
    /// As there; [`RequestError::Deadlock`] where the question would wait for a key or a subscription that this
    /// handler, or one that waits for it, holds.
    pub async fn request<R: Event>(&self, question: impl IntoDraft, deadline: Duration) -> Result<R, RequestError> {
        self.0.site.intake.request(question.into_draft(), deadline, Some(self.cause(true))).await
    }

    /// Emits with this event as cause, from work that outlives the handler.
    pub fn handle(&self) -> Handle {
        Handle { site: Arc::clone(&self.0.site), cause: self.cause(false) }
    }

    /// Cancelled when the event is cancelled by its token, or when a shutdown's grace is over.
    pub fn cancellation(&self) -> CancellationToken {
        self.0.event.cancellation().unwrap_or(&self.0.site.stop).clone()
    }

    /// Resolves when the handler should give up: the event is cancelled or a shutdown's grace is over.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn cancelled(&self) {
        match self.0.event.cancellation() {
            Some(token) => tokio::select! {
                () = token.cancelled() => {}
                () = self.0.site.stop.cancelled() => {}
            },
            None => self.0.site.stop.cancelled().await,
        }
    }

    /// A key for an outside effect, the same in every retry and replay of this event in this subscription: give it to
    /// whoever can drop repetitions. It hashes (event id, the subscription's first name, label) with 64-bit FNV-1a, which is stable across
    /// versions and machines.
    pub fn effect_key(&self, label: &str) -> String {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        // The bytes alone: an array's own `Hash` adds its length, as wide as the machine's words.
        hash.write(&self.0.event.id().as_u128().to_be_bytes());
        let site = &self.0.site;
        for part in [site.origin.get().map_or(&*site.name, |origin| origin), label] {
            hash.write(part.as_bytes());
            hash.write(&[0xff]);
        }
        format!("{}-{:016x}", self.0.event.id(), hash.finish())
    }

    /// What handlers keep by key, of one namespace and of the event's tenant: written in the commit of what the handler
    /// returns. See [`Storage`].
    pub fn storage(&self, namespace: &str) -> Storage {
        let shelf = &self.0.site.shelf;
        let desk = self.0.desk.get_or_init(|| Some(Desk::new(shelf)));
        Storage::inside(shelf, Scope::new(self.0.event.tenant(), namespace), desk.clone())
    }

    /// The handler has ended: what it emitted and wrote beside what it returns.
    pub(crate) fn close(&self) -> Outputs {
        let desk = self.0.desk.get_or_init(|| None);
        Outputs { drafts: self.0.outbox.close(), writes: desk.as_ref().and_then(|desk| desk.close()) }
    }

    /// The attempt came to nothing: what it emitted goes, and what it still emits is refused.
    pub(crate) fn give_up(&self) {
        self.0.outbox.give_up();
    }

    fn cause(&self, waits: bool) -> Cause {
        let key = self.0.event.key().filter(|_| self.0.site.seat.ordered);
        let hold = waits.then(|| {
            Arc::new(Hold {
                subscription: self.0.site.seat.subscription,
                delivery: self.0.delivery,
                tenant: self.0.event.tenant().cloned(),
                key: key.map(|key| (self.0.event.tenant().cloned(), key.clone())),
                above: self.0.above.clone(),
            })
        });
        Cause { event: Arc::clone(&self.0.event), per_root: self.0.site.seat.per_root, hold, way: Way::Emitted }
    }
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>).
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Handle {
    /// Emits from outside with this handle's cause.
    ///
    /// # Errors
    /// As [`Runtime::emit`](crate::Runtime::emit).
    pub fn emit<E: IntoDraft>(&self, event: E) -> Result<Receipt, EmitError<E>> {
        self.site.intake.emit(event, Some(&self.cause))
    }

    /// Emits, after waiting for room where there is none.
    ///
    /// # Errors
    /// As [`Runtime::emit_wait`](crate::Runtime::emit_wait).
    pub async fn emit_wait<E: IntoDraft>(&self, event: E) -> Result<Receipt, EmitError<E>> {
        self.site.intake.emit_wait(event, Some(&self.cause)).await
    }

    /// The event that caused this handle.
    pub fn cause(&self) -> EventId {
        self.cause.event.id()
    }
}
