//! What an error tells the layers around it: its kind, its code, and whether to try again.
//!
//! A layer never looks inside a foreign error. It asks three questions, and the error's own crate answers
//! them by implementing [`Classify`]; every answer has a default, so an empty `impl` is a sound one.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The kind of a failure, as far as the layers need to tell failures apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[repr(u8)]
pub enum ErrorKind {
    /// It took too long.
    Timeout,
    /// The request itself is wrong: the same request fails again.
    Invalid,
    /// A rule forbids the request (not authorised, not now, not twice): the same request is refused again.
    Rejected,
    /// There was no room or no rate left; later there may be.
    Overloaded,
    /// What is behind the call is down, or is taken to be (an open breaker).
    Unavailable,
    /// The code that was called panicked.
    Panicked,
    /// None of the above, or unknown.
    Other,
}

impl ErrorKind {
    /// Every kind, in order of declaration.
    pub const ALL: [Self; 7] = [
        Self::Timeout,
        Self::Invalid,
        Self::Rejected,
        Self::Overloaded,
        Self::Unavailable,
        Self::Panicked,
        Self::Other,
    ];

    /// The kind's name in `snake_case`, as metrics and logs show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Invalid => "invalid",
            Self::Rejected => "rejected",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Panicked => "panicked",
            Self::Other => "other",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of [`ErrorKind`]s.
///
/// ```
/// use millstream_middleware::{ErrorKind, KindSet};
///
/// let set = KindSet::from([ErrorKind::Timeout, ErrorKind::Other]);
/// assert!(set.contains(ErrorKind::Timeout));
/// assert!(!KindSet::TRANSIENT.contains(ErrorKind::Invalid));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<ErrorKind>", into = "Vec<ErrorKind>")]
pub struct KindSet(u16);

impl KindSet {
    /// No kind at all.
    pub const NONE: Self = Self(0);

    /// Every kind that a second try may cure: all but [`ErrorKind::Invalid`] and [`ErrorKind::Rejected`].
    pub const TRANSIENT: Self = Self(
        ErrorKind::Timeout.bit()
            | ErrorKind::Overloaded.bit()
            | ErrorKind::Unavailable.bit()
            | ErrorKind::Panicked.bit()
            | ErrorKind::Other.bit(),
    );

    /// True if `kind` is in the set.
    #[must_use]
    pub const fn contains(self, kind: ErrorKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// True if no kind is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds in the set, in order of declaration.
    pub fn iter(self) -> impl Iterator<Item = ErrorKind> {
        ErrorKind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<ErrorKind> for KindSet {
    fn from_iter<I: IntoIterator<Item = ErrorKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |bits, kind| bits | kind.bit()))
    }
}

impl<const N: usize> From<[ErrorKind; N]> for KindSet {
    fn from(kinds: [ErrorKind; N]) -> Self {
        kinds.into_iter().collect()
    }
}

impl From<Vec<ErrorKind>> for KindSet {
    fn from(kinds: Vec<ErrorKind>) -> Self {
        kinds.into_iter().collect()
    }
}

impl From<KindSet> for Vec<ErrorKind> {
    fn from(set: KindSet) -> Self {
        set.iter().collect()
    }
}

impl fmt::Debug for KindSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What an error says about trying again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RetryHint {
    /// Nothing: the policy decides.
    #[default]
    Default,
    /// Not before this long from now (a `Retry-After`). It replaces the policy's delay.
    After(Duration),
    /// Never: no later attempt can succeed.
    Never,
}

/// The seam between errors and layers: what kind of failure is this, and may it be tried again?
///
/// ```
/// use std::borrow::Cow;
/// use millstream_middleware::{Classify, ErrorKind};
///
/// struct Http(u16);
///
/// impl Classify for Http {
///     fn kind(&self) -> ErrorKind {
///         match self.0 {
///             429 => ErrorKind::Overloaded,
///             400..=499 => ErrorKind::Invalid,
///             503 => ErrorKind::Unavailable,
///             _ => ErrorKind::Other,
///         }
///     }
///     fn code(&self) -> Option<Cow<'_, str>> {
///         Some(self.0.to_string().into())
///     }
/// }
///
/// assert_eq!(Http(422).kind(), ErrorKind::Invalid);
/// ```
pub trait Classify {
    /// The kind of this failure; [`ErrorKind::Other`] by default.
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }

    /// What it says about trying again; [`RetryHint::Default`] by default.
    fn hint(&self) -> RetryHint {
        RetryHint::Default
    }

    /// A short stable code, where the error has one (an SQLSTATE, an HTTP status); none by default.
    fn code(&self) -> Option<Cow<'_, str>> {
        None
    }
}

impl Classify for Infallible {}
impl Classify for String {}
impl Classify for str {}

macro_rules! classify_as_its_target {
    ($($pointer:ty),*) => {$(
        impl<E: Classify + ?Sized> Classify for $pointer {
            fn kind(&self) -> ErrorKind {
                (**self).kind()
            }

            fn hint(&self) -> RetryHint {
                (**self).hint()
            }

            fn code(&self) -> Option<Cow<'_, str>> {
                (**self).code()
            }
        }
    )*};
}

classify_as_its_target!(&E, Box<E>, Arc<E>);

impl Classify for std::io::Error {
    fn kind(&self) -> ErrorKind {
        use std::io::ErrorKind as Io;
        match self.kind() {
            Io::TimedOut => ErrorKind::Timeout,
            Io::InvalidInput | Io::InvalidData => ErrorKind::Invalid,
            Io::PermissionDenied => ErrorKind::Rejected,
            Io::ConnectionRefused | Io::ConnectionReset | Io::ConnectionAborted | Io::NotConnected | Io::BrokenPipe => {
                ErrorKind::Unavailable
            }
            _ => ErrorKind::Other,
        }
    }
}
