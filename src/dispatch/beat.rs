//! The watchdog: names a handler whose poll holds up the thread.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::registry::Registry;

/// The dispatcher's pulse: which subscription is being polled, if any. One writer.
#[derive(Debug, Default)]
pub(super) struct Beat {
    /// Rises with every poll; odd while a handler is polled.
    count: AtomicU64,
    subscription: AtomicU64,
}

impl Beat {
    pub(super) fn begin(&self, subscription: u64) {
        self.subscription.store(subscription, Ordering::Relaxed);
        self.tick();
    }

    pub(super) fn end(&self) {
        self.tick();
    }

    /// One writer, so a load and a store are enough. Release: whoever sees the count sees the subscription.
    fn tick(&self) {
        self.count.store(self.count.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

/// A poll that takes longer is named.
const LIMIT: Duration = Duration::from_millis(100);
/// How often it is looked, in one limit.
const LOOKS: u32 = 4;

/// A thread that looks at the pulse: a handler that blocks its thread cannot be told from inside. It costs the
/// dispatcher two stores a poll, and can name a poll that never ends. It reads the real time, whatever tokio's clock does.
#[derive(Debug)]
pub(crate) struct Watchdog {
    thread: Option<JoinHandle<()>>,
    /// Dropped first: the thread goes when it is gone.
    alive: Option<Arc<()>>,
}

/// What the watchdog has found.
#[derive(Debug, Default)]
pub(crate) struct SlowPolls(Mutex<(u64, Arc<str>)>);

impl SlowPolls {
    /// How many polls took too long, and the subscription of the last one.
    pub(crate) fn found(&self) -> (u64, Arc<str>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, subscription: &Arc<str>) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *found = (found.0 + 1, Arc::clone(subscription));
    }
}

impl Watchdog {
    pub(super) fn watch(beat: Arc<Beat>, found: Arc<SlowPolls>, registry: Weak<Registry>) -> Self {
        let alive = Arc::new(());
        let watched = Arc::downgrade(&alive);
        let thread = thread::Builder::new().name("millstream-watchdog".into());
        // Without a thread to spare there is no watchdog; nothing else depends on it.
        Self { thread: thread.spawn(move || look(&watched, &beat, &found, &registry)).ok(), alive: Some(alive) }
    }
}

fn look(alive: &Weak<()>, beat: &Beat, found: &SlowPolls, registry: &Weak<Registry>) {
    let (mut seen, mut times) = (0, 0);
    while alive.strong_count() > 0 {
        thread::park_timeout(LIMIT / LOOKS);
        let count = beat.count.load(Ordering::Acquire);
        times = if count == seen { times + 1 } else { 0 };
        seen = count;
        // It is named once.
        if count % 2 == 1 && times == LOOKS {
            let id = beat.subscription.load(Ordering::Relaxed);
            let name = registry.upgrade().and_then(|registry| registry.name_of(id));
            let name = name.unwrap_or_else(|| "(gone)".into());
            found.add(&name);
            tracing::warn!(
                subscription = &*name,
                "a handler holds up its thread for over {LIMIT:?}: it must await, or be wrapped in `blocking`"
            );
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A runtime dropped on the watchdog's own thread cannot happen: the thread holds no runtime.
            drop(thread.join());
        }
    }
}
