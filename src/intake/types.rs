//! What the runtime knows about event types: enough to treat a JSON event as its typed sister is treated.

use std::{collections::HashMap, fmt, sync::RwLock};

use serde_json::Value;

use crate::event::{Draft, Event, Key, Priority};

/// A Rust type that handles or emits events of a name.
#[derive(Clone, Copy)]
pub(crate) struct EventType {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    priority: Priority,
    key_of: fn(&Value) -> Option<Key>,
}

impl EventType {
    pub(crate) fn of<T: Event>() -> Self {
        let key_of = |value: &Value| T::deserialize(value).ok()?.key();
        Self { name: T::NAME, version: T::VERSION, priority: T::PRIORITY, key_of }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}

/// The types by name.
#[derive(Debug, Default)]
pub(crate) struct Types(RwLock<HashMap<&'static str, EventType>>);

impl Types {
    pub(crate) fn add(&self, event_type: EventType) {
        let mut types = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        types.insert(event_type.name, event_type);
    }

    /// Gives a JSON draft the priority and key that its type would have given it. The key takes a deserialisation, so
    /// it is looked for only in a type's own version.
    pub(crate) fn complete(&self, draft: &mut Draft) {
        // Copied out of the lock: a type's key is user code.
        let known = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(draft.name.as_str()).copied();
        let Some(event_type) = known else { return };
        draft.priority.get_or_insert(event_type.priority);
        if draft.key.is_none()
            && draft.version.is_none_or(|version| version == event_type.version)
            && let Some(value) = draft.data.as_json()
        {
            draft.key = (event_type.key_of)(value);
        }
    }

    pub(crate) fn all(&self) -> Vec<EventType> {
        let types = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        types.values().copied().collect()
    }
}
