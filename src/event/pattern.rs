//! Patterns that select events by name, after [NATS subjects](https://docs.nats.io/nats-concepts/subjects).

use std::{fmt, str::FromStr};

use compact_str::CompactString;

use super::name::check_tokens;

/// Selects events by name: `order.placed` one name, `order.*` one token, `*.created` one token in front,
/// `order.>` one or more tokens, and `*` or `>` alone every event.
///
/// ```
/// use millstream::Pattern;
///
/// let orders: Pattern = "order.*".parse()?;
/// assert!(orders.matches("order.placed"));
/// assert!(!orders.matches("order.line.added"));
/// assert!("order.>".parse::<Pattern>()?.matches("order.line.added"));
/// assert!("*".parse::<Pattern>()?.matches("anything.at.all"));
/// # Ok::<(), millstream::PatternError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(CompactString);

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{pattern}` is no pattern, at character {at}: {reason}; allowed are tokens joined by single dots, each a plain token of letters, digits, `_`, `-` and `$`, or `*` for one token, or, as the last, `>` for the rest"
)]
pub struct PatternError {
    /// The text.
    pub pattern: String,
    /// Where it went wrong, counted in characters from 1.
    pub at: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

impl Pattern {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one name that it selects, if it is one.
    pub(crate) fn as_exact(&self) -> Option<&str> {
        (!self.0.contains(['*', '>'])).then_some(self.as_str())
    }

    /// Whether it selects events of this name.
    pub fn matches(&self, name: &str) -> bool {
        // A record without a name is the mark of a place, and no event.
        if name.is_empty() {
            return false;
        }
        if self.0 == "*" || self.0 == ">" || self.0 == name {
            return true;
        }
        let mut tokens = name.split('.');
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        check_tokens(text, |token, last| token == "*" || (token == ">" && last)).map_err(|error| PatternError {
            pattern: error.name,
            at: error.at,
            reason: if text.chars().nth(error.at - 1) == Some('>') {
                "`>` stands for the rest, so it must be the last token"
            } else {
                error.reason
            },
        })?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_match_as_nats_subjects_do() {
        let table = [
            ("order.placed", "order.placed", true),
            ("order.placed", "order.placed.late", false),
            ("order.*", "order.placed", true),
            ("order.*", "order", false),
            ("order.*", "order.line.added", false),
            ("order.>", "order", false),
            ("order.>", "order.placed", true),
            ("order.>", "order.line.added", true),
            ("*.created", "user.created", true),
            ("*.created", "user.profile.created", false),
            ("*.*.created", "user.profile.created", true),
            ("a.*.c.>", "a.b.c.d.e", true),
            ("a.*.c.>", "a.b.c", false),
            ("*", "order.line.added", true),
            (">", "order", true),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(pattern.parse::<Pattern>().unwrap().matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn bad_syntax_says_what_is_wrong_and_where() {
        let table = [
            ("", 1, "empty"),
            ("a..b", 3, "empty"),
            ("a.>.b", 3, "last"),
            ("a.b*", 4, "not allowed"),
            ("a b", 2, "not allowed"),
            (">>", 1, "last"),
        ];
        for (pattern, at, part) in table {
            let error = pattern.parse::<Pattern>().unwrap_err();
            assert_eq!(error.at, at, "{error}");
            assert!(error.reason.contains(part), "{error}");
        }
    }
}
