use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::future::DeadLetterFuture;
use super::layer::Shared;
use crate::{Classify, KindSet};

/// The service of [`DeadLetterLayer`](super::DeadLetterLayer).
pub struct DeadLettering<S, R, E> {
    inner: S,
    shared: Arc<Shared<R, E>>,
    kinds: KindSet,
}

impl<S, R, E> DeadLettering<S, R, E> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<R, E>>, kinds: KindSet) -> Self {
        Self { inner, shared, kinds }
    }
}

impl<S: Clone, R, E> Clone for DeadLettering<S, R, E> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.shared), self.kinds)
    }
}

impl<S: fmt::Debug, R, E> fmt::Debug for DeadLettering<S, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLettering").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, R> Service<R> for DeadLettering<S, R, S::Error>
where
    S: Service<R, Error: Classify>,
    R: Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DeadLetterFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let kept = request.clone();
        DeadLetterFuture::new(self.inner.call(request), kept, Arc::clone(&self.shared), self.kinds)
    }
}
