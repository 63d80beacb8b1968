use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::future::HedgeFuture;
use super::layer::Hedging;
use crate::retry::Purse;

/// The service of [`HedgeLayer`](super::HedgeLayer).
#[derive(Clone, Debug)]
pub struct Hedge<S> {
    inner: S,
    hedging: Hedging,
    purse: Arc<Purse>,
}

impl<S> Hedge<S> {
    pub(super) const fn new(inner: S, hedging: Hedging, purse: Arc<Purse>) -> Self {
        Self { inner, hedging, purse }
    }
}

impl<S, R> Service<R> for Hedge<S>
where
    S: Service<R> + Clone,
    R: Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = HedgeFuture<S, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.purse.earn();
        let first = self.inner.call(request.clone());
        HedgeFuture::new(first, self.inner.clone(), request, self.hedging, Arc::clone(&self.purse))
    }
}
