//! A panic becomes the error of that one call. No settings, so no defaults.
//!
//! A panic in `poll_ready`, in `call` or in a poll of the future is caught. tower says that a service whose `poll_ready`
//! fails is to be thrown away, and so it is after a panic there. The process must unwind: with `panic = "abort"` nothing
//! can be caught.
//!
//! Stand it *inside* retry, breaker and dead letter, so that they see the panic as an error.

mod error;
mod future;
mod service;

pub use error::Panicked;
pub use future::{CatchPanicFuture, Catching};
pub use service::{CatchPanic, CatchPanicLayer};
