//! Trying again, with one owner.

mod backoff;
mod jitter;
mod policy;

pub use jitter::Jitter;
pub use policy::{Retry, RetryIf};
