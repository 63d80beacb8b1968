//! Counts and times through the `metrics` facade, named as Prometheus likes them.
//!
//! | metric | kind | labels |
//! | --- | --- | --- |
//! | `millstream_calls_total` | counter | `service`, `outcome` |
//! | `millstream_call_duration_seconds` | histogram | `service`, `outcome` |
//! | `millstream_calls_in_flight` | gauge | `service` |
//!
//! `outcome` is `ok`, or the kind of the error, or `dropped` for a call that was dropped or panicked before it ended; the
//! gauge goes down in every case. The only setting is the name, which has no default. Time is tokio's.

mod future;
mod names;
mod service;

pub use future::MetricsFuture;
pub use service::{Metrics, MetricsLayer};
