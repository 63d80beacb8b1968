use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::error::Carrier;
use crate::{Describe, LayerError, Part, tell};

/// Answers with `Default` where the call failed with `L`, and counts it.
pub struct SkipLayer<L> {
    skipped: Arc<AtomicU64>,
    error: PhantomData<fn() -> L>,
}

impl<L: LayerError> SkipLayer<L> {
    /// Skips calls that fail with `L`.
    #[must_use]
    pub fn new() -> Self {
        Self { skipped: Arc::default(), error: PhantomData }
    }

    /// How many calls were skipped, by all services of this layer.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }
}

impl<L: LayerError> Default for SkipLayer<L> {
    fn default() -> Self {
        Self::new()
    }
}

impl<L> Clone for SkipLayer<L> {
    fn clone(&self) -> Self {
        Self { skipped: Arc::clone(&self.skipped), error: PhantomData }
    }
}

impl<L> fmt::Debug for SkipLayer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SkipLayer").field("skipped", &self.skipped).finish()
    }
}

impl<S, L> Layer<S> for SkipLayer<L> {
    type Service = Skip<S, L>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Skip { inner, layer: self.clone() }
    }
}

impl<L> Describe for SkipLayer<L> {
    fn describe(&self) -> Part {
        let name = std::any::type_name::<L>();
        Part::new("skip").says("error", name.rsplit("::").next().unwrap_or(name))
    }
}

/// The service of [`SkipLayer`].
#[derive(Debug)]
pub struct Skip<S, L> {
    inner: S,
    layer: SkipLayer<L>,
}

impl<S: Clone, L> Clone for Skip<S, L> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, R, L> Service<R> for Skip<S, L>
where
    S: Service<R, Response: Default, Error: Carrier>,
    L: LayerError,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = SkipFuture<S::Future, L>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        SkipFuture { inner: self.inner.call(request), layer: self.layer.clone() }
    }
}

pin_project! {
    /// The future of [`Skip`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct SkipFuture<F, L> {
        #[pin]
        inner: F,
        layer: SkipLayer<L>,
    }
}

impl<F, L, T, E> Future for SkipFuture<F, L>
where
    F: Future<Output = Result<T, E>>,
    T: Default,
    E: Carrier,
    L: LayerError,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.inner.poll(cx).map(|output| match output {
            Err(error) if error.carried::<L>().is_some() => {
                this.layer.skipped.fetch_add(1, Ordering::Relaxed);
                Ok(T::default())
            }
            done => done,
        })
    }
}
