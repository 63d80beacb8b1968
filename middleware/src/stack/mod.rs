//! Layers in the order in which they are written, outermost first, under a name.
//!
//! ```
//! use std::time::Duration;
//! use millstream_middleware::{concurrency::Limit, retry::Retry, stack::Stack};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let payments = Stack::builder("payments")
//!     .deadline(Duration::from_secs(10))
//!     .retry(Retry::exponential())
//!     .concurrency(Limit::new(16))
//!     .lift()
//!     .build()?;
//!
//! let service = payments.layer(service_fn(|cents: u64| async move { Ok::<_, String>(cents) }));
//! assert_eq!(service.oneshot(250).await.unwrap(), 250);
//! assert_eq!(
//!     payments.to_string(),
//!     "payments: deadline(limit 10s) > retry(attempts 3, backoff exponential, initial 1s, factor 2.0, \
//!      max_delay 100s, jitter Full) > concurrency(max 16) > lift"
//! );
//! # Ok::<(), millstream_middleware::SettingsError>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The methods that take settings keep what is impossible, and [`build`](StackBuilder::build) reports all of it at once.
//! A stack is a [`Layer`](tower_layer::Layer) like any other, may be cloned and used many times; services made by one
//! stack share its limits, budgets and breakers.

mod builder;
mod resilient;

pub use builder::{Stack, StackBuilder};
pub use resilient::{AttemptStack, Resilient, ResilientStack};
