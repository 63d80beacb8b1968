//! The trait that makes a Rust type an event.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Key, Priority};

/// A Rust type whose values travel as events. Derive it:
///
/// ```
/// use millstream::{Event, Key, Priority};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Event, Clone, Serialize, Deserialize)]
/// #[event(name = "order.placed", version = 2, key = "order_id", priority = "high")]
/// struct OrderPlaced {
///     order_id: u64,
/// }
///
/// assert_eq!(OrderPlaced::NAME, "order.placed");
/// assert_eq!(OrderPlaced::PRIORITY, Priority::High);
/// assert_eq!(OrderPlaced { order_id: 7 }.key(), Some(Key::from(7_u64)));
/// ```
///
/// Without attributes the name is the type's own in lower case (`OrderPlaced` is `order.placed`), the version 1, the
/// priority normal, and there is no key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not an event",
    note = "derive it: `#[derive(millstream::Event, Clone, serde::Serialize, serde::Deserialize)]`",
    note = "or emit JSON under a name: `Draft::json(\"order.placed\", value)`"
)]
pub trait Event: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name that subscriptions' patterns match.
    const NAME: &'static str;
    /// The version of the data's schema.
    const VERSION: u32 = 1;
    /// The class it waits in unless the emitter says otherwise.
    const PRIORITY: Priority = Priority::Normal;

    /// What the event is about: order by key and state by key go by it.
    fn key(&self) -> Option<Key> {
        None
    }

    /// Turns JSON data of an older version into this version's form. Called when a typed handler meets JSON data of
    /// another version than [`Event::VERSION`].
    ///
    /// # Errors
    /// [`UpgradeError`] where there is no way from that version; the delivery then fails and is not retried. By
    /// default there is none from any version.
    fn upgrade(from: u32, data: Value) -> Result<Value, UpgradeError> {
        let _ = data;
        Err(UpgradeError::new(format!("{} knows version {} and no way from version {from}", Self::NAME, Self::VERSION)))
    }
}

/// Why data of one version cannot become data of another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct UpgradeError {
    reason: String,
}

impl UpgradeError {
    /// Says in one sentence why not.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}
