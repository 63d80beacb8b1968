//! Refuses a call at once where the service is not ready, in place of waiting for it. No settings, so no defaults.
//!
//! tower has this layer too; it boxes every error that passes through it, so the type of yours is lost. This one keeps
//! it, and its [`Shed`] is classified as overload. And where tower's stays in the queue that it did not wait for, and takes
//! a permit that it does not use, this one leaves.
//!
//! It sheds what `poll_ready` of the layers inside holds back, such as [`concurrency`](crate::concurrency). Layers that
//! wait inside their future (by key, rate) have their own `queue` and `refuse` settings.

mod error;
mod service;

pub use error::Shed;
pub use service::{LoadShed, LoadShedLayer};
