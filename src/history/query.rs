//! Which events of the log somebody wants to read.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::stream;
use millstream_operators::Timestamp;

use super::{
    HistoryError, Library, Projection,
    walk::{Filter, Walk},
};
use crate::{
    event::{Envelope, Key, Pattern, Tenant},
    store::Seq,
};

/// Events of the log: all that a pattern selects, unless more is said. What was trimmed is not there any more, see
/// [`Retention`](crate::Retention); what is delayed is not there yet.
///
/// # Ordering
/// The order of the log: that in which events were written, over all classes of urgency.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use futures::TryStreamExt; // of the `futures` crate
/// use millstream::{Draft, Runtime, store::Memory};
///
/// let runtime = Runtime::builder().store(Memory::new()).build()?;
/// for (name, key) in [("order.placed", "7"), ("order.paid", "7"), ("order.placed", "8")] {
///     runtime.emit(Draft::json(name, ().into()).key(key))?.await?;
/// }
/// let of_7: Vec<_> = runtime.history("order.*")?.key("7").events().try_collect().await?;
/// let names: Vec<_> = of_7.iter().map(|event| event.name().as_str()).collect();
/// assert_eq!(names, ["order.placed", "order.paid"]);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a history reads nothing until it is asked for events"]
pub struct History {
    library: Result<Library, HistoryError>,
    filter: Filter,
    from: Option<Seq>,
}

/// Events of the past, in their order; and where they are followed, those that come.
///
/// After an error it goes on: behind what was [trimmed](HistoryError::Trimmed), or with what could not be read.
pub struct Events {
    inner: Pin<Box<dyn Stream<Item = Result<Arc<Envelope>, HistoryError>> + Send>>,
    place: Arc<AtomicU64>,
}

impl History {
    pub(crate) fn new(library: Result<Library, HistoryError>, pattern: Pattern, tenant: Option<Tenant>) -> Self {
        let filter = Filter { pattern, since: None, until: None, tenant, key: None, kind: None, id: None };
        Self { library, filter, from: None }
    }

    /// Those whose own time is not before this.
    pub fn since(mut self, time: Timestamp) -> Self {
        self.filter.since = Some(time);
        self
    }

    /// Those whose own time is before this.
    pub fn until(mut self, time: Timestamp) -> Self {
        self.filter.until = Some(time);
        self
    }

    /// Those of a tenant. Default: all, or those of the tenant whose handle was asked.
    pub fn tenant(mut self, tenant: impl Into<Tenant>) -> Self {
        self.filter.tenant = Some(tenant.into());
        self
    }

    /// Those about a key.
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.filter.key = Some(key.into());
        self
    }

    /// Those of aggregates of a kind.
    pub fn aggregate_kind(mut self, kind: impl Into<String>) -> Self {
        self.filter.kind = Some(kind.into());
        self
    }

    /// Those of one aggregate that are in the log. [`Runtime::aggregate`](crate::Runtime::aggregate) reads all that ever were,
    /// and faster.
    pub fn aggregate(mut self, kind: impl Into<String>, id: impl Into<String>) -> Self {
        (self.filter.kind, self.filter.id) = (Some(kind.into()), Some(id.into()));
        self
    }

    /// Those from a place on, such as [`Events::place`] or [`Projection::place`] said. Default: from the first that is kept.
    pub fn from(mut self, place: Seq) -> Self {
        self.from = Some(place);
        self
    }

    fn walk(self) -> Result<Walk, HistoryError> {
        Ok(Walk::new(self.library?, self.filter, self.from))
    }

    /// All that are in the log when the first one is asked for.
    pub fn events(self) -> Events {
        self.stream(false)
    }

    /// All that are in the log, and then those that come, as they are committed, until the runtime is shut down: without a gap
    /// and without one twice, for both are read from the log.
    pub fn follow(self) -> Events {
        self.stream(true)
    }

    /// A state that is made of all that are in the log, and goes on with those that come. See [`Projection`].
    pub fn project<S, F>(self, state: S, fold: F) -> Projection<S, F>
    where
        F: FnMut(&mut S, &Envelope),
    {
        Projection::new(self.walk(), state, fold)
    }

    fn stream(self, follows: bool) -> Events {
        let from = self.from.unwrap_or_default().0;
        let place = Arc::new(AtomicU64::new(from));
        let told = Arc::clone(&place);
        let reading = Reading { walk: self.walk(), follows, is_begun: false, is_over: false };
        let events = stream::unfold(reading, move |mut reading| {
            let told = Arc::clone(&told);
            async move {
                let next = reading.next().await.transpose()?;
                if let Ok(walk) = &reading.walk {
                    told.store(walk.place().0, Ordering::Relaxed);
                }
                Some((next, reading))
            }
        });
        Events { inner: Box::pin(events), place }
    }
}

/// A stream's way through the log.
struct Reading {
    walk: Result<Walk, HistoryError>,
    follows: bool,
    is_begun: bool,
    is_over: bool,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Arc<Envelope>>, HistoryError> {
        if self.is_over {
            return Ok(None);
        }
        let walk = match &mut self.walk {
            Ok(walk) => walk,
            Err(error) => {
                self.is_over = true;
                return Err(error.clone());
            }
        };
        if !self.is_begun {
            walk.extend().await?;
            self.is_begun = true;
        }
        loop {
            if let Some(event) = walk.next().await? {
                return Ok(Some(event));
            }
            if !self.follows || !walk.wait().await? {
                self.is_over = true;
                return Ok(None);
            }
            walk.extend().await?;
        }
    }
}

impl Events {
    /// Behind the last event that was given out: whoever reads [from](History::from) here on gets none twice and misses none.
    pub fn place(&self) -> Seq {
        Seq(self.place.load(Ordering::Relaxed))
    }
}

impl Stream for Events {
    type Item = Result<Arc<Envelope>, HistoryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("place", &self.place()).finish_non_exhaustive()
    }
}
