//! Waking those who wait.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

/// Wakes who waits. A waker may do anything, and is called by whoever answers many: where it panics, that is the business of nobody
/// else who waits, nor of the thread that writes.
pub(crate) fn wake(waker: Waker) {
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
        tracing::error!("a waker of somebody who waits for the store has panicked");
    }
}
