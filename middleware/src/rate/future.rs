use std::fmt;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::error::Limited;
use super::limiter::Limiter;
use crate::concurrency::{Asked, Held, Queued};
use crate::future::Gated;

/// The future of [`RateLimited`](super::RateLimited): the allowance, then readiness, then the call.
pub type RateFuture<K, S, R> = Gated<Slot<K>, S, R>;

/// Waits for the allowance of a key. Its place in line is that of the `call`, and is left when it is dropped.
#[must_use = "futures do nothing unless polled"]
pub struct Slot<K: Hash + Eq + Clone> {
    phase: Phase<K>,
}

enum Phase<K: Hash + Eq + Clone> {
    Refused(Option<Limited>),
    Waiting(Box<Wait<K>>),
}

/// A wait. The line is left before it stops being counted.
struct Wait<K: Hash + Eq + Clone> {
    place: Place<K>,
    key: K,
    patience: Option<Pin<Box<Sleep>>>,
    counted: Counted<K>,
}

enum Place<K: Hash + Eq + Clone> {
    Behind(Queued<K>),
    /// With a timer while the allowance is used up. Without one it is asked at once: a timer of zero would wait for the
    /// next millisecond.
    First {
        _held: Held<K>,
        sleep: Option<Pin<Box<Sleep>>>,
    },
}

/// One who waits.
struct Counted<K: Hash + Eq + Clone>(Arc<Limiter<K>>);

impl<K: Hash + Eq + Clone> Drop for Counted<K> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<K: Hash + Eq + Clone> Slot<K> {
    /// Nothing where the call may pass at once.
    pub(super) fn ask(limiter: &Arc<Limiter<K>>, key: K) -> Option<Self> {
        let nobody_waits = limiter.waiting.load(Ordering::Relaxed) == 0;
        let now = if limiter.rate.refuse || nobody_waits { limiter.check(&key) } else { Err(Duration::ZERO) };
        let wait = now.err()?;
        let refused = || Phase::Refused(Some(Limited::new(wait)));
        Some(Self { phase: if limiter.rate.refuse { refused() } else { Self::stand_in_line(limiter, key, wait) } })
    }

    #[cold]
    fn stand_in_line(limiter: &Arc<Limiter<K>>, key: K, wait: Duration) -> Phase<K> {
        let room = limiter.rate.queue.unwrap_or(usize::MAX);
        let place = match limiter.line.ask(key.clone(), room) {
            Asked::Granted(held) => Place::First { _held: held, sleep: Some(Box::pin(sleep(wait))) },
            Asked::Queued(queued) => Place::Behind(queued),
            Asked::Full => {
                let ahead = u32::try_from(room).unwrap_or(u32::MAX).saturating_add(1);
                let wait = wait.max(limiter.rate.spacing().saturating_mul(ahead));
                return Phase::Refused(Some(Limited::new(wait)));
            }
        };
        limiter.waiting.fetch_add(1, Ordering::Relaxed);
        let patience = limiter.rate.patience.map(|patience| Box::pin(sleep(patience)));
        Phase::Waiting(Box::new(Wait { place, key, patience, counted: Counted(Arc::clone(limiter)) }))
    }
}

impl<K: Hash + Eq + Clone> Wait<K> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Limited>> {
        if let Poll::Ready(()) = self.poll_turn(cx) {
            return Poll::Ready(Ok(()));
        }
        let Some(alarm) = &mut self.patience else { return Poll::Pending };
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(Err(Limited::new(self.counted.0.rate.spacing())))
    }

    /// First in line, then out of the allowance.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limiter = &self.counted.0;
        if let Place::Behind(queued) = &mut self.place {
            let held = ready!(queued.poll_turn(cx));
            self.place = Place::First { _held: held, sleep: None };
        }
        let Place::First { sleep: alarm, .. } = &mut self.place else { return Poll::Pending };
        loop {
            if let Some(alarm) = alarm {
                ready!(alarm.as_mut().poll(cx));
            }
            match limiter.check(&self.key) {
                Ok(()) => return Poll::Ready(()),
                Err(wait) => *alarm = Some(Box::pin(sleep(wait))),
            }
        }
    }
}

impl<K: Hash + Eq + Clone + Unpin> Future for Slot<K> {
    type Output = Result<(), Limited>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let decided = match &mut self.phase {
            Phase::Refused(refused) => refused.take().map(Err),
            Phase::Waiting(wait) => Some(ready!(wait.poll(cx))),
        };
        // What was waited with goes now, so that the next in line may come.
        self.phase = Phase::Refused(None);
        decided.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<K: Hash + Eq + Clone> fmt::Debug for Slot<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("waits", &matches!(self.phase, Phase::Waiting(_))).finish()
    }
}
