//! A limit on how many calls begin in a time: in all, by key, by tenant. The algorithm is that of `governor` (GCRA), on
//! tokio's clock, so that paused time works.
//!
//! | setting of [`Rate`] | default |
//! | --- | --- |
//! | [`per`](Rate::per) | as given: evenly spread, not a window that resets |
//! | [`burst`](Rate::burst), calls at once after a rest | the calls of one period |
//! | [`refuse`](Rate::refuse) | off: a call waits its turn |
//! | [`queue`](Rate::queue), calls that may wait | no limit |
//! | [`patience`](Rate::patience), time to wait | no limit |
//!
//! Those who wait pass in the order of `call`, within a key. A call that is refused, or gives up, says in [`Limited`] when
//! to come again. The wait is inside the future, since the key is known only with the request; `poll_ready` is always
//! ready. A turn that was waited for and dropped is not spent. Keys whose allowance is whole again are forgotten.
//!
//! tokio's timers have a resolution of a millisecond, so those who wait pass at most `burst` at a time in each: a rate above
//! 1,000 a second wants a burst of at least a thousandth of it.
//!
//! tower's own rate limit cannot be cloned and has one key, so it is not re-exported.

mod error;
mod future;
mod layer;
mod limiter;
mod service;

pub use error::Limited;
pub use future::{RateFuture, Slot};
pub use layer::{Rate, RateLayer};
pub use service::RateLimited;
