//! Streams from the runtime.

mod buffer;
mod inlet;

use std::{
    fmt,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, PoisonError, Weak},
    task::{Context, Poll},
};

use futures_core::Stream;
use millstream_operators::{Flow, flow};
use serde::{Deserialize, Serialize};

pub(super) use self::buffer::Counts;
pub(crate) use self::buffer::Tap;
use self::{buffer::Buffer, inlet::Inlet};
use super::{OnError, Runtime, SubscriptionId, handle::Shared};
use crate::{event::Tenant, stage::Extract};

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

/// Events of a runtime as a `Stream`: the head of the flow that [`Runtime::stream`] makes, and of every flow that goes on
/// from it until a second input joins. It ends when the runtime is stopped or its subscription is
/// [taken back](Self::id), after what waits in it; dropped, it takes its subscription back itself.
///
/// A reader does not hold up the runtime, and the runtime does not wait for it: what a slow reader misses is dropped as
/// its [`StreamOverflow`] says, and counted in [`EventStream::dropped`] and in `millstream_dropped_total`.
#[must_use = "streams do nothing unless they are polled"]
pub struct EventStream<T> {
    buffer: Arc<Buffer<T>>,
    id: u64,
    runtime: Weak<Shared>,
}

/// A stream's counters, wherever the stream itself has gone: into a chain of operators, a box, a task. Taken from
/// [`EventStream::meter`]; cheap to clone, and exact after the stream's end.
#[derive(Clone)]
pub struct StreamMeter {
    tap: Arc<Tap>,
}

impl StreamMeter {
    /// The stream's name, under which its dead letters and metrics are found.
    pub fn name(&self) -> &str {
        &self.tap.name
    }

    /// How many items it got, those that were dropped among them.
    pub fn items(&self) -> u64 {
        self.tap.counts().items
    }

    /// How many items its reader has missed.
    pub fn dropped(&self) -> u64 {
        self.tap.counts().dropped
    }

    /// How many events could not be read as an item. Each is a dead letter.
    pub fn unreadable(&self) -> u64 {
        self.tap.counts().unreadable
    }
}

impl fmt::Debug for StreamMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamMeter")
            .field("name", &self.name())
            .field("items", &self.items())
            .field("dropped", &self.dropped())
            .field("unreadable", &self.unreadable())
            .finish()
    }
}

