//! Names of event types: subjects of tokens joined by dots.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of an event's type, such as `order.placed`: tokens of letters, digits, `_`, `-` and `$`, joined by dots.
/// Cheap to clone.
#[derive(Clone)]
pub struct EventName(Text);

/// The names of Rust types cost nothing to make; others are shared.
#[derive(Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<str>),
}

/// Why a text is no name of an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is no event name, at character {at}: {reason}; allowed are tokens of letters, digits, `_`, `-` and `$`, joined by single dots, {} bytes at most",
    EventName::MAX_LEN
)]
pub struct NameError {
    /// The text.
    pub name: String,
    /// Where it went wrong, counted in characters from 1.
    pub at: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

impl EventName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// A name that is checked when the program is built or the event emitted.
    pub(crate) const fn unchecked_static(name: &'static str) -> Self {
        Self(Text::Static(name))
    }

    pub(crate) fn unchecked(name: &str) -> Self {
        Self(Text::Shared(name.into()))
    }

    /// The text, shared.
    pub(crate) fn to_shared(&self) -> Arc<str> {
        match &self.0 {
            Text::Static(name) => (*name).into(),
            Text::Shared(name) => Arc::clone(name),
        }
    }

    /// Whether both are the very same text in memory: a quick yes, a no that says nothing.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self.as_str(), other.as_str())
    }

    /// Whether a name known at compile time is a valid subject; characters beyond ASCII pass.
    pub(crate) const fn is_valid(name: &str) -> bool {
        let bytes = name.as_bytes();
        let (mut at, mut token) = (0, 0);
        while at < bytes.len() {
            match bytes[at] {
                b'.' if token == 0 => return false,
                b'.' => token = 0,
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'$' | 128.. => token += 1,
                _ => return false,
            }
            at += 1;
        }
        token > 0 && bytes.len() <= Self::MAX_LEN
    }

    /// Whether it is a valid subject.
    ///
    /// # Errors
    /// [`NameError`] where a token is empty or holds a character that is not allowed, or the name is too long.
    pub fn check(&self) -> Result<(), NameError> {
        check_tokens(self.as_str(), |_, _| false)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Static(name) => name,
            Text::Shared(name) => name,
        }
    }
}

impl PartialEq for EventName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for EventName {}

impl PartialOrd for EventName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EventName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

/// As the text hashes, so that a map is searched by text.
impl Hash for EventName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Serialize for EventName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<'de, str>::deserialize(deserializer)?;
        Self::try_from(&*name).map_err(serde::de::Error::custom)
    }
}

/// Walks the tokens; `wild` says which whole tokens are allowed beside plain ones.
pub(super) fn check_tokens(text: &str, mut wild: impl FnMut(&str, bool) -> bool) -> Result<(), NameError> {
    let error = |at, reason| NameError { name: text.chars().take(300).collect(), at, reason };
    if text.len() > EventName::MAX_LEN {
        return Err(error(EventName::MAX_LEN + 1, "the name is too long"));
    }
    let mut at = 1;
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() {
            return Err(error(at, "a token is empty"));
        }
        if !wild(token, tokens.peek().is_none())
            && let Some(place) = token.chars().position(|c| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '$')))
        {
            return Err(error(at + place, "this character is not allowed"));
        }
        at += token.chars().count() + 1;
    }
    Ok(())
}

impl TryFrom<&str> for EventName {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        check_tokens(text, |_, _| false)?;
        Ok(Self::unchecked(text))
    }
}

impl Borrow<str> for EventName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_name_says_where_and_what_is_allowed() {
        for (name, _) in [("", 1), ("a..b", 3), ("order placed", 6), (".a", 1), ("a.", 3)] {
            assert!(!EventName::is_valid(name), "{name}");
        }
        assert!(EventName::is_valid("order.placed_2"));
        for (name, at) in [("", 1), ("a..b", 3), ("order placed", 6), ("order.*", 7), (".a", 1), ("a.", 3)] {
            let error = EventName::try_from(name).unwrap_err();
            assert_eq!(error.at, at, "{error}");
            assert!(error.to_string().contains("joined by single dots"), "{error}");
        }
        assert!(EventName::try_from(&*"x".repeat(256)).is_err());
        assert!(EventName::try_from("größe.ändern_2-b$c").is_ok());
    }
}
