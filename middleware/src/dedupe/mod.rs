//! Lets each key through once in a while; what comes again is refused with [`Duplicate`].
//!
//! | setting of [`Window`] | default |
//! | --- | --- |
//! | [`life`](Window::life), how long a key is remembered | 5 min, from its call |
//! | [`capacity`](Window::capacity), keys remembered; beyond it the oldest is forgotten | 100,000 |
//!
//! A call that fails, panics or is dropped is forgotten at once, so that it may be tried again. While the first call of a
//! key runs, a second one is a duplicate too. Services made by one layer share the keys. To answer duplicates with
//! nothing, put [`SkipLayer::<Duplicate>`](crate::fallback::SkipLayer) outside; to answer with the first answer, use
//! [`idempotency`](crate::idempotency).

mod error;
mod future;
mod layer;
mod service;

pub use error::Duplicate;
pub use future::{DedupeFuture, Remembered};
pub use layer::{DedupeLayer, Window};
pub use service::Dedupe;
