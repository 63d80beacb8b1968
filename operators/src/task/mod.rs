//! A task of its own, and a signal to stop.

mod overflow;
mod spawn;
mod watch;

pub use overflow::{Conflate, DropNewest, DropOldest, Fail, Full, Overflow, OverflowError, Wait};
pub use spawn::Spawned;
pub use watch::{Cancelled, Watch};
