//! A second call where the first is slow; the first answer wins, and the others are dropped.
//!
//! | setting of [`Hedging`] | default |
//! | --- | --- |
//! | [`after`](Hedging::after), how long to wait before each further call | as given: near the 95th percentile of your calls |
//! | [`calls`](Hedging::calls), in all | 2 |
//! | [`budget`](Hedging::budget), hedges as a share of the calls | 10 %, and 10 to begin with |
//!
//! An error is returned when no other call is under way; it starts no call, for that is the work of a retry. Only calls
//! that may safely run twice may be hedged. tower's hedge keeps a histogram and needs a service for it; this one takes a
//! delay that you know.

mod future;
mod layer;
mod service;

pub use future::HedgeFuture;
pub use layer::{HedgeLayer, Hedging};
pub use service::Hedge;
