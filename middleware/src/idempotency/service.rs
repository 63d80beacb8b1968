use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::error::IdempotencyError;
use super::future::{Held, IdempotencyFuture};
use super::layer::Keep;
use super::store::{AnswerStore, Claim};

/// The service of [`IdempotencyLayer`](super::IdempotencyLayer).
pub struct Idempotency<S, A, F> {
    inner: S,
    keep: Keep,
    store: Arc<A>,
    key: F,
}

impl<S, A, F> Idempotency<S, A, F> {
    pub(super) const fn new(inner: S, keep: Keep, store: Arc<A>, key: F) -> Self {
        Self { inner, keep, store, key }
    }
}

impl<S: Clone, A, F: Clone> Clone for Idempotency<S, A, F> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.keep, Arc::clone(&self.store), self.key.clone())
    }
}

impl<S: fmt::Debug, A, F> fmt::Debug for Idempotency<S, A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, R, K, A, F> Service<R> for Idempotency<S, A, F>
where
    S: Service<R, Error: From<IdempotencyError> + Send, Response: Clone + Send, Future: Send> + Clone + Send + 'static,
    R: Send + 'static,
    K: Send + Sync + 'static,
    A: AnswerStore<K, S::Response>,
    F: Fn(&R) -> Option<K>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = IdempotencyFuture<S::Future, S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let Some(key) = (self.key)(&request) else {
            return IdempotencyFuture::passing(self.inner.call(request));
        };
        // The service that was polled ready goes with the call; its clone takes its place.
        let fresh = self.inner.clone();
        let ready = mem::replace(&mut self.inner, fresh);
        IdempotencyFuture::keyed(once(ready, request, key, self.keep, Arc::clone(&self.store)))
    }
}

async fn once<S, R, K, A>(mut ready: S, request: R, key: K, keep: Keep, store: Arc<A>) -> Result<S::Response, S::Error>
where
    S: Service<R, Error: From<IdempotencyError>, Response: Clone>,
    A: AnswerStore<K, S::Response>,
{
    let token = match store.claim(&key, keep.lease).await.map_err(IdempotencyError::Store)? {
        Claim::Answered(answer) => return Ok(answer),
        Claim::InProgress => return Err(IdempotencyError::InProgress.into()),
        Claim::Granted(token) => token,
    };
    let held = Held::new(&*store, &key, token);
    let answer = ready.call(request).await?;
    held.keep();
    // The call has had its effect: an answer that cannot be kept is still the answer.
    drop(store.answer(&key, token, answer.clone(), keep.life).await);
    Ok(answer)
}
