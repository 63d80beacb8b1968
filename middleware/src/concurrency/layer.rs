use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tower_layer::Layer;

use super::service::Concurrency;
use crate::settings::Check;
use crate::{Describe, Part, SettingsError, tell};

/// How many calls run at once, and how the others wait.
///
/// ```
/// use std::time::Duration;
/// use millstream_middleware::concurrency::Limit;
///
/// assert!(Limit::new(8).queue(100).patience(Duration::from_secs(2)).check().is_ok());
/// assert_eq!(Limit::new(0).patience(Duration::ZERO).check().unwrap_err().refused().len(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Limit {
    pub(super) max: usize,
    #[serde(default)]
    pub(super) queue: Option<usize>,
    #[serde(default)]
    pub(super) patience: Option<Duration>,
}

impl Limit {
    /// At most `max` calls at once; the others wait, however many and however long.
    pub const fn new(max: usize) -> Self {
        Self { max, queue: None, patience: None }
    }

    /// At most this many calls wait; one more is refused with [`QueueError::Full`](super::QueueError::Full). Zero: nobody waits.
    /// Default: no limit.
    pub const fn queue(mut self, calls: usize) -> Self {
        self.queue = Some(calls);
        self
    }

    /// A call that has waited this long is refused with [`QueueError::Timeout`](super::QueueError::Timeout). Default: no limit.
    pub const fn patience(mut self, wait: Duration) -> Self {
        self.patience = Some(wait);
        self
    }

    /// Says what is impossible, all at once.
    ///
    /// # Errors
    /// No call at all, more calls than a semaphore can count, a patience of zero.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut check = Check::default();
        check.refuse_if(self.max == 0, "max", "zero lets no call through");
        check.refuse_if(self.max > Semaphore::MAX_PERMITS, "max", "is more than can be counted");
        check.refuse_if(self.patience == Some(Duration::ZERO), "patience", "zero lets nobody wait: say `queue(0)`");
        check.done()
    }

    pub(super) fn room(&self) -> usize {
        self.queue.unwrap_or(usize::MAX)
    }

    pub(super) fn part(&self, name: &'static str) -> Part {
        Part::new(name).with("max", self.max).with_some("queue", self.queue).with_some("patience", self.patience)
    }
}

impl From<usize> for Limit {
    /// So many calls at once; see [`Limit::new`].
    fn from(max: usize) -> Self {
        Self::new(max)
    }
}

/// Limits the calls that run at once, in all. Services made by one layer share the limit.
#[derive(Clone, Debug)]
pub struct ConcurrencyLayer {
    permits: Arc<Permits>,
}

impl ConcurrencyLayer {
    /// A limit of its own (a number of calls, or a [`Limit`] with a queue), which is shared by all services that this layer, or a clone of it, makes.
    ///
    /// # Errors
    /// All that [`Limit::check`] refuses.
    pub fn new(limit: impl Into<Limit>) -> Result<Self, SettingsError> {
        let limit = limit.into();
        limit.check().map(|()| Self::unchecked(limit))
    }

    pub(crate) fn unchecked(limit: Limit) -> Self {
        let semaphore = Arc::new(Semaphore::new(limit.max.min(Semaphore::MAX_PERMITS)));
        Self { permits: Arc::new(Permits { limit, semaphore, waiting: AtomicUsize::new(0) }) }
    }

    /// How many calls could begin now.
    #[must_use]
    pub fn available(&self) -> usize {
        self.permits.semaphore.available_permits()
    }

    /// How many callers wait for a permit.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.permits.waiting.load(Ordering::Relaxed)
    }
}

impl<S> Layer<S> for ConcurrencyLayer {
    type Service = Concurrency<S>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Concurrency::new(inner, Arc::clone(&self.permits))
    }
}

impl Describe for ConcurrencyLayer {
    fn describe(&self) -> Part {
        self.permits.limit.part("concurrency")
    }
}

/// What the services of one layer share.
#[derive(Debug)]
pub(super) struct Permits {
    pub(super) limit: Limit,
    pub(super) semaphore: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Permits {
    /// A place in the queue, if there is one.
    pub(super) fn join_queue(self: &Arc<Self>) -> Option<Place> {
        let room = self.limit.room();
        let joined = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| (waiting < room).then_some(waiting + 1));
        joined.is_ok().then(|| Place { permits: Arc::clone(self) })
    }
}

/// A place in the queue; left when dropped.
#[derive(Debug)]
pub(super) struct Place {
    permits: Arc<Permits>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.permits.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
