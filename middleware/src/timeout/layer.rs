use std::time::Duration;

use tower_layer::Layer;

use super::service::{Deadline, Timeout};
use crate::settings::Check;
use crate::{Describe, Part, SettingsError, tell};

fn check(limit: Duration) -> Result<(), SettingsError> {
    let mut check = Check::default();
    check.refuse_if(limit.is_zero(), "limit", "zero leaves no time for the call");
    check.done()
}

/// Limits the time of each call: of one attempt, when it stands inside a retry.
///
/// The wait in `poll_ready` is not counted; [`DeadlineLayer`] counts it.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer {
    limit: Duration,
}

impl TimeoutLayer {
    /// Calls may take `limit`, which has no default.
    ///
    /// # Errors
    /// A limit of zero.
    pub fn new(limit: Duration) -> Result<Self, SettingsError> {
        check(limit).map(|()| Self { limit })
    }

    pub(crate) const fn unchecked(limit: Duration) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Timeout::new(inner, self.limit)
    }
}

impl Describe for TimeoutLayer {
    fn describe(&self) -> Part {
        Part::new("timeout").with("limit", self.limit)
    }
}

/// Limits the time of the whole: everything inside, the wait for readiness, queues, backoff and retries included.
///
/// Where the inner service is not ready, a clone of it is made ready inside the future, so that waiting is within the limit.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    limit: Duration,
}

impl DeadlineLayer {
    /// The whole may take `limit`, which has no default.
    ///
    /// # Errors
    /// A limit of zero.
    pub fn new(limit: Duration) -> Result<Self, SettingsError> {
        check(limit).map(|()| Self { limit })
    }

    pub(crate) const fn unchecked(limit: Duration) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        tell(|| self.describe());
        Deadline::new(inner, self.limit)
    }
}

impl Describe for DeadlineLayer {
    fn describe(&self) -> Part {
        Part::new("deadline").with("limit", self.limit)
    }
}
