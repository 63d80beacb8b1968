use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::error::Open;
use super::future::{BreakerFuture, Verdict, Watch, Watched};
use super::layer::Breaker;
use super::machine::State;
use crate::Classify;
use crate::future::Refusable;

/// The service of [`BreakerLayer`](super::BreakerLayer).
#[derive(Debug)]
pub struct Guarding<S> {
    inner: S,
    breaker: Breaker,
    verdict: Verdict,
    ready: bool,
}

impl<S> Guarding<S> {
    pub(super) fn new(inner: S, breaker: Breaker) -> Self {
        let verdict = Verdict::new(&breaker.trip());
        Self { inner, breaker, verdict, ready: false }
    }
}

impl<S: Clone> Clone for Guarding<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), breaker: self.breaker.clone(), verdict: self.verdict, ready: false }
    }
}

impl<S, R> Service<R> for Guarding<S>
where
    S: Service<R, Error: From<Open> + Classify>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BreakerFuture<S::Future, S::Error>;

    /// Ready at once while the breaker is open: the call is refused, and the inner service is not asked.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if !self.ready && self.breaker.state() != State::Open {
            ready!(self.inner.poll_ready(cx))?;
            self.ready = true;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        if !self.ready {
            // It was open when readiness was asked for; if it has closed since, the inner service is not ready yet.
            return Refusable::refused(self.breaker.refusal());
        }
        match self.breaker.admit() {
            Ok(ticket) => {
                self.ready = false;
                let watch = Watch::new(&self.breaker, ticket, self.verdict);
                Refusable::running(Watched::new(self.inner.call(request), watch))
            }
            Err(open) => Refusable::refused(open),
        }
    }
}
