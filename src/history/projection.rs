//! A state that is made of events.

use std::fmt;

use super::{HistoryError, walk::Walk};
use crate::{event::Envelope, store::Seq};

/// A state in memory that is made of events: of those in the log, then of those that come, each once and in the order of the
/// log. It is the owner's to drive, and follows the log, not the handlers: it sees an event as soon as it is in the store.
///
/// Which to use:
///
/// - a projection, for a state that is quickly made again, as it is at each start, or that its owner keeps with its
///   [`place`](Self::place). It sees what the log still has: by default that is what nobody has handled yet, so give the runtime
///   a [`Retention`](crate::Retention) that keeps what the state is made of;
/// - a durable subscription with [`starting_at`](crate::Handler::starting_at)`(`[`Start::Earliest`](crate::Start::Earliest)`)` that
///   writes to its [storage](crate::Context::storage), for a state that must not be made again, or that takes retries and dead
///   letters: its place and its writes are one commit;
/// - [`History::events`](super::History::events), for a question that is asked once.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use millstream::{Draft, Runtime, store::Memory};
///
/// let runtime = Runtime::builder().store(Memory::new()).build()?;
/// let sale = |cents: i64| Draft::json("sale", cents.into());
/// runtime.emit(sale(250))?.await?;
///
/// let add = |sum: &mut i64, event: &millstream::Envelope| *sum += event.data().to_json().unwrap().as_i64().unwrap();
/// let mut turnover = runtime.history("sale")?.project(0, add);
/// assert_eq!(turnover.catch_up().await?, &250);
/// runtime.emit(sale(50))?.await?;
/// assert_eq!(turnover.changed().await?, &300);
///
/// // Kept with its place, it goes on from there.
/// let (sum, place) = (*turnover.state(), turnover.place());
/// runtime.emit(sale(7))?.await?;
/// assert_eq!(runtime.history("sale")?.from(place).project(sum, add).catch_up().await?, &307);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct Projection<S, F> {
    walk: Result<Walk, HistoryError>,
    state: S,
    fold: F,
}

impl<S, F: FnMut(&mut S, &Envelope)> Projection<S, F> {
    pub(super) fn new(walk: Result<Walk, HistoryError>, state: S, fold: F) -> Self {
        Self { walk, state, fold }
    }

    /// Takes in all that is in the log now.
    ///
    /// # Errors
    /// [`HistoryError`]. Where events were [trimmed](HistoryError::Trimmed) before they were taken in, the state lacks them;
    /// called again, it goes on behind them.
    ///
    /// # Cancel safety
    /// Dropped, what was taken in is taken in, and the next call goes on.
    pub async fn catch_up(&mut self) -> Result<&S, HistoryError> {
        self.take_in().await?;
        Ok(&self.state)
    }

    /// Waits until at least one more event is in the log that it wants, and takes in all there are.
    ///
    /// # Errors
    /// As [`catch_up`](Self::catch_up); [`HistoryError::Closed`] once the runtime is shut down and all is taken in.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn changed(&mut self) -> Result<&S, HistoryError> {
        loop {
            if self.take_in().await? > 0 {
                return Ok(&self.state);
            }
            let walk = self.walk.as_ref().map_err(HistoryError::clone)?;
            if !walk.wait().await? {
                return Err(HistoryError::Closed);
            }
        }
    }

    async fn take_in(&mut self) -> Result<u64, HistoryError> {
        let walk = self.walk.as_mut().map_err(|error| error.clone())?;
        walk.extend().await?;
        let mut taken = 0;
        while let Some(event) = walk.next().await? {
            (self.fold)(&mut self.state, &event);
            taken += 1;
        }
        Ok(taken)
    }

    /// The state, as far as it is.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The state, to keep.
    pub fn into_state(self) -> S {
        self.state
    }

    /// Behind the last event that was taken in: kept with the state, and given to [`from`](super::History::from), it goes on
    /// there.
    pub fn place(&self) -> Seq {
        self.walk.as_ref().map(Walk::place).unwrap_or_default()
    }
}

impl<S: fmt::Debug, F> fmt::Debug for Projection<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projection").field("state", &self.state).finish_non_exhaustive()
    }
}
