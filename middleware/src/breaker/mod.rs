//! A circuit breaker: what fails is left alone for a while, then asked with a few calls.
//!
//! | setting of [`Trip`] | default |
//! | --- | --- |
//! | [`failure_rate`](Trip::failure_rate), opens at | 50 % of the calls in the window |
//! | [`slow`](Trip::slow), a call that takes longer is slow; opens at this rate | off |
//! | [`window`](Trip::window) | 30 s, in ten steps |
//! | [`minimum`](Trip::minimum), calls in the window before it may open | 20 |
//! | [`open_for`](Trip::open_for), first and longest | 5 s, doubling to 60 s |
//! | [`probes`](Trip::probes), calls that must succeed to close | 3 |
//! | [`lease`](Trip::lease), time that a probe may take | 30 s |
//! | [`kinds`](Trip::kinds), errors that count as failures | [`KindSet::TRANSIENT`](crate::KindSet::TRANSIENT) |
//!
//! All services made by one layer share one [`Breaker`], which can be read, watched, opened and closed by hand.
//!
//! While it is open, `poll_ready` is ready and the call is refused with [`Open`], so callers hear at once even where
//! the inner service is not ready. Half-open, at most `probes` calls hold a lease. A probe that fails opens it again, for
//! twice as long; a probe that is dropped gives its lease back; a probe that outlives its lease counts as failed, so a
//! call that hangs cannot hold the breaker half-open for ever. A call that began before the last change of state no
//! longer counts. A panic counts as a failure. A call that is dropped does not count, unless it was slow already: put a
//! timeout *inside* the breaker.

mod error;
mod future;
mod layer;
mod machine;
mod service;
mod trip;
mod window;

pub use error::Open;
pub use future::{BreakerFuture, Watched};
pub use layer::{Breaker, BreakerLayer};
pub use machine::State;
pub use service::Guarding;
pub use trip::Trip;
