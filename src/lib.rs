//! millstream is an embeddable engine for event streams: a bounded, prioritised event runtime that never loses an event
//! silently and that can be tested without sleeping.
//!
//! Subscribe with [`Runtime::on`], emit with [`Runtime::emit`], drive with [`Runtime::process`] or [`Runtime::run`]:
//!
//! ```
//! use millstream::{Event, Runtime};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Event, Clone, Serialize, Deserialize)]
//! #[event(name = "order.placed", key = "id")]
//! struct OrderPlaced {
//!     id: u64,
//! }
//!
//! #[derive(Event, Clone, Serialize, Deserialize)]
//! struct StockReserved {
//!     order: u64,
//! }
//!
//! async fn reserve(order: OrderPlaced) -> StockReserved {
//!     StockReserved { order: order.id }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = Runtime::builder().build()?;
//! runtime.on("order.placed", reserve)?;
//! runtime.on("stock.*", |reserved: StockReserved| async move { assert_eq!(reserved.order, 7) })?;
//! runtime.emit(OrderPlaced { id: 7 })?;
//! let report = runtime.process().await?;
//! assert_eq!((report.handled, report.dead), (2, 0));
//! # Ok(()) }
//! ```
//!
//! # Durable
//! [`Builder::store`] makes a runtime durable: named subscriptions go on where they were, retries, delays and dead letters survive,
//! and [`Runtime::stage`] runs chains whose state and outputs are exactly-once. [`Retention`] says how long events are kept,
//! [`Draft::idempotency_key`] that one is taken once; [`Runtime::aggregate`] and [`Runtime::history`] read what was. The guide is
//! docs/durable.md of the repository.
//!
//! # The rooms
//! An event goes through them in this order: `event`, `intake`, `queue`, `dispatch`, `stage`, and what a stage returns
//! enters at `intake` again. `runtime` joins them. See ARCHITECTURE.md.
//!
//! # Features
//! - `redb`, on by default: the store in one file.
//! - `archive`: a store that no runtime has open, module [`archive`]: its events, dead letters and rows, for tools.
//! - `testing`: the test kit, module [`testing`]: virtual time, `settle`, a timeline, probes.

#[cfg(feature = "archive")]
pub mod archive;
mod dead_letter;
mod dispatch;
mod epoch;
mod event;
mod history;
mod intake;
mod journal;
mod queue;
mod request;
mod runtime;
mod stage;
mod storage;
pub mod store;
mod tenant;
#[cfg(feature = "testing")]
pub mod testing;

pub use millstream_macros::{Event, debug_handler};
/// The layers: each works on any `tower::Service`, and so on any handler.
pub use millstream_middleware as middleware;
pub use millstream_middleware::{
    Classify, ErrorKind, RetryHint, SettingError, SettingsError,
    retry::{Jitter, Retry, RetryIf},
};
/// The operators, with or without the engine: on streams of a runtime, on any other stream, or as chains without one.
///
/// ```
/// use std::time::Duration;
/// use millstream::operators::{Timestamp, chain, combine::merge, flow};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// // One chain: tested without a clock, and then put on whatever stream there is.
/// let quiet = chain::<u32>().filter(|level| *level > 3).debounce(Duration::from_millis(20));
/// let ms = Timestamp::from_millis;
/// assert_eq!(quiet.run([(5, ms(10)), (9, ms(15)), (1, ms(90))], ms(100)), [(9, ms(35))]);
///
/// let both = merge((futures::stream::iter([1, 2]), futures::stream::iter([30, 40])));
/// assert_eq!(both.batch(4, Duration::from_secs(1)).next().await, Some(vec![1, 2, 30, 40]));
/// # });
/// ```
pub use millstream_operators as operators;
pub use millstream_operators::{BoxFlow, Chain, Flow, IntoFlow, Timestamp, chain, flow};
pub use serde_json::Value as JsonValue;
pub use tokio_util::sync::CancellationToken;

pub use self::{
    dead_letter::{DeadLetter, DeadLetterFilter, Death, Failure, Replay, ReplayReport},
    dispatch::{Limits, Retention, SubscriptionBook, UnroutedPolicy},
    epoch::{Late, MigrateError, SavedParts, Stage, StageCounts, StageItem},
    event::{
        Aggregate, Clock, Data, DecodeError, Draft, Envelope, Event, EventId, EventName, Headers, IdError, IntoDraft,
        Key, NameError, ParseError, Pattern, PatternError, Priority, RecordError, Tenant, UpgradeError,
    },
    history::{AggregateEvents, Events, History, HistoryError, Projection},
    intake::{
        Advice, DeliveryBook, Drops, EmitAllError, EmitError, EventBook, Fate, PersistError, Persisted, Receipt,
        Refusal, RequestError,
    },
    queue::Overflow,
    runtime::{
        AggregateHandle, Append, AppendError, Appended, BuildError, Builder, Description, EdgeDescription, EventSource,
        EventStream, ExpectedVersion, ForwardError, ForwardReport, Health, HealthStatus, IntoStage, OnError, Phase,
        ProcessError, ProcessReport, Runtime, ShutdownReport, StageDescription, StageError, Stats, StreamDescription,
        StreamMeter, StreamOptions, StreamOverflow, SubscriptionDescription, SubscriptionId, TenantHandle,
    },
    stage::{
        Blocking, BoxError, BoxedHandler, Configured, Context, Delivery, Extract, Handle, Handler, HandlerError,
        HandlerFuture, HandlerService, Inside, IntoOutputs, Json, Layered, LayeredFuture, Outcome, Outputs,
        Requirements, Share, SpawnLayer, Spawned, SpawnedFuture, Start, State, blocking,
    },
    storage::{Expect, Storage, StorageError},
    tenant::{Quota, Quotas},
};

#[doc(hidden)]
pub mod __private {
    //! For the derive macro and the benches alone.
    pub use serde::{Serialize, de::DeserializeOwned};

    #[cfg(feature = "testing")]
    pub use crate::epoch::Drill;
}

/// The README's examples are tests.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;

/// And so are those of the guide to durable runtimes.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../docs/durable.md")]
#[derive(Debug)]
pub struct DurableGuide;
