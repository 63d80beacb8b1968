//! The crate's one clock: tokio's, so that a paused test owns it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Now, on tokio's clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock: every layer reads time here and nowhere else")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Locks; what a panic left behind is taken as it is. The only foreign code that runs under a lock of this crate is what
/// keys, answers and services do to be hashed, compared, cloned and dropped, and each change is whole before it runs.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
