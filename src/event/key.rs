//! Keys and tenants: short texts that are compared and hashed often.

use std::{borrow::Borrow, fmt};

use compact_str::{CompactString, ToCompactString};
use serde::{Deserialize, Serialize};

/// What an event is about: the order, the sensor, the repository. Order by key and state by key go by it.
///
/// Up to 24 bytes are kept without an allocation, so numbers and UUIDs in their short form are cheap.
///
/// ```
/// use millstream::Key;
///
/// assert_eq!(Key::new(&42_u64), Key::from("42"));
/// assert_eq!(Key::joined(&[&"eu", &7]).as_str(), "eu/7");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(CompactString);

/// Whose an event is. Quotas, order and request keys go by (tenant, key); inside a class of the queue, tenants take
/// turns.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tenant(CompactString);

impl Key {
    /// The key that a value's text is.
    pub fn new<D: fmt::Display + ?Sized>(value: &D) -> Self {
        Self(value.to_compact_string())
    }

    /// One key of several parts, joined by `/`; a `/` or `\` inside a part is escaped with `\`, so that different
    /// parts never make the same key.
    pub fn joined(parts: &[&dyn fmt::Display]) -> Self {
        let mut key = CompactString::default();
        for (place, part) in parts.iter().enumerate() {
            if place > 0 {
                key.push('/');
            }
            for character in part.to_compact_string().chars() {
                if matches!(character, '/' | '\\') {
                    key.push('\\');
                }
                key.push(character);
            }
        }
        Self(key)
    }
}

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<&Self> for $name {
            fn from(same: &Self) -> Self {
                same.clone()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

text!(Key);
text!(Tenant);

macro_rules! number {
    ($($type:ty),*) => {$(
        impl From<$type> for Key {
            fn from(number: $type) -> Self {
                Self(number.to_compact_string())
            }
        }
    )*};
}

number!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize, u128, i128);

/// What the keys of rows begin with that belong to a tenant, or to nobody: each part with its length, so that no two are one.
pub(crate) fn scoped(tenant: Option<&Tenant>, parts: &[&str]) -> Vec<u8> {
    let mut prefix = vec![u8::from(tenant.is_some())];
    for part in std::iter::once(&tenant.map_or("", Tenant::as_str)).chain(parts) {
        prefix.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        prefix.extend_from_slice(part.as_bytes());
    }
    prefix
}

/// The tenant, the parts, and what comes behind them; none where a key does not begin like that.
#[cfg(any(test, feature = "archive"))]
pub(crate) fn unscoped<const PARTS: usize>(key: &[u8]) -> Option<(Option<&str>, [&str; PARTS], &[u8])> {
    fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
        let (length, behind) = rest.split_first_chunk()?;
        let (part, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        *rest = behind;
        std::str::from_utf8(part).ok()
    }
    let (flag, mut rest) = key.split_first()?;
    let tenant = part(&mut rest)?;
    let mut parts = [""; PARTS];
    for place in &mut parts {
        *place = part(&mut rest)?;
    }
    Some(((*flag > 0).then_some(tenant), parts, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scoped_keys_are_split_as_they_were_made() {
        let tenant = Tenant::from("acme");
        for tenant in [None, Some(&tenant)] {
            let key = [&scoped(tenant, &["order", ""])[..], b"rest"].concat();
            assert_eq!(unscoped(&key), Some((tenant.map(Tenant::as_str), ["order", ""], &b"rest"[..])));
            for length in 0..key.len() - 4 {
                assert_eq!(unscoped::<2>(&key[..length]), None, "{length}");
            }
        }
    }

    #[test]
    fn joined_keys_differ_where_their_parts_do() {
        assert_ne!(Key::joined(&[&"a/b", &"c"]), Key::joined(&[&"a", &"b/c"]));
        assert_ne!(Key::joined(&[&"a\\", &"b"]), Key::joined(&[&"a\\/b"]));
    }
}
