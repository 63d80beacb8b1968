//! `share_replay`: a shared run whose last items late subscribers get too.

use futures_core::Stream;

use super::{
    Share,
    share::{Begin, Once, Rules},
};
use crate::{Flow, Operator};

/// How [`share_replay`] treats late subscribers. Default: the source runs on without subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Replay {
    items: usize,
    ref_count: bool,
}

impl Replay {
    /// The last `items` items for each late subscriber; 0 for none.
    pub const fn last(items: usize) -> Self {
        Self { items, ref_count: false }
    }

    /// Drops the source with its last subscriber, and forgets its items. Default: it is kept.
    pub const fn ref_count(self) -> Self {
        Self { ref_count: true, ..self }
    }

    const fn rules(self) -> Rules {
        Rules { replay: self.items, ref_count: self.ref_count, restart: false }
    }
}

/// One run of the source that `make` makes, for all who [`subscribe`](Share::subscribe): a late subscriber gets the last
/// items first, and after the end those and the end.
///
/// ```text
/// source  --1--2--3--|
/// first   --1--2--3--|
/// second         2-3--|        last(1)
/// third                  3|
/// ```
///
/// A subscription completes with the run. An `Err` is an item; for one that ends the run, so that the next subscriber
/// starts it again, there is [`Share::replay_results`]. An early drop loses that subscriber's items alone. While nobody
/// listens the source is not polled; the next subscriber then finds what it has ready replayed.
///
/// ```
/// use futures::stream::iter;
/// use millstream_operators::share::{Replay, share_replay};
///
/// # futures::executor::block_on(async {
/// let shared = share_replay(Replay::last(1), || iter([1, 2]));
/// assert_eq!(shared.subscribe().collect::<Vec<_>>().await, [1, 2]);
/// assert_eq!(shared.subscribe().collect::<Vec<_>>().await, [2]);
/// # });
/// ```
pub fn share_replay<S, F>(replay: Replay, make: F) -> Share<S, F>
where
    S: Stream,
    S::Item: Clone,
    F: FnMut() -> S,
{
    Share::new(make, replay.rules(), |_| false)
}

impl<S, F, T, E> Share<S, F>
where
    S: Stream<Item = Result<T, E>>,
    T: Clone,
    E: Clone,
    F: Begin<S>,
{
    /// Like [`share_replay`], and an `Err` is the last item of its run: it is not replayed, and the next subscriber
    /// starts the source again.
    ///
    /// ```
    /// use futures::stream::iter;
    /// use millstream_operators::share::{Replay, Share};
    ///
    /// # futures::executor::block_on(async {
    /// let shared = Share::replay_results(Replay::last(1), || iter([Ok(1), Err("oh"), Ok(3)]));
    /// assert_eq!(shared.subscribe().collect::<Vec<_>>().await, [Ok(1), Err("oh")]);
    /// assert_eq!(shared.subscribe().collect::<Vec<_>>().await, [Ok(1), Err("oh")]);
    /// # });
    /// ```
    pub fn replay_results(replay: Replay, make: F) -> Self {
        Self::new(make, replay.rules(), Result::is_err)
    }
}

impl<S: Stream, O: Operator<S::Item>> Flow<S, O> {
    /// Shares this flow, with its last items for late subscribers: see [`share_replay`]. It runs once.
    ///
    /// ```
    /// use millstream_operators::{flow, share::Replay};
    ///
    /// # futures::executor::block_on(async {
    /// let shared = flow(futures::stream::iter([1, 2, 3])).share_replay(Replay::last(2));
    /// assert_eq!(shared.subscribe().collect::<Vec<_>>().await, [1, 2, 3]);
    /// assert_eq!(shared.subscribe().collect::<Vec<_>>().await, [2, 3]);
    /// # });
    /// ```
    pub fn share_replay(self, replay: Replay) -> Share<Self, Once<Self>>
    where
        O::Out: Clone,
    {
        Share::new(Once::new(self), replay.rules(), |_| false)
    }
}
