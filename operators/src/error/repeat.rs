//! `repeat`: the stream again after its end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::{Flow, flow};

/// How many empty runs may end in one poll before others run.
const BUDGET: u32 = 32;

/// How often a stream runs, and with what wait between. Default: for ever, no wait.
///
/// ```
/// use std::time::Duration;
/// use millstream_operators::error::RepeatPolicy;
///
/// let poll = RepeatPolicy::forever().delay(Duration::from_secs(60));
/// assert_ne!(poll, RepeatPolicy::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[must_use]
pub struct RepeatPolicy {
    runs: Option<u32>,
    delay: Duration,
}

impl RepeatPolicy {
    /// `runs` runs in all; 0 is an empty stream.
    pub const fn times(runs: u32) -> Self {
        Self { runs: Some(runs), delay: Duration::ZERO }
    }

    /// For ever.
    pub const fn forever() -> Self {
        Self { runs: None, delay: Duration::ZERO }
    }

    /// Waits for `delay` between two runs. Default: none.
    pub const fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

pin_project! {
    #[project = RunProjection]
    #[derive(Debug)]
    enum Run<B> {
        Start,
        Running { #[pin] stream: B },
        Waiting { #[pin] sleep: Sleep },
    }
}

pin_project! {
    /// The stream of [`repeat`].
    #[derive(Debug)]
    pub struct Repeat<B, F> {
        policy: RepeatPolicy,
        make: F,
        begun: u32,
        #[pin]
        run: Run<B>,
    }
}

impl<B: Stream, F: FnMut() -> B> Stream for Repeat<B, F> {
    type Item = B::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<B::Item>> {
        let mut this = self.project();
        for _ in 0..BUDGET {
            match this.run.as_mut().project() {
                RunProjection::Start if this.policy.runs.is_some_and(|runs| *this.begun >= runs) => {
                    return Poll::Ready(None);
                }
                RunProjection::Start => {
                    *this.begun = this.begun.saturating_add(1);
                    this.run.set(Run::Running { stream: (this.make)() });
                }
                RunProjection::Waiting { sleep } => {
                    ready!(sleep.poll(cx));
                    this.run.set(Run::Start);
                }
                RunProjection::Running { stream } => {
                    if let Some(item) = ready!(stream.poll_next(cx)) {
                        return Poll::Ready(Some(item));
                    }
                    let last = this.policy.runs.is_some_and(|runs| *this.begun >= runs);
                    this.run.set(if last || this.policy.delay.is_zero() {
                        Run::Start
                    } else {
                        Run::Waiting { sleep: tokio::time::sleep(this.policy.delay) }
                    });
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The stream that `make` makes, and again when it has ended, as `policy` says.
///
/// ```text
/// first   --1--2--|
/// second          --1--2--|
/// repeat(2)
/// out     --1--2----1--2--|
/// ```
///
/// Completes with the last run. An `Err` is an item. Each run is dropped before the next begins. An early drop loses
/// nothing. A wait needs tokio's clock.
///
/// ```
/// use futures::stream::iter;
/// use millstream_operators::error::{RepeatPolicy, repeat};
///
/// # futures::executor::block_on(async {
/// let items = repeat(RepeatPolicy::times(2), || iter([1, 2]));
/// assert_eq!(items.collect::<Vec<_>>().await, [1, 2, 1, 2]);
/// # });
/// ```
pub fn repeat<B: Stream, F: FnMut() -> B>(policy: RepeatPolicy, make: F) -> Flow<Repeat<B, F>> {
    flow(Repeat { policy, make, begun: 0, run: Run::Start })
}
