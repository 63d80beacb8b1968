//! Why an event was refused.

use std::{error::Error, fmt, time::Duration};

use crate::event::{Draft, EventName, IntoDraft, NameError, Priority, Tenant};

/// An event that was refused, handed back, and why.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use millstream::{Draft, Refusal, Runtime};
///
/// let runtime = Runtime::builder().queue_size(1).build()?;
/// runtime.emit(Draft::json("first", serde_json::json!(1)))?;
/// let refused = runtime.emit(Draft::json("second", serde_json::json!(2))).unwrap_err();
/// assert!(matches!(refused.reason, Refusal::Full { capacity: 1, .. }));
/// assert_eq!(refused.event.name().as_str(), "second");
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct EmitError<E> {
    /// The event, as it was given.
    pub event: E,
    /// Why it was refused.
    pub reason: Refusal,
}

/// Why an event was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No room in the queue.
    #[error("the queue has no room for {class} events: {held} of {capacity} are held")]
    Full {
        /// The event's class.
        class: Priority,
        /// Events that hold room, those being handled among them.
        held: usize,
        /// `queue_size`.
        capacity: usize,
    },
    /// The runtime was shut down.
    #[error("the runtime takes no more events: it is {phase}")]
    Closed {
        /// `draining` or `stopped`.
        phase: &'static str,
    },
    /// One subscription holds its whole share of the queue.
    #[error("subscription `{subscription}` holds {held} {class} events, its whole share of the queue")]
    Saturated {
        /// The subscription's name.
        subscription: String,
        /// The event's class.
        class: Priority,
        /// How many events of the class it holds.
        held: usize,
    },
    /// The tenant has used up a quota.
    #[error("tenant `{tenant}` may hold {limit} {what}")]
    QuotaExceeded {
        /// The tenant.
        tenant: Tenant,
        /// `queued events` or `delayed events`.
        what: &'static str,
        /// The quota.
        limit: usize,
    },
    /// The tenant emits faster than its quota.
    #[error("tenant `{tenant}` emits faster than its quota; there is room again in {retry_after:?}")]
    RateExceeded {
        /// The tenant.
        tenant: Tenant,
        /// How long until one more may come.
        retry_after: Duration,
    },
    /// As many events as allowed wait for their due time in memory.
    #[error("{limit} delayed events wait already, as many as `delayed_size` allows")]
    DelayedFull {
        /// `delayed_size`.
        limit: usize,
    },
    /// The data is larger than allowed.
    #[error("event `{name}` is larger than {limit} bytes of JSON, the `max_event_size`")]
    TooLarge {
        /// The event's name.
        name: EventName,
        /// `max_event_size`.
        limit: usize,
    },
    /// The data, as it is written, is larger than what a commit has room for, whatever `max_event_size` allows.
    #[error("`{what}` would take {bytes} bytes in the store, where at most {limit} have room in a commit")]
    TooLargeToStore {
        /// The event's name, or what is to be written together.
        what: String,
        /// What it would take.
        bytes: usize,
        /// What a commit has room for.
        limit: usize,
    },
    /// The name is no subject.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The chain of causes is longer than allowed.
    #[error("event `{name}` would be {depth} events away from its root; `max_event_depth` is {limit}")]
    TooDeep {
        /// The event's name.
        name: EventName,
        /// Its depth.
        depth: u32,
        /// `max_event_depth`.
        limit: u32,
    },
    /// The root has caused as many events as allowed.
    #[error("event `{name}` would be one more than the {limit} events that one root may cause")]
    RootExhausted {
        /// The event's name.
        name: EventName,
        /// `max_events_per_root`, or the subscription's own.
        limit: u32,
    },
    /// The handler has emitted as many events as one attempt may return.
    #[error(
        "event `{name}` would be one more than the {limit} that an attempt may return: `max_outputs` declares more"
    )]
    TooManyOutputs {
        /// The event's name.
        name: EventName,
        /// `max_outputs`, or its default.
        limit: usize,
    },
    /// It was emitted by what goes on of an attempt that has failed, was timed out or dropped.
    #[error("event `{name}` was emitted by an attempt that was given up: what it emits does not count any more")]
    GivenUp {
        /// The event's name.
        name: EventName,
    },
    /// A handler waits for room that only handlers make.
    #[error(
        "a handler must not wait for room in the queue that feeds it: return the event, use `Context::emit`, or wait in a task of your own with `Context::handle`"
    )]
    WouldDeadlock,
    /// The runtime keeps its events in memory, and what was asked for needs a store.
    #[error("{what} needs a durable runtime: give the builder a `store`")]
    NeedsStore {
        /// What was asked for.
        what: &'static str,
    },
    /// The runtime is durable, and what was asked for lives in memory alone.
    #[error("{what} would not survive a restart, so a durable runtime does not take it")]
    NotDurable {
        /// What was asked for.
        what: &'static str,
    },
    /// The store has failed, and nothing is taken in until the runtime has opened it again.
    #[error("the store has failed ({reason}); whoever drives the runtime opens it again")]
    StoreFailed {
        /// What the store said.
        reason: String,
    },
    /// The data cannot be stored.
    #[error("event `{name}` cannot be stored: {reason}")]
    NotStorable {
        /// The event's name.
        name: EventName,
        /// Why not.
        reason: String,
    },
    /// A handle for one tenant was given another tenant's event.
    #[error("this handle emits for tenant `{own}`, the event is of tenant `{other}`")]
    ForeignTenant {
        /// The handle's tenant.
        own: Tenant,
        /// The event's.
        other: Tenant,
    },
}

/// Whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// There may be room later.
    Later,
    /// It will be refused again.
    Never,
}

impl Refusal {
    /// Whether trying the same event again can help.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Full { .. }
            | Self::Saturated { .. }
            | Self::QuotaExceeded { .. }
            | Self::RateExceeded { .. }
            | Self::DelayedFull { .. }
            | Self::StoreFailed { .. } => Advice::Later,
            _ => Advice::Never,
        }
    }
}

impl EmitError<Draft> {
    /// The refusal of what the draft was made of.
    pub(crate) fn handed_back<E: IntoDraft>(self) -> EmitError<E> {
        EmitError { event: E::handed_back(self.event), reason: self.reason }
    }
}

impl<E> fmt::Debug for EmitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmitError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<E> fmt::Display for EmitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<E> Error for EmitError<E> {}

/// A batch of which only the first part was accepted.
pub struct EmitAllError<E> {
    /// Receipts of those that were accepted, in order.
    pub accepted: Vec<crate::Receipt>,
    /// The first that was refused and all that came after it, in order.
    pub rest: Vec<E>,
    /// Why the first of the rest was refused.
    pub reason: Refusal,
}

impl<E> fmt::Debug for EmitAllError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmitAllError")
            .field("accepted", &self.accepted.len())
            .field("rest", &self.rest.len())
            .field("reason", &self.reason)
            .finish()
    }
}

impl<E> fmt::Display for EmitAllError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, rest, reason } = self;
        write!(f, "{} events accepted, {} handed back: {reason}", accepted.len(), rest.len())
    }
}

impl<E> Error for EmitAllError<E> {}
