//! Streams into the runtime.

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use futures_core::Stream;

use super::Runtime;
use crate::{
    event::IntoDraft,
    intake::{EmitError, Refusal},
};

/// A stream of events that belongs to a runtime, whatever made it; made by [`Runtime::create_stream`]. Read it like any
/// stream, or [`emit`](Self::emit) its items.
#[must_use = "streams do nothing unless they are polled"]
pub struct EventSource<T> {
    items: Pin<Box<dyn Stream<Item = T> + Send>>,
    runtime: Runtime,
}

/// How many items of a stream were emitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardReport {
    /// Accepted.
    pub emitted: u64,
}

/// A stream's item that can never be accepted; the stream was not read further.
pub struct ForwardError<T> {
    /// Accepted before.
    pub emitted: u64,
    /// The item and why.
    pub source: EmitError<T>,
}

impl Runtime {
    /// Makes a stream of events from a generator or any other stream.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use millstream::{Draft, Runtime};
    ///
    /// let runtime = Runtime::builder().build()?;
    /// let ticks = runtime.create_stream(async_stream::stream! {
    ///     for tick in 0..3 {
    ///         yield Draft::json("tick", tick.into());
    ///     }
    /// });
    /// assert_eq!(ticks.emit().await?.emitted, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub fn create_stream<T>(&self, items: impl Stream<Item = T> + Send + 'static) -> EventSource<T> {
        EventSource { items: Box::pin(items), runtime: self.clone() }
    }

    /// Emits the items of a stream, waiting for room, until it ends: any stream's, a flow's on a stream of this runtime
    /// too. Each item is a root of its own: what goes round through streams has no depth, and loop protection does not
    /// see it. A handler that returns events keeps the cause.
    ///
    /// # Errors
    /// [`ForwardError`] with the first item that no waiting can help; the stream was not read further.
    ///
    /// # Cancel safety
    /// Dropped, an item that waited for room is lost with it; those before are emitted.
    pub async fn forward<S>(&self, stream: S) -> Result<ForwardReport, ForwardError<S::Item>>
    where
        S: Stream<Item: IntoDraft + 'static>,
    {
        let mut stream = pin!(stream);
        let mut emitted = 0;
        while let Some(item) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
            self.emit_wait(item).await.map_err(|source| ForwardError { emitted, source })?;
            emitted += 1;
        }
        Ok(ForwardReport { emitted })
    }
}

impl<T: IntoDraft + 'static> EventSource<T> {
    /// Emits its items into its runtime, waiting for room, until it ends.
    ///
    /// # Errors
    /// As [`Runtime::forward`].
    ///
    /// # Cancel safety
    /// As there.
    pub async fn emit(self) -> Result<ForwardReport, ForwardError<T>> {
        let runtime = self.runtime.clone();
        runtime.forward(self).await
    }
}

impl<T> ForwardError<T> {
    /// Why the item was refused.
    pub fn reason(&self) -> &Refusal {
        &self.source.reason
    }
}

impl<T> fmt::Debug for ForwardError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardError").field("emitted", &self.emitted).field("source", &self.source).finish()
    }
}

impl<T> fmt::Display for ForwardError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} {}", self.emitted, if self.emitted == 1 { "event" } else { "events" })
    }
}

impl<T: 'static> Error for ForwardError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl<T> Stream for EventSource<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.items.as_mut().poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl<T> fmt::Debug for EventSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSource").finish_non_exhaustive()
    }
}
