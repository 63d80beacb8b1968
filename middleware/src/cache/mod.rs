//! Answers are kept for a while, and those who ask for the same at the same time share one call.
//!
//! | setting of [`Keep`] | default |
//! | --- | --- |
//! | [`life`](Keep::life), how long an answer is kept | 60 s, from the answer |
//! | [`capacity`](Keep::capacity), answers kept; beyond it the oldest is forgotten | 10,000 |
//!
//! The first who asks for a key makes the call; those who come while it runs wait for its answer. If it fails, they all
//! get [`FlightFailed`], which carries the kind, the hint and the text of the error; nothing is kept. If it is dropped, or
//! panics, one of them makes the call in its place. Services made by one layer share the answers. `poll_ready` is always
//! ready: a hit needs no inner service, so only the one who makes the call waits for it. A future that makes the call and is
//! held without being polled holds up those who wait for it.

mod error;
mod future;
mod layer;
mod service;

pub use error::FlightFailed;
pub use future::CacheFuture;
pub use layer::{CacheLayer, Keep};
pub use service::Cache;
