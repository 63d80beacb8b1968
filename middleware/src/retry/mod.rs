//! Trying again, with one owner.
//!
//! [`Retry`] is the policy: plain data, one pure decision, all defaults in its docs. [`RetryLayer`] applies it to a
//! tower service. A dispatcher that owns its own retries uses the policy alone.
//!
//! | setting of the layer | default |
//! | --- | --- |
//! | [`budget`](RetryLayer::budget) | none; [`Budget::default`] is 20 % of the calls, and 10 to begin with |
//! | [`seed`](RetryLayer::seed) | random |
//! | [`observe`](RetryLayer::observe) | nobody |
//!
//! **Layers of retries multiply**: three attempts outside three attempts are nine calls. Put one retry in a stack.
//!
//! Before each further attempt the inner service is polled ready again; its clone in the future holds nothing during
//! the backoff. The request and the service are cloned at each call that may be retried, so both should be cheap to
//! clone.

mod backoff;
mod budget;
mod future;
mod jitter;
mod layer;
mod policy;
mod service;

pub use budget::Budget;
pub(crate) use budget::Purse;
pub use future::RetryFuture;
pub use jitter::Jitter;
pub use layer::{Retried, RetryLayer};
pub use policy::{Retry, RetryIf};
pub use service::Retrying;
