//! The promises of every layer, through the public API, under tokio's paused time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test may fail")]

mod around;
mod breaker;
mod concurrency;
#[cfg(all(feature = "metrics", feature = "rate", feature = "schedule", feature = "trace"))]
mod conformance;
mod faults;
mod load;
#[cfg(all(feature = "metrics", feature = "trace"))]
mod observe;
mod once;
#[cfg(feature = "rate")]
mod rate;
mod retry;
#[cfg(feature = "schedule")]
mod schedule;
mod small;
mod stack;
mod support;
mod timeout;
mod validate;
