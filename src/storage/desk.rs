//! Where a handler's writes lie until it ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Shelf, Writes};

/// What a handler has read and written. Closed when it ends, so that nothing is put there that nobody takes away.
#[derive(Debug)]
pub(crate) struct Desk(Mutex<Option<Writes>>);

impl Desk {
    pub(crate) fn new(shelf: &Arc<Shelf>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Writes::new(shelf)))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Writes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be written, if anything is.
    pub(crate) fn close(&self) -> Option<Box<Writes>> {
        let writes = self.lock().take()?;
        (!writes.is_empty()).then(|| Box::new(writes))
    }
}
