//! The test kit: a runtime in virtual time, everything that happened to it, and handlers that behave as told.
//!
//! Promises: no test sleeps; [`TestKit::settle`] follows everything that an event causes, retries and their backoff
//! included; after each settling both books balance, or the test fails.
//!
//! ```
//! use std::time::Duration;
//! use millstream::{Draft, Handler, Json, Retry, Runtime, testing::{self, Probe}};
//!
//! testing::run(Runtime::builder(), async |kit| {
//!     let flaky = Probe::<Json>::new().fails(2);
//!     kit.on("order.*", flaky.handler().named("flaky").retry(Retry::fixed(Duration::from_secs(60))))?;
//!     kit.emit(Draft::json("order.placed", 7.into()))?;
//!     kit.settle().await;
//!     assert_eq!(flaky.attempts(), 3);
//!     assert_eq!(kit.elapsed(), Duration::from_secs(120), "two minutes that nobody waited for");
//!     kit.assert_no_dead_letters();
//!     Ok(())
//! });
//! ```

mod assertions;
mod conformance;
mod faulty_store;
mod hooked_store;
mod kit;
mod probe;
mod timeline;

pub use self::{
    conformance::store_conformance,
    faulty_store::FaultyStore,
    hooked_store::{HeldPartition, HookedStore, StoreHooks},
    kit::{Outcome, TestKit, run},
    probe::Probe,
    timeline::{Moment, Timeline},
};
pub use crate::{
    intake::What,
    store::{ClockHold, hold_clock},
};
