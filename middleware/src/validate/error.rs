use std::fmt;

use crate::{Classify, ErrorKind, RetryHint};

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    path: String,
    message: String,
}

impl Violation {
    /// `message` is what is wrong at `path`.
    pub fn new(path: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { path: path.into(), message: message.to_string() }
    }

    /// Where: a JSON pointer for JSON, a dotted path for a type.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// The request is wrong; every violation is listed. The call was not made, and is not worth a retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    violations: Vec<Violation>,
}

impl Invalid {
    /// One violation.
    pub fn at(path: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { violations: vec![Violation::new(path, message)] }
    }

    /// `Ok` if there are none, else all of them.
    ///
    /// # Errors
    /// When `violations` yields anything.
    pub fn collect(violations: impl IntoIterator<Item = Violation>) -> Result<(), Self> {
        let violations: Vec<_> = violations.into_iter().collect();
        if violations.is_empty() { Ok(()) } else { Err(Self { violations }) }
    }

    /// All that is wrong.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid")?;
        for (i, violation) in self.violations.iter().enumerate() {
            let before = if i == 0 { ": " } else { "; " };
            write!(f, "{before}{violation}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl Classify for Invalid {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn hint(&self) -> RetryHint {
        RetryHint::Never
    }
}
