use super::error::{Invalid, Violation};
use super::rule::Rule;

/// The rule of a type that derives `garde::Validate`.
#[must_use]
pub const fn typed() -> Typed {
    Typed
}

/// The rule that [`typed`] makes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Typed;

impl<R> Rule<R> for Typed
where
    R: garde::Validate<Context: Default>,
{
    type Parsed = R;

    fn apply(&self, request: R) -> Result<R, Invalid> {
        match request.validate() {
            Ok(()) => Ok(request),
            Err(report) => {
                let violations = report.iter().map(|(path, error)| Violation::new(path.to_string(), error));
                Invalid::collect(violations).map(|()| request)
            }
        }
    }
}
