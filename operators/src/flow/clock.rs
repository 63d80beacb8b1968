//! A flow's clock: tokio's, from the flow's first poll.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use crate::Timestamp;

/// One timer, set anew only where the deadline changes.
#[derive(Debug)]
pub(super) struct Clock {
    zero: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that a flow is given: tokio's, pausable")]
    pub(super) fn start() -> Self {
        Self { zero: Instant::now(), timer: None }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::EPOCH + self.zero.elapsed()
    }

    pub(super) fn poll_until(&mut self, due: Timestamp, cx: &mut Context<'_>) -> Poll<()> {
        // A deadline past the clock's end is never.
        let Some(when) = self.zero.checked_add(Duration::from_nanos(due.as_nanos())) else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(when)));
        if timer.deadline() != when {
            timer.as_mut().reset(when);
        }
        timer.as_mut().poll(cx)
    }
}
