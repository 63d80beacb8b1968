//! A limit on how many calls run at once: in all, or by key.
//!
//! | setting | [`ConcurrencyLayer`] | [`KeyedLayer`] |
//! | --- | --- | --- |
//! | [`max`](Limit::new), calls at once | as given | as given, for each key |
//! | [`queue`](Limit::queue), calls that may wait | no limit | no limit, for each key |
//! | [`patience`](Limit::patience), time to wait | no limit | no limit |
//! | place of the wait | `poll_ready` | the future: the key is known only then |
//! | order | of first poll, FIFO | of `call`, FIFO within a key |
//! | shared by | services of one layer, and their clones | the same |
//!
//! By default a call waits its turn. With a `queue` or a `patience` it is refused with a
//! [`QueueError`], delivered to the request by `call`, never by `poll_ready`: a refusal must not look like a dead
//! service.
//!
//! A permit is taken when readiness is asked for (by key: when the call is made) and returned when the call has ended,
//! has panicked or was dropped, after the call itself is gone. A key is forgotten with its last call, so a million keys
//! that are idle cost nothing.
//!
//! By key the turn is taken by `call`, so a future that has its turn and is held without being polled holds up its key.
//!
//! With `max` 1 the calls of a key run one after the other in the order of `call`, retries inside included.
//!
//! [`bulkhead`](crate::bulkhead) is this limit with a short queue.

mod error;
mod future;
mod keyed;
mod lanes;
mod layer;
mod service;

pub use error::QueueError;
pub use future::{ConcurrencyFuture, KeyedFuture, Permit, Turn, TurnPermit};
pub use keyed::{Keyed, KeyedLayer};
pub(crate) use lanes::Lanes;
#[cfg(feature = "rate")]
pub(crate) use lanes::{Asked, Held, Queued};
pub use layer::{ConcurrencyLayer, Limit};
pub use service::Concurrency;