impl Runtime {
    /// The events that a pattern selects and that are not dispatched yet, as a stream of whatever can be extracted from a
    /// delivery: a typed event, [`Json`](crate::Json), `Arc<Envelope>`. Every [operator](crate::operators) is a method
    /// of it.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use millstream::{Draft, Json, Runtime};
    ///
    /// let runtime = Runtime::builder().build()?;
    /// let limits = runtime.stream::<Json>("limit.set").filter_map(|Json(limit)| limit.as_i64());
    /// let alarms = runtime
    ///     .stream::<Json>("sensor.>")
    ///     .filter_map(|Json(celsius)| celsius.as_i64())
    ///     .debounce(Duration::from_millis(20))
    ///     .combine_latest(limits)
    ///     .filter(|(celsius, limit)| celsius > limit);
    ///
    /// for (name, value) in [("limit.set", 30), ("sensor.hall", 25), ("sensor.roof", 41)] {
    ///     runtime.emit(Draft::json(name, value.into()))?;
    /// }
    /// runtime.process().await?;
    /// runtime.shutdown(Duration::ZERO).await?;
    /// assert_eq!(alarms.collect::<Vec<_>>().await, [(41, 30)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// In a struct it is written `Flow<EventStream<Json>>`, and with operators `BoxFlow<'static, i64>` after
    /// [`boxed`](Flow::boxed). What it emits goes back into the runtime with [`forward`](Self::forward).
    ///
    /// It ends when the runtime is stopped, and at once where that was stopped before. An event that cannot be read as a
    /// `T` is a dead letter of the stream and is counted: [`StreamMeter::unreadable`].
    ///
    /// In a durable runtime it begins with what this process writes, or where the runtime is when it is made; it has no place of its
    /// own in the store, and nothing waits for it but what is being read. A quota for handlers does not hold it back.
    ///
    /// # Data loss
    /// In a durable runtime a stream misses what strict limits of the [`Retention`](crate::Retention) trim before it has read it, and
    /// what is damaged: both are counted under its name, in [`SubscriptionBook::trimmed`](crate::SubscriptionBook::trimmed).
    ///
    /// Buffers 1,024 items and drops the oldest beyond, counted; [`stream_with`](Self::stream_with) says otherwise. A
    /// flow is pulled, so its buffer empties as fast as whoever polls the last operator.
    ///
    /// # Panics
    /// Where the pattern is none, or `T` takes a [`State`](crate::State) that the runtime was not given: mistakes in the
    /// source. Patterns from outside go through [`stream_with`](Self::stream_with), which returns an error.
    #[track_caller]
    pub fn stream<T: Extract + 'static>(&self, pattern: &str) -> Flow<EventStream<T>> {
        self.stream_or_ended(pattern, None)
    }

    /// As [`stream`](Self::stream), with a buffer of one's own, and an error in place of a panic.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use millstream::{Draft, EventStream, Flow, Json, Runtime, StreamMeter, StreamOptions};
    ///
    /// struct Ticker {
    ///     ticks: Flow<EventStream<Json>>,
    ///     meter: StreamMeter,
    /// }
    ///
    /// let runtime = Runtime::builder().build()?;
    /// let newest = StreamOptions::default().capacity(1.try_into()?);
    /// let ticks = runtime.stream_with("tick", newest)?;
    /// let mut ticker = Ticker { meter: ticks.head().meter(), ticks };
    /// runtime.emit_all((1..=3).map(|tick| Draft::json("tick", tick.into())))?;
    /// runtime.process().await?;
    /// assert_eq!(ticker.ticks.next().await, Some(Json(3.into())));
    /// assert_eq!((ticker.meter.items(), ticker.meter.dropped()), (3, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`OnError`] where the pattern is none, a state is missing or the runtime is stopped.
    pub fn stream_with<T: Extract + 'static>(
        &self,
        pattern: &str,
        options: StreamOptions,
    ) -> Result<Flow<EventStream<T>>, OnError> {
        self.open_stream(pattern, options, None)
    }

    #[track_caller]
    pub(super) fn stream_or_ended<T: Extract + 'static>(
        &self,
        pattern: &str,
        tenant: Option<&Tenant>,
    ) -> Flow<EventStream<T>> {
        let options = StreamOptions::default();
        match self.open_stream(pattern, options, tenant) {
            Ok(stream) => stream,
            Err(OnError::Stopped) => {
                let buffer = Buffer::new(stem(pattern), options);
                buffer.close();
                flow(EventStream { buffer: Arc::new(buffer), id: 0, runtime: Weak::new() })
            }
            #[expect(clippy::panic, reason = "a mistake in the source, which the public methods document")]
            Err(error) => panic!("stream `{pattern}`: {error}"),
        }
    }

    pub(super) fn open_stream<T: Extract + 'static>(
        &self,
        pattern: &str,
        options: StreamOptions,
        tenant: Option<&Tenant>,
    ) -> Result<Flow<EventStream<T>>, OnError> {
        loop {
            let name = self.shared.registry.free_name(&stem(pattern));
            match self.open_stream_named(name, pattern, options, tenant) {
                // Another took the name in between.
                Err(OnError::DuplicateName { .. } | OnError::NameOfStage { .. }) => {}
                opened => return opened.map(flow),
            }
        }
    }

    fn open_stream_named<T: Extract + 'static>(
        &self,
        name: String,
        pattern: &str,
        options: StreamOptions,
        tenant: Option<&Tenant>,
    ) -> Result<EventStream<T>, OnError> {
        let buffer = Arc::new(Buffer::new(name, options));
        let id = self.subscribe(pattern, Inlet { buffer: Arc::clone(&buffer) }, tenant.cloned())?.0;
        let mut streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.insert(id, Arc::clone(&buffer.tap));
        Ok(EventStream { buffer, id, runtime: Arc::downgrade(&self.shared) })
    }
}

/// What the names of a pattern's streams begin with.
fn stem(pattern: &str) -> String {
    format!("stream {pattern}")
}

impl<T> EventStream<T> {
    /// Its counters, to be kept where the stream itself goes elsewhere.
    pub fn meter(&self) -> StreamMeter {
        StreamMeter { tap: Arc::clone(&self.buffer.tap) }
    }

    /// Its subscription. Given to [`Runtime::off`], the stream takes no more events, gives what waits in it, and ends, and
    /// with it the chain that goes on from it: what that holds back comes out. Dropping it loses both.
    pub fn id(&self) -> SubscriptionId {
        SubscriptionId(self.id)
    }

    /// How many items the reader has missed.
    pub fn dropped(&self) -> u64 {
        self.buffer.tap.counts().dropped
    }

    /// How many items wait for the reader.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Stream for EventStream<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.buffer.poll_pop(cx)
    }
}

impl<T> Drop for EventStream<T> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.upgrade() {
            runtime.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
            runtime.registry.remove_one(self.id);
        }
    }
}

impl<T> fmt::Debug for EventStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("name", &self.buffer.tap.name).finish_non_exhaustive()
    }
}
