//! The same key gets the same answer: a request that comes again is not run again.
//!
//! | setting of [`Keep`] | default |
//! | --- | --- |
//! | [`life`](Keep::life), how long an answer is kept | 24 h, from the answer |
//! | [`lease`](Keep::lease), how long a call may hold its key | 5 min; then another may run |
//! | a second call while the first runs | refused with [`IdempotencyError::InProgress`], to be tried again |
//! | a request without a key | passes, and is not remembered |
//!
//! A call that fails, panics or is dropped gives its key up, so that it may be tried again: only success is kept. Answers
//! are kept in an [`AnswerStore`]; [`MemoryAnswers`] is one, bounded, for one process. Where the store fails before the
//! call, the call is not made; where it fails to keep an answer, the answer is returned all the same and the key is free
//! when its lease ends. A lease that ran out while its call was still running is fenced: the late answer is not kept.
//!
//! Scope the key (tenant, operation) as you build it: two operations with one key are one.

mod error;
mod future;
mod layer;
mod memory;
mod service;
mod store;

pub use error::IdempotencyError;
pub use future::IdempotencyFuture;
pub use layer::{IdempotencyLayer, Keep};
pub use memory::MemoryAnswers;
pub use service::Idempotency;
pub use store::{AnswerStore, Claim, Token};
