//! A timeline as a stream, and a stream as a timeline.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _};
use serde_json::Value;
use tokio::time::{Instant, Sleep};

use super::case::{Event, Mark, Timeline, ms};

pub(crate) type Outcome = Result<Value, String>;

/// Far beyond any case.
const FOREVER: u64 = 10_000_000;

/// Cold: times count from the first poll.
#[derive(Debug)]
pub(crate) struct Cold {
    events: std::vec::IntoIter<Event>,
    next: Option<Event>,
    zero: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

pub(crate) fn cold(timeline: Timeline) -> Cold {
    let mut events = timeline.into_iter();
    let next = events.next();
    Cold { events, next, zero: None, sleep: None }
}

#[expect(clippy::disallowed_methods, reason = "the test owns the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

impl Stream for Cold {
    type Item = Outcome;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        let this = &mut *self;
        let zero = *this.zero.get_or_insert_with(now);
        let Some(event) = &this.next else { return Poll::Pending };
        let due = zero + ms(event.at);
        if due > now() {
            let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let mark = std::mem::replace(&mut this.next, this.events.next()).map(|event| event.mark);
        Poll::Ready(match mark {
            Some(Mark::Next(value)) => Some(Ok(value)),
            Some(Mark::Error(error)) => Some(Err(error)),
            Some(Mark::Complete) | None => None,
        })
    }
}

/// Listens until the end, the first error, or the time `until`, which is not listened to any more.
pub(crate) async fn record(stream: impl Stream<Item = Outcome>, zero: Instant, until: Option<u64>) -> Timeline {
    let (mut stream, mut seen) = (pin!(stream), Vec::new());
    let mut limit = pin!(tokio::time::sleep_until(zero + ms(until.unwrap_or(FOREVER))));
    loop {
        let next = tokio::select! {
            biased;
            () = &mut limit => break,
            next = stream.next() => next,
        };
        let at = u64::try_from(zero.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mark = match next {
            Some(Ok(value)) => Mark::Next(value),
            Some(Err(error)) => Mark::Error(error),
            None => Mark::Complete,
        };
        let last = !matches!(mark, Mark::Next(_));
        seen.push(Event { at, mark });
        if last {
            break;
        }
    }
    seen
}
