//! tower layers for event code.

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
pub use describe::{Describe, Part};
pub use failure::{BoxError, Failure, LayerError, Lift, LiftFuture, LiftLayer};
pub use settings::{SettingError, SettingsError};
