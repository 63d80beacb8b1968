//! What someone waits for who has handed work to another thread.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// A place for one answer, and the two who know it.
pub(super) fn ticket<T>() -> (Settle<T>, Pending<T>) {
    let slot = Arc::new(Mutex::new(Slot::Empty));
    (Settle(Some(Arc::clone(&slot))), Pending(slot))
}

#[derive(Debug)]
enum Slot<T> {
    Empty,
    Awaited(Waker),
    Settled(T),
    /// Whoever should have settled it is gone, or the answer was taken.
    Lost,
}

/// Gives the answer. Dropped without one, it says so.
#[derive(Debug)]
pub(super) struct Settle<T>(Option<Arc<Mutex<Slot<T>>>>);

impl<T> Settle<T> {
    /// Gives the answer and wakes who waits for it.
    pub(super) fn settle(mut self, answer: T) {
        if let Some(slot) = self.0.take() {
            fill(&slot, Slot::Settled(answer));
        }
    }
}

impl<T> Drop for Settle<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            fill(&slot, Slot::Lost);
        }
    }
}

fn fill<T>(slot: &Mutex<Slot<T>>, with: Slot<T>) {
    let before = std::mem::replace(&mut *lock(slot), with);
    if let Slot::Awaited(waker) = before {
        super::wake(waker);
    }
}

fn lock<T>(slot: &Mutex<Slot<T>>) -> MutexGuard<'_, Slot<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the answer: none where there will never be one.
///
/// While the thread [holds the clock](hold_clock), waiting keeps the task ready.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(super) struct Pending<T>(Arc<Mutex<Slot<T>>>);

impl<T> Future for Pending<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = lock(&self.0);
        match std::mem::replace(&mut *slot, Slot::Lost) {
            Slot::Settled(answer) => Poll::Ready(Some(answer)),
            Slot::Lost => Poll::Ready(None),
            Slot::Empty | Slot::Awaited(_) => {
                *slot = Slot::Awaited(context.waker().clone());
                drop(slot);
                #[cfg(feature = "testing")]
                hold::keep_ready(context);
                Poll::Pending
            }
        }
    }
}

#[cfg(feature = "testing")]
pub use hold::{ClockHold, hold_clock};

#[cfg(feature = "testing")]
mod hold {
    use std::{cell::Cell, marker::PhantomData, task::Context};

    thread_local! {
        static HOLDS: Cell<usize> = const { Cell::new(0) };
    }

    /// Holds the clock of a runtime that runs on this thread with its time paused, as long as a commit is in flight: the
    /// disk's time is real, and a paused clock would leap to the next timer while a plain thread writes.
    ///
    /// A future of a store that waits for its commit, and is awaited by somebody, keeps its task ready until the commit has
    /// landed; so the runtime is never idle, and time stands still. [`testing::run`](crate::testing::run) does it by itself.
    ///
    /// ```
    /// use millstream::{store::{Op, PartitionId, Redb, Store}, testing};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = Redb::builder().open_on(redb::backends::InMemoryBackend::new())?;
    /// let _hold = testing::hold_clock();
    /// tokio::time::pause();
    /// let begin = tokio::time::Instant::now();
    /// store.append(PartitionId(0), Vec::<Op>::new()).await?;
    /// assert_eq!(begin.elapsed().as_nanos(), 0);
    /// # Ok(()) }
    /// ```
    #[must_use = "the clock is held until this is dropped"]
    pub fn hold_clock() -> ClockHold {
        HOLDS.set(HOLDS.get() + 1);
        ClockHold(PhantomData)
    }

    /// The clock of this thread is held until this is dropped.
    #[derive(Debug)]
    pub struct ClockHold(PhantomData<*const ()>);

    impl Drop for ClockHold {
        fn drop(&mut self) {
            HOLDS.set(HOLDS.get() - 1);
        }
    }

    /// Wakes the task again where the clock is held.
    pub(super) fn keep_ready(context: &Context<'_>) {
        if HOLDS.get() > 0 {
            std::thread::yield_now();
            context.waker().wake_by_ref();
        }
    }
}
