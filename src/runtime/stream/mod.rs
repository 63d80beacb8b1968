//! Streams from the runtime.

use std::{
    collections::VecDeque,
    fmt,
    future::ready,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use super::{OnError, Runtime, handle::Shared};
use crate::{
    event::Tenant,
    stage::{Extract, Handler, Options},
};

/// What a stream drops when its reader is too slow. Each loss is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StreamOverflow {
    /// What has waited longest. The default: the reader sees what is new.
    #[default]
    DropOldest,
    /// What comes: the reader sees an unbroken beginning.
    DropNewest,
}

/// How a stream buffers. Default: 1,024 items, the oldest dropped.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct StreamOptions {
    capacity: NonZeroUsize,
    overflow: StreamOverflow,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { capacity: NonZeroUsize::MIN.saturating_add(1_023), overflow: StreamOverflow::default() }
    }
}

impl StreamOptions {
    /// How many items may wait for the reader.
    pub fn capacity(mut self, items: NonZeroUsize) -> Self {
        self.capacity = items;
        self
    }

    /// What goes when there are more.
    pub fn overflow(mut self, policy: StreamOverflow) -> Self {
        self.overflow = policy;
        self
    }
}

/// Events of a runtime as a `Stream`; made by [`Runtime::stream`]. It ends when the runtime is stopped; dropped, it
/// takes its subscription back.
///
/// A reader does not hold up the runtime, and the runtime does not wait for it: what a slow reader misses is dropped as
/// its [`StreamOverflow`] says, and counted in [`EventStream::dropped`] and in `millstream_dropped_total`.
#[must_use = "streams do nothing unless they are polled"]
pub struct EventStream<T> {
    buffer: Arc<Buffer<T>>,
    id: u64,
    runtime: Weak<Shared>,
}

/// What the description shows of a stream.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(super) name: String,
    counts: Mutex<(u64, u64)>,
}

impl Tap {
    /// Items buffered and dropped.
    pub(super) fn counts(&self) -> (u64, u64) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Buffer<T> {
    state: Mutex<BufferState<T>>,
    options: StreamOptions,
    tap: Arc<Tap>,
    dropped: metrics::Counter,
}

struct BufferState<T> {
    items: VecDeque<T>,
    reader: Option<Waker>,
    is_closed: bool,
}

impl<T> Buffer<T> {
    fn lock(&self) -> MutexGuard<'_, BufferState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, item: T) {
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
        let mut counts = self.tap.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.0 += 1;
        counts.1 += u64::from(lost.is_some());
        drop(counts);
        if lost.is_some() {
            self.dropped.increment(1);
        }
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The runtime's end: dropped with the subscription.
struct Inlet<T>(Arc<Buffer<T>>);

impl<T> Drop for Inlet<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Runtime {
    /// The events that a pattern selects and that are not dispatched yet, as a stream of whatever can be extracted from a
    /// delivery: a typed event, [`Json`](crate::Json), `Arc<Envelope>`. Buffers 1,024 items and drops the oldest beyond.
    ///
    /// An event that cannot be read as a `T` is a dead letter of the stream.
    ///
    /// # Errors
    /// [`OnError`] where the pattern is none or the runtime is stopped.
    pub fn stream<T: Extract + 'static>(&self, pattern: &str) -> Result<EventStream<T>, OnError> {
        self.stream_with(pattern, StreamOptions::default())
    }

    /// As [`stream`](Self::stream), with a buffer of one's own.
    ///
    /// # Errors
    /// As there.
    pub fn stream_with<T: Extract + 'static>(
        &self,
        pattern: &str,
        options: StreamOptions,
    ) -> Result<EventStream<T>, OnError> {
        self.open_stream(pattern, options, None)
    }

    pub(super) fn open_stream<T: Extract + 'static>(
        &self,
        pattern: &str,
        options: StreamOptions,
        tenant: Option<Tenant>,
    ) -> Result<EventStream<T>, OnError> {
        let name = self.free_stream_name(pattern);
        let tap = Arc::new(Tap { name: name.clone(), counts: Mutex::default() });
        let dropped = metrics::counter!("millstream_dropped_total", "stage" => name.clone(), "reason" => "overflow");
        let state = Mutex::new(BufferState { items: VecDeque::new(), reader: None, is_closed: false });
        let buffer = Arc::new(Buffer { state, options, tap: Arc::clone(&tap), dropped });
        let inlet = Inlet(Arc::clone(&buffer));
        let handler = move |item: T| {
            inlet.0.push(item);
            ready(())
        };
        let tapped = TapHandler { handler: handler.named(name) };
        let id = self.subscribe(pattern, tapped, tenant)?;
        let mut streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|tap| tap.strong_count() > 0);
        streams.push(Arc::downgrade(&tap));
        Ok(EventStream { buffer, id: id.0, runtime: Arc::downgrade(&self.shared) })
    }

    fn free_stream_name(&self, pattern: &str) -> String {
        let entries = self.shared.registry.entries();
        let is_free = |name: &String| entries.iter().all(|entry| **entry.name() != **name);
        let mut names = (1..).map(|number| format!("stream {pattern}#{number}"));
        names.find(is_free).unwrap_or_default()
    }
}

/// Marks a handler as a stream's end.
struct TapHandler<H> {
    handler: H,
}

impl<H: Handler<Args>, Args> Handler<Args> for TapHandler<H> {
    type Future = H::Future;

    fn call(&self, delivery: crate::stage::Delivery) -> Self::Future {
        self.handler.call(delivery)
    }

    fn requirements(&self) -> crate::stage::Requirements {
        self.handler.requirements()
    }

    fn most_outputs(&self) -> Option<usize> {
        Some(0)
    }

    fn options(&self) -> Options {
        Options { is_tap: true, ..self.handler.options() }
    }
}

impl<T> EventStream<T> {
    /// How many items the reader has missed.
    pub fn dropped(&self) -> u64 {
        self.buffer.tap.counts().1
    }

    /// How many items wait for the reader.
    pub fn len(&self) -> usize {
        self.buffer.lock().items.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Stream for EventStream<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.buffer.lock();
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

impl<T> Drop for EventStream<T> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.upgrade() {
            runtime.registry.remove(|entry| entry.id == self.id);
        }
    }
}

impl<T> fmt::Debug for EventStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("name", &self.buffer.tap.name).finish_non_exhaustive()
    }
}
