use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::error::Panicked;
use super::future::{CatchPanicFuture, Catching};
use crate::future::Refusable;
use crate::{Describe, Part, tell};

/// Turns a panic into [`Panicked`].
#[derive(Clone, Copy, Debug, Default)]
pub struct CatchPanicLayer;

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        CatchPanic { inner }
    }
}

impl Describe for CatchPanicLayer {
    fn describe(&self) -> Part {
        Part::new("catch_panic")
    }
}

/// The service of [`CatchPanicLayer`].
#[derive(Clone, Debug)]
pub struct CatchPanic<S> {
    inner: S,
}

impl<S, R> Service<R> for CatchPanic<S>
where
    S: Service<R, Error: From<Panicked>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CatchPanicFuture<S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let poll = catch_unwind(AssertUnwindSafe(|| self.inner.poll_ready(cx)));
        poll.unwrap_or_else(|payload| Poll::Ready(Err(Panicked::new(&*payload).into())))
    }

    fn call(&mut self, request: R) -> Self::Future {
        match catch_unwind(AssertUnwindSafe(|| self.inner.call(request))) {
            Ok(future) => Refusable::running(Catching::new(future)),
            Err(payload) => Refusable::refused(Panicked::new(&*payload)),
        }
    }
}
