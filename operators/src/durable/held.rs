//! An item that is remembered, or none.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};

/// What an operator remembers of its items: one, or none. It is written as a list, empty or of one: for an item may itself be written
/// as nothing (`None`, `()`, a JSON `null`), and `Some` of that would be read again as `None`.
///
/// ```
/// use millstream_operators::durable::Held;
///
/// let held = Held::from(Some(None::<u32>));
/// let text = serde_json::to_string(&held).unwrap();
/// assert_eq!(text, "[null]");
/// assert_eq!(serde_json::from_str::<Held<Option<u32>>>(&text).unwrap(), held);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held<T>(Option<T>);

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> From<Option<T>> for Held<T> {
    fn from(held: Option<T>) -> Self {
        Self(held)
    }
}

impl<T> Deref for Held<T> {
    type Target = Option<T>;

    #[inline]
    fn deref(&self) -> &Option<T> {
        &self.0
    }
}

impl<T> DerefMut for Held<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Option<T> {
        &mut self.0
    }
}

impl<T: Serialize> Serialize for Held<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_slice().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Held<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for One<T> {
            type Value = Held<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of one item or none")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Held<T>, A::Error> {
                items.next_element().map(Held)
            }
        }

        deserializer.deserialize_seq(One(PhantomData))
    }
}
