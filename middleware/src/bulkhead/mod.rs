//! A wall between the parts of a system: each part has its own few places, so that one that hangs cannot take all.
//!
//! It is a [`concurrency`](crate::concurrency) limit that refuses in place of waiting:
//!
//! | setting | default |
//! | --- | --- |
//! | `max`, calls at once | as given |
//! | [`queue`](Limit::queue) | 0: nobody waits, the call is refused with [`QueueError::Full`](crate::concurrency::QueueError::Full) |
//! | [`patience`](Limit::patience) | none |
//!
//! Each layer is a wall of its own; share one by cloning the layer.

use crate::SettingsError;
use crate::concurrency::{ConcurrencyLayer, Limit};

/// At most `max` calls at once; one more is refused at once.
///
/// # Errors
/// A `max` of zero.
pub fn bulkhead(max: usize) -> Result<ConcurrencyLayer, SettingsError> {
    ConcurrencyLayer::new(Limit::new(max).queue(0))
}
