//! What lies between a subscription and the reader of its stream.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::{StreamOptions, StreamOverflow};

/// What became of a stream's items so far.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::runtime) struct Counts {
    pub(in crate::runtime) items: u64,
    pub(in crate::runtime) dropped: u64,
    pub(in crate::runtime) unreadable: u64,
}

/// A stream's name and counters, which outlive it.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(in crate::runtime) name: String,
    counts: Mutex<Counts>,
}

impl Tap {
    pub(super) fn new(name: String) -> Self {
        Self { name, counts: Mutex::default() }
    }

    pub(in crate::runtime) fn counts(&self) -> Counts {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The items that wait for the reader.
pub(super) struct Buffer<T> {
    state: Mutex<State<T>>,
    options: StreamOptions,
    pub(super) tap: Arc<Tap>,
    dropped: metrics::Counter,
}

struct State<T> {
    items: VecDeque<T>,
    reader: Option<Waker>,
    is_closed: bool,
}

impl<T> Buffer<T> {
    pub(super) fn new(name: String, options: StreamOptions) -> Self {
        let dropped = metrics::counter!("millstream_dropped_total", "stage" => name.clone(), "reason" => "overflow");
        let state = Mutex::new(State { items: VecDeque::new(), reader: None, is_closed: false });
        Self { state, options, tap: Arc::new(Tap::new(name)), dropped }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, item: T) {
        let mut state = self.lock();
        let is_full = state.items.len() >= self.options.capacity.get();
        let lost = match (is_full, self.options.overflow) {
            (false, _) => {
                state.items.push_back(item);
                None
            }
            (true, StreamOverflow::DropOldest) => {
                state.items.push_back(item);
                state.items.pop_front()
            }
            (true, StreamOverflow::DropNewest) => Some(item),
        };
        let reader = state.reader.take();
        drop(state);
        let mut counts = self.tap.lock();
        counts.items += 1;
        counts.dropped += u64::from(lost.is_some());
        drop(counts);
        if lost.is_some() {
            self.dropped.increment(1);
        }
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// An event could not be read as an item.
    pub(super) fn skip(&self) {
        self.tap.lock().unreadable += 1;
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().items.len()
    }

    pub(super) fn poll_pop(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        let mut state = self.lock();
        if let Some(item) = state.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if state.is_closed {
            return Poll::Ready(None);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("tap", &self.tap).finish_non_exhaustive()
    }
}
