//! A user's event, whatever its type, and what becomes of a panic while it is dropped.
//!
//! Whoever has an event last may be the dispatcher, or hold the one lock. So a panic of the event's own drop goes no further than
//! here: it is logged, and counted by [`dropped_badly`] for whoever drives on this thread.

use std::{
    any::Any,
    cell::Cell,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use serde_json::Value;

use super::{Event, JsonSize};

/// What can be asked of an event of any type.
pub(super) trait Payload: Any + Send + Sync {
    fn json(&self) -> serde_json::Result<Value>;
    fn write_json(&self, out: &mut Vec<u8>) -> serde_json::Result<()>;
    fn json_size(&self, limit: usize) -> JsonSize;
    fn event_name(&self) -> &'static str;
}

impl<T: Event> Payload for T {
    fn json(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }

    fn write_json(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(out, self)
    }

    fn json_size(&self, limit: usize) -> JsonSize {
        JsonSize::of(self, limit)
    }

    fn event_name(&self) -> &'static str {
        T::NAME
    }
}

/// A shared event. Empty only while it is dropped.
#[derive(Clone)]
pub(super) struct Typed(Option<Arc<dyn Payload>>);

impl Typed {
    pub(super) fn new<T: Event>(event: T) -> Self {
        Self(Some(Arc::new(event)))
    }

    pub(super) fn shared(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::<dyn Payload>::clone(self.payload())
    }

    pub(super) fn as_any(&self) -> &dyn Any {
        &**self.payload()
    }

    fn payload(&self) -> &Arc<dyn Payload> {
        #[expect(clippy::expect_used, reason = "it is taken out by its own drop alone")]
        self.0.as_ref().expect("an event is there until it is dropped")
    }
}

impl Deref for Typed {
    type Target = dyn Payload;

    fn deref(&self) -> &Self::Target {
        &**self.payload()
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        let Some(payload) = self.0.take() else { return };
        let event = payload.event_name();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            // What was panicked with may be as bad.
            drop(catch_unwind(AssertUnwindSafe(|| drop(panic))));
            tracing::error!(event, "an event panicked while it was dropped");
            add_dropped_badly(1);
        }
    }
}

thread_local! {
    static DROPPED_BADLY: Cell<u64> = const { Cell::new(0) };
}

/// Adds to what the next one who asks on this thread is told.
pub(crate) fn add_dropped_badly(count: u64) {
    DROPPED_BADLY.set(DROPPED_BADLY.get() + count);
}

/// How many events have panicked while they were dropped on this thread, since it was last asked.
pub(crate) fn dropped_badly() -> u64 {
    DROPPED_BADLY.take()
}
