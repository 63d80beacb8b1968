//! Handlers that run as tasks of their own.

use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
};

use millstream_middleware::{Part, tell};
use pin_project_lite::pin_project;
use tokio_util::task::AbortOnDropHandle;
use tower_layer::Layer;
use tower_service::Service;

use super::{BoxError, Delivery, HandlerError, IntoOutputs, Outcome, Outputs, handler::from_layer, outputs::outcome};

/// Runs what it wraps as a tokio task for each attempt; worn by [`Handler::spawned`](super::Handler::spawned).
#[derive(Clone, Copy, Debug, Default)]
pub struct SpawnLayer;

impl<S> Layer<S> for SpawnLayer {
    type Service = Spawned<S>;

    fn layer(&self, inner: S) -> Spawned<S> {
        tell(|| Part::new("spawned"));
        Spawned { inner }
    }
}

/// A service whose calls are tokio tasks; made by [`SpawnLayer`].
#[derive(Clone, Debug)]
pub struct Spawned<S> {
    inner: S,
}

impl<S> Service<Delivery> for Spawned<S>
where
    S: Service<Delivery, Response: IntoOutputs, Error: Into<BoxError>>,
    S::Future: Send + 'static,
{
    type Response = Outputs;
    type Error = HandlerError;
    type Future = SpawnedFuture;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), HandlerError>> {
        self.inner.poll_ready(cx).map_err(from_layer)
    }

    #[expect(clippy::disallowed_methods, reason = "the future owns the task and aborts it when it is dropped")]
    fn call(&mut self, delivery: Delivery) -> SpawnedFuture {
        let current = delivery.clone();
        SpawnedFuture(AbortOnDropHandle::new(tokio::spawn(Inside { attempt: self.inner.call(delivery), current })))
    }
}

pin_project! {
    /// An attempt that is polled as its delivery, wherever it is polled.
    struct Inside<F> {
        #[pin]
        attempt: F,
        current: Delivery,
    }
}

impl<F, R, E> Future for Inside<F>
where
    F: Future<Output = Result<R, E>>,
    R: IntoOutputs,
    E: Into<BoxError>,
{
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Outcome> {
        let this = self.project();
        this.current.clone().around(|| this.attempt.poll(cx).map(|returned| outcome(returned.map_err(from_layer))))
    }
}

/// One attempt as a task, aborted when this is dropped.
#[derive(Debug)]
pub struct SpawnedFuture(AbortOnDropHandle<Outcome>);

impl Future for SpawnedFuture {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Outcome> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(outcome) => outcome,
            Err(error) => Err(match error.try_into_panic() {
                Ok(payload) => HandlerError::panicked(&*payload),
                Err(error) => HandlerError::transient(error),
            }),
        })
    }
}
