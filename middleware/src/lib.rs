//! tower layers for event code: retry, timeout, concurrency, validation and their kin.
//!
//! Each layer works alone on any [`tower::Service`], with any executor that drives tokio's clock, and knows nothing of the
//! engine whose first user it is (where it is `millstream::middleware`). Time is tokio's, so a paused test owns it.
//!
//! | to | layer | by default |
//! | --- | --- | --- |
//! | try again | [`retry`] | 3 attempts, 1 s doubling to 100 s, full jitter |
//! | limit time | [`timeout`] | of one attempt, or of the whole; the call is dropped |
//! | limit calls at once | [`concurrency`], in all or by key | the others wait, first come first served |
//! | | [`adaptive`] | the limit finds itself |
//! | | [`bulkhead`], [`load_shed`] | the others are refused |
//! | limit calls in a time | `rate`, in all or by key | the others wait, first come first served |
//! | leave alone what fails | [`breaker`] | opens at 50 % of at least 20 calls in 30 s |
//! | call again what is slow | [`hedge`] | a second call, for 10 % of the calls |
//! | check requests | [`validate`], [`authorize`] | every violation is listed |
//! | pass by the calendar | `schedule` | refuse, or hold until it opens |
//! | call once | [`idempotency`], [`dedupe`], [`cache`] | by key; failures are forgotten |
//! | survive | [`catch_panic`], [`fallback`], [`dead_letter`] | |
//! | see | `trace`, `metrics`, [`tap`] | |
//! | put together | [`stack`] | [`Resilient`](stack::Resilient) is what a call should wear if nobody says otherwise |
//!
//! # Order
//! Outermost first, as written, like [`tower::ServiceBuilder`]. What it means for timeout and retry is in the table of
//! [`timeout`]; what each place in the resilient default is for, in that of [`stack::Resilient`].
//!
//! # What is shared
//! `Layer::layer` makes a service of its own each time, and the services of one layer, or of its clones, share what the layer
//! value holds:
//!
//! | layer | its services share |
//! | --- | --- |
//! | [`concurrency`], [`bulkhead`], [`adaptive`] | the limit; by key, the limit of each key |
//! | `rate` | the allowance; by key, that of each key |
//! | [`breaker`] | the state: it opens for all |
//! | [`retry`], [`hedge`] | the budget |
//! | [`cache`], [`idempotency`], [`dedupe`] | answers and keys seen |
//! | [`dead_letter`], `metrics`, [`tap`] | the sink, the names, the functions |
//! | the others | nothing that changes |
//!
//! Two layer values share nothing, whatever their settings. So one layer value around several services is one limit for all
//! of them, and `tower::layer::layer_fn(move |service| layer().layer(service))` is one for each.
//!
//! # Errors
//! One error type runs through a stack: a layer needs an inner error that can carry its own, `S::Error: From<Elapsed>`.
//! [`Failure`], [`BoxError`] or your own enum can; see [`Failure`] and [`LiftLayer`]. [`Classify`] is the seam through which
//! an error tells the layers its kind, and whether to try again.
//!
//! # Settings
//! Settings are plain data with serde, have their defaults in the docs of their module, and are checked when a layer is made:
//! what is impossible is refused with all reasons at once, in a [`SettingsError`].
//!
//! # What every layer promises
//! - It calls the service that was polled ready, never a clone of it; a clone is polled ready first.
//! - A refusal comes from the call, never from `poll_ready`: a refused request is not a dead service.
//! - Readiness that is not used leaks nothing, a future may be dropped at each of its awaits, a panic returns what was held.
//! - The inner call is dropped the moment it ends or its time is up, before what it held is given back.
//!
//! One table of tests holds them all, over every layer.
//!
//! # Features
//! `rate`, `trace`, `metrics` (default); `schedule`, `garde`, `jsonschema`.

pub mod adaptive;
pub mod authorize;
pub mod breaker;
pub mod bulkhead;
pub mod cache;
pub mod catch_panic;
mod classify;
mod clock;
pub mod concurrency;
pub mod dead_letter;
pub mod dedupe;
mod describe;
mod expiring;
mod failure;
pub mod fallback;
pub mod from_tower;
pub mod future;
pub mod hedge;
pub mod idempotency;
pub mod key;
pub mod load_shed;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "rate")]
pub mod rate;
pub mod retry;
#[cfg(feature = "schedule")]
pub mod schedule;
mod settings;
pub mod stack;
pub mod tap;
pub mod timeout;
#[cfg(feature = "trace")]
pub mod trace;
pub mod validate;

pub use classify::{Classify, ErrorKind, KindSet, RetryHint};
pub use describe::{Describe, Part, hear, tell};
pub use failure::{BoxError, Failure, LayerError, Lift, LiftFuture, LiftLayer};
pub use settings::{SettingError, SettingsError};
