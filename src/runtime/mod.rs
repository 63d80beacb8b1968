//! The runtime: joins the rooms. The only room that knows them all.
//!
//! Promises: whoever drives it (`process`, `run`, `shutdown`) may be dropped at any time, and the next one goes on
//! where it stopped.

mod aggregate;
mod builder;
mod describe;
mod drive;
mod handle;
mod health;
mod history;
mod letters;
mod shutdown;
mod source;
mod stages;
mod stats;
mod storage;
mod stream;
mod subscribe;
mod tenant;

pub use self::{
    aggregate::{AggregateHandle, Append, AppendError, Appended, ExpectedVersion},
    builder::{BuildError, Builder},
    describe::{Description, EdgeDescription, StreamDescription, SubscriptionDescription},
    drive::{ProcessError, ProcessReport},
    handle::Runtime,
    health::{Health, HealthStatus},
    shutdown::{Phase, ShutdownReport},
    source::{EventSource, ForwardError, ForwardReport},
    stages::{IntoStage, StageDescription, StageError},
    stats::Stats,
    stream::{EventStream, StreamMeter, StreamOptions, StreamOverflow},
    subscribe::{OnError, SubscriptionId},
    tenant::TenantHandle,
};
