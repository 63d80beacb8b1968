use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::error::Closed;
use super::service::Rules;
use crate::future::Gated;

/// The future of [`Scheduled`](super::Scheduled): the opening, then readiness, then the call.
pub type ScheduleFuture<S, R> = Gated<Opening, S, R>;

/// A held call looks at the clock at least this often.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Waits until the schedule is open.
#[must_use = "futures do nothing unless polled"]
pub struct Opening {
    decided: Option<Result<(), Closed>>,
    held: Option<(Arc<Rules>, Pin<Box<Sleep>>)>,
}

impl Opening {
    pub(super) fn ask(rules: &Arc<Rules>) -> Self {
        match rules.opens_in() {
            Some(Duration::ZERO) => Self { decided: Some(Ok(())), held: None },
            Some(wait) if rules.holds(wait) => {
                let held = Some((Arc::clone(rules), Box::pin(sleep(wait.min(LOOK_AGAIN)))));
                Self { decided: None, held }
            }
            wait => Self { decided: Some(Err(Closed::new(wait))), held: None },
        }
    }
}

impl Future for Opening {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(decided) = self.decided.take() {
            return Poll::Ready(decided);
        }
        let Some((rules, alarm)) = &mut self.held else { return Poll::Pending };
        loop {
            ready!(alarm.as_mut().poll(cx));
            match rules.opens_in() {
                Some(Duration::ZERO) => return Poll::Ready(Ok(())),
                Some(wait) => alarm.set(sleep(wait.min(LOOK_AGAIN))),
                None => return Poll::Ready(Err(Closed::new(None))),
            }
        }
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("held", &self.held.is_some()).finish_non_exhaustive()
    }
}
