//! `retry`: the stream again after an error.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::{Flow, flow};

/// How many attempts may fail in one poll before others run.
const BUDGET: u32 = 32;

/// How often, and after what wait, a stream that failed is begun again. Default: 3 retries, no wait, counted over the
/// whole stream.
///
/// ```
/// use std::time::Duration;
/// use millstream_operators::error::RetryPolicy;
///
/// let patient = RetryPolicy::unlimited().delay(Duration::from_secs(1)).reset_on_item();
/// assert_ne!(patient, RetryPolicy::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RetryPolicy {
    retries: Option<u32>,
    delay: Duration,
    reset_on_item: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::times(3)
    }
}

impl RetryPolicy {
    /// Up to `retries` attempts after the first; 0 retries nothing.
    pub const fn times(retries: u32) -> Self {
        Self { retries: Some(retries), delay: Duration::ZERO, reset_on_item: false }
    }

    /// As often as it fails.
    pub const fn unlimited() -> Self {
        Self { retries: None, delay: Duration::ZERO, reset_on_item: false }
    }

    /// Waits for `delay` before each retry. Default: none.
    pub const fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Counts retries anew after each item. Default: over the whole stream.
    pub const fn reset_on_item(self) -> Self {
        Self { reset_on_item: true, ..self }
    }
}

pin_project! {
    #[project = AttemptProjection]
    #[derive(Debug)]
    enum Attempt<B> {
        Start,
        Running { #[pin] stream: B },
        Waiting { #[pin] sleep: Sleep },
        Over,
    }
}

pin_project! {
    /// The stream of [`retry`].
    #[derive(Debug)]
    pub struct Retry<B, F> {
        policy: RetryPolicy,
        make: F,
        retried: u32,
        #[pin]
        attempt: Attempt<B>,
    }
}

impl<B, F, T, E> Stream for Retry<B, F>
where
    B: Stream<Item = Result<T, E>>,
    F: FnMut() -> B,
{
    type Item = Result<T, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        for _ in 0..BUDGET {
            let item = match this.attempt.as_mut().project() {
                AttemptProjection::Start => {
                    this.attempt.set(Attempt::Running { stream: (this.make)() });
                    continue;
                }
                AttemptProjection::Waiting { sleep } => {
                    ready!(sleep.poll(cx));
                    this.attempt.set(Attempt::Start);
                    continue;
                }
                AttemptProjection::Over => return Poll::Ready(None),
                AttemptProjection::Running { stream } => ready!(stream.poll_next(cx)),
            };
            match item {
                Some(Ok(item)) => {
                    if this.policy.reset_on_item {
                        *this.retried = 0;
                    }
                    return Poll::Ready(Some(Ok(item)));
                }
                Some(Err(_)) if this.policy.retries.is_none_or(|most| *this.retried < most) => {
                    *this.retried = this.retried.saturating_add(1);
                    this.attempt.set(if this.policy.delay.is_zero() {
                        Attempt::Start
                    } else {
                        Attempt::Waiting { sleep: tokio::time::sleep(this.policy.delay) }
                    });
                }
                last => {
                    this.attempt.set(Attempt::Over);
                    return Poll::Ready(last);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The stream that `make` makes, and again where it gives an `Err`, as `policy` allows. Items of all attempts come out;
/// an `Err` does only where no retry is left, and is the last item then.
///
/// ```text
/// first   --1--Err
/// second       --2--3--|
/// retry
/// out     --1----2--3--|
/// ```
///
/// Completes with an attempt that ends without an `Err`, or with the last `Err`. Each attempt is dropped before the next
/// begins. An early drop loses nothing. A wait needs tokio's clock.
///
/// ```
/// use futures::stream::iter;
/// use millstream_operators::error::{RetryPolicy, retry};
///
/// # futures::executor::block_on(async {
/// let mut attempts = [vec![Ok(1), Err("oh")], vec![Ok(2)]].into_iter();
/// let items = retry(RetryPolicy::times(1), || iter(attempts.next().unwrap_or_default()));
/// assert_eq!(items.collect::<Vec<_>>().await, [Ok(1), Ok(2)]);
/// # });
/// ```
pub fn retry<B, F, T, E>(policy: RetryPolicy, make: F) -> Flow<Retry<B, F>>
where
    B: Stream<Item = Result<T, E>>,
    F: FnMut() -> B,
{
    flow(Retry { policy, make, retried: 0, attempt: Attempt::Start })
}
