use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::future::{MetricsFuture, Tally};
use super::names::Names;
use crate::{Classify, Describe, Part, tell};

/// Counts and times calls.
#[derive(Clone, Debug)]
pub struct MetricsLayer {
    name: Arc<str>,
    names: Arc<Names>,
}

impl MetricsLayer {
    /// Metrics with `name` in their `service` label.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        Self { names: Arc::new(Names::new(&name)), name }
    }
}

impl<S> Layer<S> for MetricsLayer {
    type Service = Metrics<S>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Metrics { inner, names: Arc::clone(&self.names) }
    }
}

impl Describe for MetricsLayer {
    fn describe(&self) -> Part {
        Part::new("metrics").says("service", &self.name)
    }
}

/// The service of [`MetricsLayer`].
#[derive(Clone, Debug)]
pub struct Metrics<S> {
    inner: S,
    names: Arc<Names>,
}

impl<S, R> Service<R> for Metrics<S>
where
    S: Service<R, Error: Classify>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = MetricsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let tally = Tally::begin(&self.names);
        MetricsFuture::new(self.inner.call(request), tally)
    }
}
