//! What is the user's and is dropped far from where it is used: a state, an item.
//!
//! Whoever drops it may be half-way through something else, or drop many at once. So a panic of its own drop goes no further than here:
//! it is logged, and counted as one of an event is.

use std::{
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::event;

/// A value whose panic while it is dropped is contained.
#[derive(Debug)]
pub(super) struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    pub(super) fn into_inner(mut self) -> T {
        #[expect(clippy::expect_used, reason = "it is taken out here and by its own drop alone")]
        self.0.take().expect("a value is there until it is dropped")
    }
}

impl<T> From<T> for Contained<T> {
    fn from(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Contained<T> {
    type Target = T;

    fn deref(&self) -> &T {
        #[expect(clippy::expect_used, reason = "it is taken out by its own drop alone")]
        self.0.as_ref().expect("a value is there until it is dropped")
    }
}

impl<T> DerefMut for Contained<T> {
    fn deref_mut(&mut self) -> &mut T {
        #[expect(clippy::expect_used, reason = "it is taken out by its own drop alone")]
        self.0.as_mut().expect("a value is there until it is dropped")
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        let Some(value) = self.0.take() else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            // What was panicked with may be as bad.
            drop(catch_unwind(AssertUnwindSafe(|| drop(panic))));
            tracing::error!("a state or an item of a stage panicked while it was dropped");
            event::add_dropped_badly(1);
        }
    }
}
