use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use super::error::Elapsed;
use crate::future::{Ending, Once};

pin_project! {
    /// The future of [`Timeout`](super::Timeout).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct TimeoutFuture<F> {
        #[pin]
        call: Ending<F>,
        alarm: Alarm,
    }
}

impl<F> TimeoutFuture<F> {
    pub(super) const fn new(future: F, limit: Duration) -> Self {
        Self { call: Ending::running(future), alarm: Alarm::new(limit) }
    }
}

impl<F, T, E> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<Elapsed>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(output) = this.call.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        Pin::new(this.alarm).poll(cx).map(|elapsed| {
            this.call.end();
            Err(elapsed.into())
        })
    }
}

pin_project! {
    /// The future of [`Deadline`](super::Deadline).
    #[must_use = "futures do nothing unless polled"]
    pub struct DeadlineFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        call: Once<S, R>,
        alarm: Alarm,
    }
}

impl<S: Service<R>, R> DeadlineFuture<S, R> {
    pub(super) const fn waiting(service: S, request: R, limit: Duration) -> Self {
        Self { call: Once::new(service, request), alarm: Alarm::new(limit) }
    }

    pub(super) const fn begun(future: S::Future, limit: Duration) -> Self {
        Self { call: Once::calling(future), alarm: Alarm::new(limit) }
    }
}

impl<S, R> Future for DeadlineFuture<S, R>
where
    S: Service<R, Error: From<Elapsed>>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(output) = this.call.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        Pin::new(this.alarm).poll(cx).map(|elapsed| {
            this.call.end();
            Err(elapsed.into())
        })
    }
}

impl<S: Service<R>, R> fmt::Debug for DeadlineFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineFuture").field("alarm", &self.alarm).finish_non_exhaustive()
    }
}

/// A timer that costs nothing until it is polled: a call that is ready at once never asks for the time. Boxed, so that
/// such a call does not carry its size about either.
///
/// It stands outside tokio's cooperative budget: a call that spends the budget in each poll must not keep its own timer
/// from being heard.
struct Alarm {
    limit: Duration,
    sleep: Option<Pin<Box<Unconstrained<Sleep>>>>,
}

impl Alarm {
    const fn new(limit: Duration) -> Self {
        Self { limit, sleep: None }
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("limit", &self.limit).field("set", &self.sleep.is_some()).finish()
    }
}

impl Future for Alarm {
    type Output = Elapsed;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Elapsed> {
        let this = self.get_mut();
        let limit = this.limit;
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(unconstrained(sleep(limit))));
        sleep.as_mut().poll(cx).map(|()| Elapsed::new(limit))
    }
}
