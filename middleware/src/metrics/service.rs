use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::future::{MetricsFuture, Tally};
use crate::{Classify, Describe, Part};

/// Counts and times calls.
#[derive(Clone, Debug)]
pub struct MetricsLayer {
    name: Arc<str>,
}

impl MetricsLayer {
    /// Metrics with `name` in their `service` label.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into() }
    }
}

impl<S> Layer<S> for MetricsLayer {
    type Service = Metrics<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Metrics { inner, name: Arc::clone(&self.name) }
    }
}

impl Describe for MetricsLayer {
    fn describe(&self) -> Part {
        Part::new("metrics").with("service", &self.name)
    }
}

/// The service of [`MetricsLayer`].
#[derive(Clone, Debug)]
pub struct Metrics<S> {
    inner: S,
    name: Arc<str>,
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
        let tally = Tally::begin(&self.name);
        MetricsFuture::new(self.inner.call(request), tally)
    }
}
