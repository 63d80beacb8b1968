use std::fmt::Display;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;
use tracing::field::Empty;

use super::future::TraceFuture;
use crate::{Classify, Describe, Part, tell};

/// Puts each call in a span.
#[derive(Clone, Debug)]
pub struct TraceLayer {
    name: Arc<str>,
}

impl TraceLayer {
    /// Spans with `name` in their `service` field.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into() }
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Trace { inner, name: Arc::clone(&self.name) }
    }
}

impl Describe for TraceLayer {
    fn describe(&self) -> Part {
        Part::new("trace").says("service", &self.name)
    }
}

/// The service of [`TraceLayer`].
#[derive(Clone, Debug)]
pub struct Trace<S> {
    inner: S,
    name: Arc<str>,
}

impl<S, R> Service<R> for Trace<S>
where
    S: Service<R, Error: Classify + Display>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TraceFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let span = tracing::info_span!(target: "millstream", "call", service = %self.name, outcome = Empty);
        let future = span.in_scope(|| self.inner.call(request));
        TraceFuture::new(future, span)
    }
}
