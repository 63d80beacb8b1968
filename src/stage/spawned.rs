//! Handlers that run as tasks of their own.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{self, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio_util::task::AbortOnDropHandle;

use super::{Delivery, Handler, HandlerError, Options, Outcome, Requirements};
use crate::intake::Current;

/// A handler whose attempts are tokio tasks; made by [`Handler::spawned`].
pub struct Spawned<H, Args> {
    handler: H,
    args: PhantomData<fn(Args)>,
}

impl<H, Args> Spawned<H, Args> {
    pub(super) fn new(handler: H) -> Self {
        Self { handler, args: PhantomData }
    }
}

impl<H: Handler<Args>, Args: 'static> Handler<Args> for Spawned<H, Args> {
    type Future = SpawnedFuture;

    #[expect(clippy::disallowed_methods, reason = "the future owns the task and aborts it when it is dropped")]
    fn call(&self, delivery: Delivery) -> SpawnedFuture {
        let current = delivery.current();
        SpawnedFuture(AbortOnDropHandle::new(tokio::spawn(Inside { attempt: self.handler.call(delivery), current })))
    }

    fn requirements(&self) -> Requirements {
        self.handler.requirements()
    }

    fn most_outputs(&self) -> Option<usize> {
        self.handler.most_outputs()
    }

    fn options(&self) -> Options {
        self.handler.options()
    }
}

impl<H, Args> fmt::Debug for Spawned<H, Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawned").finish_non_exhaustive()
    }
}

pin_project! {
    /// An attempt that is polled as its delivery, wherever it is polled.
    struct Inside<F> {
        #[pin]
        attempt: F,
        current: Current,
    }
}

impl<F: Future> Future for Inside<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.current.clone().around(|| this.attempt.poll(cx))
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
