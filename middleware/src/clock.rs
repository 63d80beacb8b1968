//! The crate's one clock: tokio's, so that a paused test owns it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Now, on tokio's clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock: every layer reads time here and nowhere else")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Locks; what a panic left behind is taken as it is, for no critical section of this crate runs foreign code.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
