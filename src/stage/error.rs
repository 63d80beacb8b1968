//! Why a delivery failed, and whether to try again.

use std::{any::Any, borrow::Cow, error::Error, fmt, time::Duration};

use millstream_middleware::{Classify, ErrorKind, Failure, LayerError, RetryHint};

use crate::{event::DecodeError, storage::StorageError};

/// Any error, boxed.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a delivery failed: the error itself, its kind, and whether another attempt can help.
///
/// A handler may return any error that converts into a boxed one (`anyhow::Error` and `String` among them); it becomes
/// an error of kind [`ErrorKind::Other`] that the subscription's policy may retry. To say more, return this type.
///
/// ```
/// use std::time::Duration;
/// use millstream::{HandlerError, RetryHint};
///
/// let later = HandlerError::transient("the bank is closed").retry_after(Duration::from_secs(60));
/// assert_eq!(later.hint(), RetryHint::After(Duration::from_secs(60)));
/// assert_eq!(HandlerError::permanent("no such account").hint(), RetryHint::Never);
/// assert_eq!(later.to_string(), "the bank is closed");
/// ```
pub struct HandlerError(Box<Inner>);

fn read(error: &(impl Classify + ?Sized)) -> (ErrorKind, RetryHint, Option<Cow<'static, str>>) {
    (error.kind(), error.hint(), error.code().map(|code| Cow::Owned(code.into_owned())))
}

struct Inner {
    kind: ErrorKind,
    hint: RetryHint,
    code: Option<Cow<'static, str>>,
    error: BoxError,
}

impl HandlerError {
    /// An error of a kind, which the subscription's policy may retry.
    pub fn new(kind: ErrorKind, error: impl Into<BoxError>) -> Self {
        Self(Box::new(Inner { kind, hint: RetryHint::Default, code: None, error: error.into() }))
    }

    /// An error that another attempt may mend, as the subscription's policy says.
    pub fn transient(error: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Unavailable, error)
    }

    /// An error that no other attempt can mend: the delivery goes to the dead letters at once.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Invalid, error).never_retry()
    }

    /// Not before this long; replaces the policy's delay, not its number of attempts.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.hint = RetryHint::After(delay);
        self
    }

    /// Never, whatever the policy says.
    #[must_use]
    pub fn never_retry(mut self) -> Self {
        self.0.hint = RetryHint::Never;
        self
    }

    /// A short stable code, for policies and dead letters to go by.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.0.code = Some(code.into());
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What it says about trying again.
    pub fn hint(&self) -> RetryHint {
        self.0.hint
    }

    /// Its code, where it has one.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The error that it was made of.
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0.error
    }

    /// Its message and those of its sources, joined by `: `.
    pub fn chain(&self) -> String {
        let mut chain = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            chain.push_str(": ");
            chain.push_str(&error.to_string());
            source = error.source();
        }
        chain
    }

    pub(crate) fn from_boxed(error: BoxError) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => *own,
            Err(error) => Self::new(ErrorKind::Other, error),
        }
    }

    /// An error that has come through layers: the handler's own, or what a layer raised, perhaps boxed.
    pub(super) fn from_layer(error: BoxError) -> Self {
        let error = match error.downcast::<Failure<Self>>() {
            Ok(failure) => match *failure {
                Failure::Inner(own) => return own,
                raised @ Failure::Layer(_) => return Self::classified(raised),
            },
            Err(error) => error,
        };
        match error.downcast::<Self>() {
            Ok(own) => *own,
            Err(error) => {
                let (kind, hint, code) = read(&*error);
                Self(Box::new(Inner { kind, hint, code, error }))
            }
        }
    }

    fn classified(error: impl Classify + Error + Send + Sync + 'static) -> Self {
        let (kind, hint, code) = read(&error);
        Self(Box::new(Inner { kind, hint, code, error: Box::new(error) }))
    }

    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = format!("the handler panicked: {}", text.unwrap_or("with something that is no text"));
        Self::new(ErrorKind::Panicked, message)
    }
}

/// What a layer of [`crate::middleware`] raises is a handler's error of the kind and with the hint that it has.
impl<L: LayerError> From<L> for HandlerError {
    fn from(error: L) -> Self {
        Self::classified(error)
    }
}

impl From<DecodeError> for HandlerError {
    fn from(error: DecodeError) -> Self {
        Self::permanent(error)
    }
}

impl From<StorageError> for HandlerError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Store(_) | StorageError::Unknown { .. } | StorageError::Closed => Self::transient(error),
            wrong => Self::permanent(wrong),
        }
    }
}

impl Classify for HandlerError {
    fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    fn hint(&self) -> RetryHint {
        self.0.hint
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        self.0.code.as_deref().map(Cow::Borrowed)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, hint, code, error } = &*self.0;
        let mut shown = f.debug_struct("HandlerError");
        shown.field("kind", kind).field("hint", hint).field("code", code).field("error", error).finish()
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.error.fmt(f)
    }
}

impl Error for HandlerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.error.source()
    }
}
