//! Waits for futures of a store without a runtime, and notes when each was told: how far the disk had come when its
//! answer was there, not when somebody looked.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use millstream::store::StoreFuture;

use crate::disk::SimDisk;

/// How long an answer may take. On a disk in memory each takes microseconds.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Nobody was woken yet.
const NOT_YET: usize = usize::MAX;

/// No answer came.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no answer within {PATIENCE:?}")]
pub struct Hang;

/// The real time, of which nothing here depends but patience and figures.
#[expect(
    clippy::disallowed_methods,
    reason = "patience with a store that hangs, and the figures of a report, are of real time"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Wakes the thread that waits and notes how far the disk had come.
struct Told {
    disk: SimDisk,
    thread: Thread,
    is_woken: AtomicBool,
    at: AtomicUsize,
}

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.at.store(self.disk.position(), Ordering::Relaxed);
        // Release: whoever sees it woken sees where.
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// A future that somebody waits for.
pub struct Waiting<T> {
    future: StoreFuture<'static, T>,
    told: Arc<Told>,
    answer: Option<(T, usize)>,
}

impl<T> fmt::Debug for Waiting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("is_told", &self.answer.is_some()).finish_non_exhaustive()
    }
}

impl<T> Waiting<T> {
    /// Looks for the answer once, so that the moment of it will be known.
    pub fn new(future: StoreFuture<'static, T>, disk: &SimDisk) -> Self {
        let (is_woken, at) = (AtomicBool::new(true), AtomicUsize::new(NOT_YET));
        let told = Told { disk: disk.clone(), thread: thread::current(), is_woken, at };
        let mut waiting = Self { future, told: Arc::new(told), answer: None };
        waiting.look();
        waiting
    }

    fn look(&mut self) {
        // Acquire: see `wake`.
        if self.answer.is_some() || !self.told.is_woken.swap(false, Ordering::Acquire) {
            return;
        }
        let waker = Waker::from(Arc::clone(&self.told));
        let at = self.told.at.load(Ordering::Relaxed);
        if let Poll::Ready(answer) = self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            // An answer that was there before anybody looked came at some moment up to now.
            let at = if at == NOT_YET { self.told.disk.position() } else { at };
            self.answer = Some((answer, at));
        }
    }

    /// Whether the answer is there.
    pub fn is_told(&mut self) -> bool {
        self.look();
        self.answer.is_some()
    }

    /// Waits for the answer, and how many steps the disk had recorded when it came.
    ///
    /// # Errors
    /// [`Hang`] if none comes.
    pub fn wait(mut self) -> Result<(T, usize), Hang> {
        let end = now() + PATIENCE;
        loop {
            self.look();
            if let Some(answer) = self.answer {
                return Ok(answer);
            }
            let left = end.saturating_duration_since(now());
            if left.is_zero() {
                return Err(Hang);
            }
            thread::park_timeout(left);
        }
    }
}

/// Waits for an answer.
///
/// # Errors
/// [`Hang`] if none comes.
pub fn wait<T>(future: StoreFuture<'_, T>) -> Result<T, Hang> {
    let end = now() + PATIENCE;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = future;
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(answer);
        }
        let left = end.saturating_duration_since(now());
        if left.is_zero() {
            return Err(Hang);
        }
        thread::park_timeout(left);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
