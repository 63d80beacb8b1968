use std::fmt;

use super::error::Invalid;

/// Decides whether a request is valid, and what the service gets.
pub trait Rule<R> {
    /// What the service gets.
    type Parsed;

    /// Checks `request`, and makes of it what the service gets.
    ///
    /// # Errors
    /// Every violation.
    fn apply(&self, request: R) -> Result<Self::Parsed, Invalid>;
}

/// A rule that looks at the request and lets it pass as it is.
pub const fn check<R, F>(rule: F) -> Check<F>
where
    F: Fn(&R) -> Result<(), Invalid>,
{
    Check { rule }
}

/// A rule that makes something else of the request.
pub const fn parse<R, T, F>(rule: F) -> Parse<F>
where
    F: Fn(&R) -> Result<T, Invalid>,
{
    Parse { rule }
}

/// The rule that [`check`] makes.
#[derive(Clone, Copy)]
pub struct Check<F> {
    rule: F,
}

impl<R, F: Fn(&R) -> Result<(), Invalid>> Rule<R> for Check<F> {
    type Parsed = R;

    fn apply(&self, request: R) -> Result<R, Invalid> {
        (self.rule)(&request).map(|()| request)
    }
}

/// The rule that [`parse`] makes.
#[derive(Clone, Copy)]
pub struct Parse<F> {
    rule: F,
}

impl<R, T, F: Fn(&R) -> Result<T, Invalid>> Rule<R> for Parse<F> {
    type Parsed = T;

    fn apply(&self, request: R) -> Result<T, Invalid> {
        (self.rule)(&request)
    }
}

impl<F> fmt::Debug for Check<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for Parse<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parse").finish_non_exhaustive()
    }
}
