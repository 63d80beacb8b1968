//! A limit on time: of one attempt, or of the whole.
//!
//! When the time is up the inner future is dropped at once, before the error is returned: no work runs on.
//!
//! | | [`TimeoutLayer`] | [`DeadlineLayer`] |
//! | --- | --- | --- |
//! | limits | the call | the wait for readiness and the call |
//! | place | innermost: one attempt | outermost: attempts, backoff, queues |
//! | clock starts | when the future is first polled | when the future is first polled |
//! | `poll_ready` | that of the inner service | ready: where the inner service is not, the future waits |
//! | both at once | the answer wins | the answer wins |
//! | default limit | none: you state it | none: you state it |
//!
//! What the order means, for a downstream that hangs, with [`Retry::fixed(1 s)`](crate::retry::Retry::fixed) of three
//! attempts:
//!
//! | written, outermost first | limit | attempts begin at | the caller hears at |
//! | --- | --- | --- | --- |
//! | retry, timeout | 5 s an attempt | 0 s, 6 s, 12 s | 17 s |
//! | timeout, retry | 5 s in all | 0 s | 5 s |
//! | deadline, retry, timeout | 10 s in all, 5 s an attempt | 0 s, 6 s | 10 s |

mod error;
mod future;
mod layer;
mod service;

pub use error::Elapsed;
pub use future::{DeadlineFuture, TimeoutFuture};
pub use layer::{DeadlineLayer, TimeoutLayer};
pub use service::{Deadline, Timeout};
