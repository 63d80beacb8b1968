use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::error::QueueError;
use super::future::{KeyedFuture, Turn};
use super::lanes::Lanes;
use super::layer::Limit;
use crate::{Describe, Part, SettingsError, tell};

/// Limits the calls of each key that run at once; in order of `call`, where the limit is 1.
///
/// ```
/// use millstream_middleware::{Failure, concurrency::{KeyedLayer, Limit}};
/// use tower::{ServiceBuilder, service_fn};
///
/// struct Order { customer: u64 }
///
/// let one_by_one = KeyedLayer::new(Limit::new(1), |order: &Order| order.customer)?;
/// let service = ServiceBuilder::new()
///     .layer(one_by_one)
///     .layer(millstream_middleware::LiftLayer)
///     .service(service_fn(|order: Order| async move { Ok::<_, String>(order.customer) }));
/// # let _ = service;
/// # Ok::<(), millstream_middleware::SettingsError>(())
/// ```
pub struct KeyedLayer<K, F> {
    limit: Limit,
    lanes: Arc<Lanes<K>>,
    key: F,
}

impl<K: Hash + Eq + Clone, F> KeyedLayer<K, F> {
    /// `limit` for each key that `key` reads out of a request. Services made by one layer share the keys.
    ///
    /// # Errors
    /// All that [`Limit::check`] refuses.
    pub fn new<R>(limit: Limit, key: F) -> Result<Self, SettingsError>
    where
        F: Fn(&R) -> K,
    {
        limit.check()?;
        Ok(Self { limit, lanes: Lanes::new(limit.max), key })
    }

    /// How many keys have a call that runs or waits. Others are forgotten.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.lanes.keys()
    }

    /// How many calls wait, over all keys.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lanes.load().1
    }
}

impl<K, F: Clone> Clone for KeyedLayer<K, F> {
    fn clone(&self) -> Self {
        Self { limit: self.limit, lanes: Arc::clone(&self.lanes), key: self.key.clone() }
    }
}

impl<K, F> fmt::Debug for KeyedLayer<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLayer").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl<S, K, F: Clone> Layer<S> for KeyedLayer<K, F> {
    type Service = Keyed<S, K, F>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Keyed { inner, layer: self.clone() }
    }
}

impl<K, F> Describe for KeyedLayer<K, F> {
    fn describe(&self) -> Part {
        self.limit.part("concurrency_by_key")
    }
}

/// The service of [`KeyedLayer`].
pub struct Keyed<S, K, F> {
    inner: S,
    layer: KeyedLayer<K, F>,
}

impl<S: Clone, K, F: Clone> Clone for Keyed<S, K, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, K, F> fmt::Debug for Keyed<S, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}

impl<S, R, K, F> Service<R> for Keyed<S, K, F>
where
    S: Service<R, Error: From<QueueError>> + Clone,
    K: Hash + Eq + Clone + Unpin,
    F: Fn(&R) -> K,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = KeyedFuture<K, S, R>;

    /// Always ready: which key must wait is known with the request.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let limit = self.layer.limit;
        let asked = self.layer.lanes.ask((self.layer.key)(&request), limit.room());
        Self::Future::new(Turn::new(asked, limit.room(), limit.patience), self.inner.clone(), request)
    }
}
