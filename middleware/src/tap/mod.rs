//! Looks at requests and results on their way, and changes nothing. No settings but the two functions.
//!
//! A call that is dropped before it ends has no result, so the second function does not see it.

mod future;
mod service;

pub use future::TapFuture;
pub use service::{Tap, TapLayer};
