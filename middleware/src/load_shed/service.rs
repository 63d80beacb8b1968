use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::error::Shed;
use crate::future::Refusable;
use crate::{Describe, Part, tell};

/// Refuses calls while the service is not ready.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadShedLayer;

impl<S> Layer<S> for LoadShedLayer {
    type Service = LoadShed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        LoadShed { inner, ready: false }
    }
}

impl Describe for LoadShedLayer {
    fn describe(&self) -> Part {
        Part::new("load_shed")
    }
}

/// The service of [`LoadShedLayer`].
#[derive(Debug)]
pub struct LoadShed<S> {
    inner: S,
    ready: bool,
}

impl<S: Clone> Clone for LoadShed<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), ready: false }
    }
}

impl<S, R> Service<R> for LoadShed<S>
where
    S: Service<R, Error: From<Shed>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Refusable<S::Future, S::Error>;

    /// Always ready, unless the inner service has failed for good.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.ready = match self.inner.poll_ready(cx) {
            Poll::Ready(ready) => ready.map(|()| true)?,
            Poll::Pending => {
                // A fresh clone: the one that was polled stands in a queue, and would take a permit and sit on it.
                self.inner = self.inner.clone();
                false
            }
        };
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        if std::mem::take(&mut self.ready) {
            Refusable::running(self.inner.call(request))
        } else {
            Refusable::refused(Shed)
        }
    }
}
