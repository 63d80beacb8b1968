//! One source, several consumers.

pub(crate) mod fan_out;
mod partition;
mod replay;
#[expect(clippy::module_inception, reason = "the folder's first operator has its name")]
mod share;
mod split;

pub use partition::{Halves, Passes, partition};
pub use replay::{Replay, share_replay};
pub use share::{Begin, Once, Share, Subscription, share};
pub use split::{Part, Route, split};
