//! A `tracing` span for each call, entered whenever the call is polled.
//!
//! | setting | default |
//! | --- | --- |
//! | `name`, the span's `service` field | as given |
//! | level | `INFO`, target `millstream` |
//! | fields | `service`; `outcome` when it ends: `ok`, or the kind of the error, or `dropped` |
//!
//! An error is also an event at `WARN` inside the span, with its kind and its text. A span that no subscriber wants costs
//! a few nanoseconds.

mod future;
mod service;

pub use future::TraceFuture;
pub use service::{Trace, TraceLayer};
