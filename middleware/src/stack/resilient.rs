use std::time::Duration;

use serde::{Deserialize, Serialize};
use tower_layer::{Identity, Stack as Pair};

use super::builder::Stack;
use crate::breaker::{BreakerLayer, Trip};
use crate::concurrency::{ConcurrencyLayer, Limit};
use crate::retry::{Retry, RetryLayer};
use crate::timeout::{DeadlineLayer, TimeoutLayer};
use crate::{Classify, Failure, LiftLayer, SettingError, SettingsError};

/// The settings of the resilient stack: what a call to something that may fail should wear, if nobody says otherwise.
///
/// | outermost first | default | why there |
/// | --- | --- | --- |
/// | [`deadline`](Resilient::deadline) | 30 s | the caller's limit on everything inside |
/// | [`retry`](Resilient::retry) | three attempts, 1 s doubling, full jitter, none later than the deadline | a backoff holds no permit |
/// | [`breaker`](Resilient::breaker) | 50 % of at least 20 calls in 30 s | sees each attempt |
/// | [`concurrency`](Resilient::concurrency) | 100 | a wait for a permit is not the service's fault |
/// | [`timeout`](Resilient::timeout) of one attempt | 9 s | three attempts and their backoffs fit into 30 s; the breaker sees what hangs |
/// | lift | | carries the layers' errors |
///
/// Where the breaker stays open for longer than is left of the deadline, the caller hears at once.
///
/// ```
/// use millstream_middleware::stack::Resilient;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let stack = Resilient::default().build::<String>()?;
/// let service = stack.layer(service_fn(|n: u32| async move { Ok::<_, String>(n + 1) }));
/// assert_eq!(service.oneshot(1).await.unwrap(), 2);
/// # Ok::<(), millstream_middleware::SettingsError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Around a handler of `millstream` goes [`attempt`](Resilient::attempt), for there the subscription is who retries.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[must_use]
pub struct Resilient {
    deadline: Option<Duration>,
    retry: Option<Retry>,
    breaker: Trip,
    concurrency: Limit,
    timeout: Duration,
}

/// The caller's limit on everything, if nobody says otherwise.
const DEADLINE: Duration = Duration::from_secs(30);

/// What [`Resilient::build`] makes, for a service that fails with `E`.
pub type ResilientStack<E> = Stack<
    Pair<
        LiftLayer,
        Pair<
            TimeoutLayer,
            Pair<ConcurrencyLayer, Pair<BreakerLayer, Pair<RetryLayer<Failure<E>>, Pair<DeadlineLayer, Identity>>>>,
        >,
    >,
>;

/// What [`Resilient::attempt`] makes.
pub type AttemptStack = Stack<Pair<TimeoutLayer, Pair<ConcurrencyLayer, Pair<BreakerLayer, Identity>>>>;

impl Default for Resilient {
    fn default() -> Self {
        Self {
            deadline: None,
            retry: None,
            breaker: Trip::default(),
            concurrency: Limit::new(100),
            timeout: Duration::from_secs(9),
        }
    }
}

impl Resilient {
    /// The limit on the whole. Default 30 s.
    pub const fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = Some(limit);
        self
    }

    /// The retry policy. Default: [`Retry::exponential`] with a total time of the deadline.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// The circuit breaker. Default: [`Trip::default`].
    pub const fn breaker(mut self, trip: Trip) -> Self {
        self.breaker = trip;
        self
    }

    /// The calls at once. Default 100; the others wait.
    pub const fn concurrency(mut self, limit: Limit) -> Self {
        self.concurrency = limit;
        self
    }

    /// The limit on one attempt. Default 9 s.
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// The stack, for a service that fails with `E`.
    ///
    /// # Errors
    /// Every impossible setting of every layer, each with the layer's name.
    pub fn build<E: Classify + 'static>(self) -> Result<ResilientStack<E>, SettingsError> {
        let deadline = self.deadline.unwrap_or(DEADLINE);
        let retry = self.retry.unwrap_or_else(|| Retry::exponential().total(deadline));
        Stack::builder("resilient")
            .deadline(deadline)
            .retry(retry)
            .breaker(self.breaker)
            .concurrency(self.concurrency)
            .timeout(self.timeout)
            .lift()
            .build()
    }

    /// What the stack has inside of its retry: breaker, concurrency and timeout, for one attempt. For whoever retries in
    /// another way, as the subscriptions of `millstream` do: `handler.retry(policy).layer(resilient.attempt()?)`. The deadline is
    /// theirs, too ([`Retry::total`]). The service's error must carry those of the layers.
    ///
    /// # Errors
    /// Every impossible setting of every layer, each with the layer's name; a retry policy or a deadline, which have no effect here.
    pub fn attempt(self) -> Result<AttemptStack, SettingsError> {
        let whole = [("retry", self.retry.is_some()), ("deadline", self.deadline.is_some())];
        let stack =
            whole.into_iter().filter(|(_, is_set)| *is_set).fold(Stack::builder("resilient"), |stack, (name, _)| {
                stack.refuse(SettingError::new(name, "has no effect on the stack of one attempt"))
            });
        stack.breaker(self.breaker).concurrency(self.concurrency).timeout(self.timeout).build()
    }
}
