use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::error::Invalid;
use super::rule::Rule;
use crate::future::Refusable;
use crate::{Describe, Part, tell};

/// Checks each request before the service sees it.
#[derive(Clone, Copy, Debug)]
pub struct ValidateLayer<V> {
    rule: V,
}

impl<V> ValidateLayer<V> {
    /// Checks with `rule`.
    pub const fn new(rule: V) -> Self {
        Self { rule }
    }
}

impl<S, V: Clone> Layer<S> for ValidateLayer<V> {
    type Service = Validate<S, V>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Validate { inner, rule: self.rule.clone() }
    }
}

impl<V> Describe for ValidateLayer<V> {
    fn describe(&self) -> Part {
        Part::new("validate")
    }
}

/// The service of [`ValidateLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Validate<S, V> {
    inner: S,
    rule: V,
}

impl<S, R, V> Service<R> for Validate<S, V>
where
    V: Rule<R>,
    S: Service<V::Parsed, Error: From<Invalid>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Refusable<S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        match self.rule.apply(request) {
            Ok(parsed) => Refusable::running(self.inner.call(parsed)),
            Err(invalid) => Refusable::refused(invalid),
        }
    }
}
