//! Asks a rule whether a request may pass. No settings but the rule, so no defaults.
//!
//! The rule sees the request before the inner service does and decides at once. A rule that must wait (a look-up) is a
//! service of its own: call it first, and put its answer into the request.

mod error;
mod service;

pub use error::Denied;
pub use service::{Authorize, AuthorizeLayer};
