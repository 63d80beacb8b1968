//! One waker for many consumers: whoever polls the source, all that wait are woken.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

/// The consumers that wait, by number.
#[derive(Debug, Default)]
pub(crate) struct FanOut(Mutex<Vec<Option<Waker>>>);

impl FanOut {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Waker>>> {
        // Only a waker's clone or drop could panic under this lock, which leaves the list as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `consumer` waits.
    pub(crate) fn wait(&self, consumer: usize, waker: &Waker) {
        let mut waiting = self.lock();
        if waiting.len() <= consumer {
            waiting.resize(consumer + 1, None);
        }
        match &mut waiting[consumer] {
            Some(old) if old.will_wake(waker) => {}
            slot => *slot = Some(waker.clone()),
        }
    }

    /// `consumer` is gone.
    pub(crate) fn leave(&self, consumer: usize) {
        if let Some(slot) = self.lock().get_mut(consumer) {
            *slot = None;
        }
    }

    /// Wakes all that wait.
    pub(crate) fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.lock());
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// Wakes one, if it waits.
    pub(crate) fn wake_one(&self, consumer: usize) {
        let waker = self.lock().get_mut(consumer).and_then(Option::take);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Wake for FanOut {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}
