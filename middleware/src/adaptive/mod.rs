//! A concurrency limit that finds itself: it rises while calls are quick and falls when they are not.
//!
//! | setting of [`Adapt`] | default |
//! | --- | --- |
//! | [`aimd`](Adapt::aimd) or [`gradient`](Adapt::gradient) | as chosen |
//! | [`limits`](Adapt::limits), least and most | 1 and 1,000 |
//! | [`start`](Adapt::start) | 20 |
//! | [`kinds`](Adapt::kinds), errors that mean overload | timeout, overloaded, unavailable |
//! | [`queue`](Adapt::queue), calls that may wait | no limit |
//! | [`patience`](Adapt::patience), time to wait | no limit |
//!
//! **AIMD** adds one call for each round of calls that went well, and multiplies by 0.9 at a sign of overload: an error of
//! those kinds, or a call slower than `slow`. It is TCP's congestion avoidance (Chiu and Jain, 1989).
//!
//! **Gradient** compares the time of a call with that of one without load, and lowers the limit in proportion as calls
//! become slower than 1.5 times that; it needs no number from you. Every 1,000 calls a probe holds the limit at 4 for a few
//! calls, to see anew how long one takes without load. It is the gradient of Netflix's `concurrency-limits`; its successor
//! there compares with a long average instead, which drifts upwards with the load that it causes.
//!
//! Both rise only while the limit is used, at least by half: a quiet hour says nothing about what the service can bear.
//! The wait is inside the future, first come first served; a refusal is a
//! [`QueueError`](crate::concurrency::QueueError). A call that is dropped teaches nothing.

mod algorithm;
mod future;
mod layer;
mod service;

pub use future::{AdaptiveFuture, MeasuredFuture};
pub use layer::{Adapt, AdaptiveLayer};
pub use service::{Adaptive, Measured};
