use std::fmt;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::future::TapFuture;
use crate::{Describe, Part, tell};

/// Shows each request to one function and each result to another.
#[derive(Clone, Copy)]
pub struct TapLayer<G, H> {
    on_request: G,
    on_result: H,
}

impl<G, H> TapLayer<G, H> {
    /// `on_request` sees each request before the call, `on_result` each result after it.
    pub const fn new<R, T, E>(on_request: G, on_result: H) -> Self
    where
        G: Fn(&R),
        H: Fn(&Result<T, E>),
    {
        Self { on_request, on_result }
    }
}

impl<G, H> fmt::Debug for TapLayer<G, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapLayer").finish_non_exhaustive()
    }
}

impl<S, G: Clone, H: Clone> Layer<S> for TapLayer<G, H> {
    type Service = Tap<S, G, H>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Tap { inner, layer: self.clone() }
    }
}

impl<G, H> Describe for TapLayer<G, H> {
    fn describe(&self) -> Part {
        Part::new("tap")
    }
}

/// The service of [`TapLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Tap<S, G, H> {
    inner: S,
    layer: TapLayer<G, H>,
}

impl<S, R, G, H> Service<R> for Tap<S, G, H>
where
    S: Service<R>,
    G: Fn(&R),
    H: Fn(&Result<S::Response, S::Error>) + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TapFuture<S::Future, H>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        (self.layer.on_request)(&request);
        TapFuture::new(self.inner.call(request), self.layer.on_result.clone())
    }
}
