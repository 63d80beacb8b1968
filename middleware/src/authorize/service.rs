use std::fmt;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::error::Denied;
use crate::future::Refusable;
use crate::{Describe, Part, tell};

/// Lets through what a rule allows.
///
/// ```
/// use millstream_middleware::authorize::{AuthorizeLayer, Denied};
///
/// struct Request { tenant: Option<String> }
///
/// let layer = AuthorizeLayer::new(|request: &Request| match request.tenant {
///     Some(_) => Ok(()),
///     None => Err(Denied::new("no tenant")),
/// });
/// # let _ = layer;
/// ```
#[derive(Clone, Copy)]
pub struct AuthorizeLayer<F> {
    rule: F,
}

impl<F> AuthorizeLayer<F> {
    /// Asks `rule` about each request.
    pub const fn new<R>(rule: F) -> Self
    where
        F: Fn(&R) -> Result<(), Denied>,
    {
        Self { rule }
    }
}

impl<F> fmt::Debug for AuthorizeLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizeLayer").finish_non_exhaustive()
    }
}

impl<S, F: Clone> Layer<S> for AuthorizeLayer<F> {
    type Service = Authorize<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Authorize { inner, rule: self.rule.clone() }
    }
}

impl<F> Describe for AuthorizeLayer<F> {
    fn describe(&self) -> Part {
        Part::new("authorize")
    }
}

/// The service of [`AuthorizeLayer`].
#[derive(Clone, Copy)]
pub struct Authorize<S, F> {
    inner: S,
    rule: F,
}

impl<S: fmt::Debug, F> fmt::Debug for Authorize<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorize").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, R, F> Service<R> for Authorize<S, F>
where
    S: Service<R, Error: From<Denied>>,
    F: Fn(&R) -> Result<(), Denied>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Refusable<S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        match (self.rule)(&request) {
            Ok(()) => Refusable::running(self.inner.call(request)),
            Err(denied) => Refusable::refused(denied),
        }
    }
}
