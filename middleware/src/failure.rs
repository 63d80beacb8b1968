//! One error type through a whole stack.
//!
//! A layer never wraps the inner error in a type of its own. It needs an error that can *carry* the layer's:
//! `S::Error: From<Elapsed>`, and so on. Three kinds of error can carry them all:
//!
//! - [`BoxError`], tower's own, for which [`From`] exists already;
//! - [`Failure<E>`], which keeps the type of the inner error: put [`LiftLayer`] innermost, or let a
//!   [`Stack`](crate::stack::Stack) do so;
//! - your own enum, with `impl<L: LayerError> From<L> for MyError`.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Classify, Describe, ErrorKind, Part, RetryHint, tell};

/// tower's boxed error.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// An error that a layer of this crate raises, as against one that it passes on.
pub trait LayerError: Error + Classify + Send + Sync + 'static {}

/// An inner error, or what a layer says instead.
#[derive(Clone, Debug)]
pub enum Failure<E> {
    /// The service failed.
    Inner(E),
    /// A layer failed or refused the call.
    Layer(Arc<dyn LayerError>),
}

impl<E> Failure<E> {
    /// The service's own error, if it is one.
    pub const fn inner(&self) -> Option<&E> {
        match self {
            Self::Inner(error) => Some(error),
            Self::Layer(_) => None,
        }
    }

    /// The layer's error, if it is of type `L`.
    pub fn layer<L: LayerError>(&self) -> Option<&L> {
        match self {
            Self::Inner(_) => None,
            Self::Layer(error) => {
                let error: &(dyn Error + 'static) = &**error;
                error.downcast_ref()
            }
        }
    }
}

impl<E, L: LayerError> From<L> for Failure<E> {
    fn from(error: L) -> Self {
        Self::Layer(Arc::new(error))
    }
}

impl<E: Classify> Classify for Failure<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Inner(error) => error.kind(),
            Self::Layer(error) => error.kind(),
        }
    }

    fn hint(&self) -> RetryHint {
        match self {
            Self::Inner(error) => error.hint(),
            Self::Layer(error) => error.hint(),
        }
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Inner(error) => error.code(),
            Self::Layer(error) => error.code(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner(error) => error.fmt(f),
            Self::Layer(error) => error.fmt(f),
        }
    }
}

impl<E: Error> Error for Failure<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Inner(error) => error.source(),
            Self::Layer(error) => error.source(),
        }
    }
}

/// Turns the errors of a service into [`Failure`]s, so that any layer can stand outside it. No settings.
///
/// ```
/// use std::time::Duration;
/// use millstream_middleware::{Failure, LiftLayer, timeout::TimeoutLayer};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let service = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(Duration::from_secs(5))?)
///     .layer(LiftLayer)
///     .service(service_fn(|n: u32| async move { if n == 0 { Err("zero") } else { Ok(10 / n) } }));
///
/// assert!(matches!(service.oneshot(0).await, Err(Failure::Inner("zero"))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LiftLayer;

impl<S> Layer<S> for LiftLayer {
    type Service = Lift<S>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Lift { inner }
    }
}

impl Describe for LiftLayer {
    fn describe(&self) -> Part {
        Part::new("lift")
    }
}

/// The service of [`LiftLayer`].
#[derive(Clone, Debug)]
pub struct Lift<S> {
    inner: S,
}

impl<S: Service<R>, R> Service<R> for Lift<S> {
    type Response = S::Response;
    type Error = Failure<S::Error>;
    type Future = LiftFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Failure::Inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        LiftFuture { inner: self.inner.call(request) }
    }
}

pin_project! {
    /// The future of [`Lift`].
    #[derive(Debug)]
    pub struct LiftFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, T, E> Future for LiftFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().inner.poll(cx).map_err(Failure::Inner)
    }
}

/// Asks the first error of the chain that a layer of this crate raised, or an [`std::io::Error`]; else
/// [`ErrorKind::Other`].
impl Classify for dyn Error + Send + Sync {
    fn kind(&self) -> ErrorKind {
        known(self).map_or(ErrorKind::Other, Classify::kind)
    }

    fn hint(&self) -> RetryHint {
        known(self).map_or(RetryHint::Default, Classify::hint)
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        known(self).and_then(Classify::code)
    }
}

/// The layer errors, listed once: marks each as a [`LayerError`] and lets a boxed one be found again.
macro_rules! layer_errors {
    ($($(#[$gate:meta])* $error:ty),* $(,)?) => {
        $($(#[$gate])* impl LayerError for $error {})*

        fn as_layer_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a dyn Classify> {
            $($(#[$gate])* if let Some(error) = error.downcast_ref::<$error>() {
                return Some(error);
            })*
            error.downcast_ref::<std::io::Error>().map(|error| error as &dyn Classify)
        }
    };
}

fn known<'a>(error: &'a (dyn Error + Send + Sync + 'static)) -> Option<&'a dyn Classify> {
    let mut next: Option<&'a (dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = as_layer_error(error) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

layer_errors![
    crate::authorize::Denied,
    crate::breaker::Open,
    crate::cache::FlightFailed,
    crate::catch_panic::Panicked,
    crate::concurrency::QueueError,
    crate::dedupe::Duplicate,
    crate::idempotency::IdempotencyError,
    crate::load_shed::Shed,
    #[cfg(feature = "rate")]
    crate::rate::Limited,
    #[cfg(feature = "schedule")]
    crate::schedule::Closed,
    crate::timeout::Elapsed,
    crate::validate::Invalid,
];
