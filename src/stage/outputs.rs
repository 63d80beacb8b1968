//! What a handler returns: events, none or many, or an error.

use super::{BoxError, HandlerError};
use crate::{
    event::{Draft, Event},
    storage::Writes,
};

/// What came of one attempt: the events to emit, or why it failed.
pub type Outcome = Result<Outputs, HandlerError>;

/// The events that one attempt returned. They are emitted by the dispatcher, all or none.
#[derive(Debug, Default)]
pub struct Outputs {
    pub(crate) drafts: Vec<Draft>,
    /// What it wrote to its storage.
    pub(crate) writes: Option<Box<Writes>>,
}

impl Outputs {
    /// No events.
    pub const fn none() -> Self {
        Self { drafts: Vec::new(), writes: None }
    }

    /// Adds one.
    pub fn push(&mut self, draft: Draft) {
        self.drafts.push(draft);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.drafts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// Whether nothing comes of the attempt, neither events nor rows.
    pub(crate) fn is_nothing(&self) -> bool {
        self.drafts.is_empty() && self.writes.is_none()
    }
}

/// What a handler may return: nothing, an event, an option, a vector, an array, a tuple of such, or a `Result` of
/// these with any error that converts into a boxed one.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "not something that becomes events",
    note = "return `()`, an event, a `Draft`, an `Option`, `Vec`, array or tuple of these, or a `Result` of these",
    note = "to return a type of your own, derive `millstream::Event` for it"
)]
pub trait IntoOutputs {
    /// The most events that one value holds, where the type says so. Others may return up to 1,000, or what the
    /// subscription declares with [`max_outputs`](crate::Handler::max_outputs).
    const MOST: Option<usize>;

    /// Adds its events.
    ///
    /// # Errors
    /// The handler's own error.
    fn add_to(self, outputs: &mut Outputs) -> Result<(), HandlerError>;
}

const fn sum(first: Option<usize>, second: Option<usize>) -> Option<usize> {
    match (first, second) {
        (Some(first), Some(second)) => first.checked_add(second),
        _ => None,
    }
}

impl IntoOutputs for () {
    const MOST: Option<usize> = Some(0);

    fn add_to(self, _: &mut Outputs) -> Result<(), HandlerError> {
        Ok(())
    }
}

impl<T: Event> IntoOutputs for T {
    const MOST: Option<usize> = Some(1);

    fn add_to(self, outputs: &mut Outputs) -> Result<(), HandlerError> {
        outputs.push(Draft::new(self));
        Ok(())
    }
}

impl IntoOutputs for Draft {
    const MOST: Option<usize> = Some(1);

    fn add_to(self, outputs: &mut Outputs) -> Result<(), HandlerError> {
        outputs.push(self);
        Ok(())
    }
}

impl IntoOutputs for Outputs {
    const MOST: Option<usize> = None;

    fn add_to(mut self, outputs: &mut Outputs) -> Result<(), HandlerError> {
        if outputs.is_nothing() {
            *outputs = self;
            return Ok(());
        }
        outputs.drafts.append(&mut self.drafts);
        match (&mut outputs.writes, self.writes) {
            (Some(earlier), Some(later)) => earlier.absorb(*later),
            (earlier, later) => *earlier = earlier.take().or(later),
        }
        Ok(())
    }
}

impl<R: IntoOutputs> IntoOutputs for Option<R> {
    const MOST: Option<usize> = R::MOST;

    fn add_to(self, outputs: &mut Outputs) -> Result<(), HandlerError> {
        self.map_or(Ok(()), |some| some.add_to(outputs))
    }
}

impl<R: IntoOutputs> IntoOutputs for Vec<R> {
    const MOST: Option<usize> = None;

    fn add_to(self, outputs: &mut Outputs) -> Result<(), HandlerError> {
        self.into_iter().try_for_each(|each| each.add_to(outputs))
    }
}

impl<R: IntoOutputs, const N: usize> IntoOutputs for [R; N] {
    const MOST: Option<usize> = match R::MOST {
        Some(most) => most.checked_mul(N),
        None => None,
    };

    fn add_to(self, outputs: &mut Outputs) -> Result<(), HandlerError> {
        self.into_iter().try_for_each(|each| each.add_to(outputs))
    }
}

impl<R: IntoOutputs, E: Into<BoxError>> IntoOutputs for Result<R, E> {
    const MOST: Option<usize> = R::MOST;

    fn add_to(self, outputs: &mut Outputs) -> Result<(), HandlerError> {
        match self {
            Ok(some) => some.add_to(outputs),
            Err(error) => Err(HandlerError::from_boxed(error.into())),
        }
    }
}

macro_rules! tuples {
    ($first:ident $($rest:ident)*) => {
        impl<$first: IntoOutputs, $($rest: IntoOutputs),*> IntoOutputs for ($first, $($rest,)*) {
            const MOST: Option<usize> = {
                let most = $first::MOST;
                $(let most = sum(most, $rest::MOST);)*
                most
            };

            fn add_to(self, outputs: &mut Outputs) -> Result<(), HandlerError> {
                #[expect(non_snake_case, reason = "the type parameters name the tuple's parts")]
                let ($first, $($rest,)*) = self;
                $first.add_to(outputs)?;
                $($rest.add_to(outputs)?;)*
                Ok(())
            }
        }
        tuples!($($rest)*);
    };
    () => {};
}

const _: Option<usize> = sum(None, None);
tuples!(A B C D E F G H);

pub(super) fn outcome(returned: impl IntoOutputs) -> Outcome {
    let mut outputs = Outputs::none();
    returned.add_to(&mut outputs)?;
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(returned: impl IntoOutputs) -> Vec<String> {
        outcome(returned).unwrap().drafts.iter().map(|draft| draft.name().to_string()).collect()
    }

    fn draft(name: &str) -> Draft {
        Draft::json(name, json!(null))
    }

    #[test]
    fn returned_values_become_events_in_their_order() {
        assert!(names(()).is_empty());
        assert_eq!(names(draft("a")), ["a"]);
        assert_eq!(
            names((draft("a"), None::<Draft>, vec![draft("b"), draft("c")], [draft("d")])),
            ["a", "b", "c", "d"]
        );
        assert_eq!(names(Ok::<_, String>(Some(draft("a")))), ["a"]);
        assert_eq!(outcome(Err::<(), _>("no")).unwrap_err().to_string(), "no");
    }

    #[test]
    fn a_type_says_how_many_events_it_holds() {
        fn most<R: IntoOutputs>() -> Option<usize> {
            R::MOST
        }
        assert_eq!(most::<Result<(Draft, Option<Draft>, [Draft; 3]), String>>(), Some(5));
        assert_eq!(most::<(Draft, Vec<Draft>)>(), None);
    }
}
