//! An answer in place of an error.
//!
//! | layer | answers with | default |
//! | --- | --- | --- |
//! | [`FallbackLayer`] | what a function makes of the error: an answer, or an error | none: you give it |
//! | [`FallbackServiceLayer`] | what another service answers to the same request | [`kinds`](FallbackServiceLayer::kinds): every kind |
//! | [`SkipLayer`] | `Default` (no events), for one error of one layer | |
//!
//! [`SkipLayer`] is the *skip* policy of any layer: `SkipLayer::<Invalid>::new()` outside
//! [`validate`](crate::validate) skips what is invalid, `SkipLayer::<Duplicate>::new()` outside
//! [`dedupe`](crate::dedupe) skips what came twice. It counts what it skips.

mod error;
mod function;
mod other;
mod skip;

pub use error::Carrier;
pub use function::{Fallback, FallbackFuture, FallbackLayer};
pub use other::{FallbackService, FallbackServiceFuture, FallbackServiceLayer};
pub use skip::{Skip, SkipFuture, SkipLayer};
