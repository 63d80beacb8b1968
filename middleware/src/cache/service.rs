use std::fmt::{self, Display};
use std::future::poll_fn;
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::error::FlightFailed;
use super::future::CacheFuture;
use super::layer::{Answers, Role};
use crate::Classify;

/// The service of [`CacheLayer`](super::CacheLayer).
pub struct Cache<S, K, T, F> {
    inner: S,
    answers: Arc<Answers<K, T>>,
    key: F,
}

impl<S, K, T, F> Cache<S, K, T, F> {
    pub(super) const fn new(inner: S, answers: Arc<Answers<K, T>>, key: F) -> Self {
        Self { inner, answers, key }
    }
}

impl<S: Clone, K, T, F: Clone> Clone for Cache<S, K, T, F> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.answers), self.key.clone())
    }
}

impl<S: fmt::Debug, K, T, F> fmt::Debug for Cache<S, K, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, R, K, F> Service<R> for Cache<S, K, S::Response, F>
where
    S: Service<R, Error: From<FlightFailed> + Classify + Display + Send, Response: Clone + Send + Sync + 'static>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    R: Send + 'static,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Fn(&R) -> K,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = CacheFuture<S::Response, S::Error>;

    /// Always ready: an answer that is kept needs no inner service.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let key = (self.key)(&request);
        match self.answers.ask(&key) {
            Role::Answered(answer) => CacheFuture::answered(answer),
            role => CacheFuture::asking(ask(self.inner.clone(), request, key, Arc::clone(&self.answers), role)),
        }
    }
}

async fn ask<S, R, K>(
    mut service: S,
    request: R,
    key: K,
    answers: Arc<Answers<K, S::Response>>,
    mut role: Role<K, S::Response>,
) -> Result<S::Response, S::Error>
where
    S: Service<R, Error: From<FlightFailed> + Classify + Display, Response: Clone>,
    K: Hash + Eq + Clone,
{
    loop {
        match role {
            Role::Answered(answer) => return Ok(answer),
            Role::Follow(mut flight) => {
                // An error is a leader that was dropped: ask again, and perhaps lead.
                if let Ok(landed) = flight.wait_for(Option::is_some).await
                    && let Some(outcome) = landed.clone()
                {
                    return outcome.map_err(Into::into);
                }
                role = answers.ask(&key);
            }
            Role::Lead(flight) => {
                let output = match poll_fn(|cx| service.poll_ready(cx)).await {
                    Ok(()) => service.call(request).await,
                    Err(error) => Err(error),
                };
                flight.land(output.as_ref().map(Clone::clone).map_err(FlightFailed::new));
                return output;
            }
        }
    }
}
