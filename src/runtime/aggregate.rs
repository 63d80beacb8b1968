//! Aggregates: events that are appended to one thing, each of which makes its next version.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
};

use futures_util::TryStreamExt as _;

use super::{Runtime, TenantHandle};
use crate::{
    event::{Aggregate, Draft, EventId, EventName, IntoDraft, Tenant},
    history::{AggregateEvents, AggregateRows, HistoryError, Library, OnceRow, once_row},
    intake::{Once, Refusal, chain},
    store::{CommitError, StoreError, Table, tables},
};

/// One thing that events change, such as an order, with a version that each of its events raises by one, from 1 on.
///
/// Its events are in the log like all others and reach subscriptions; and they have rows of their own, so all of them can be
/// read in their order for good, whatever was trimmed from the log.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use futures::TryStreamExt; // of the `futures` crate
/// use millstream::{AppendError, Draft, ExpectedVersion, Runtime, store::Memory};
///
/// let runtime = Runtime::builder().store(Memory::new()).build()?;
/// let order = runtime.aggregate("order", "7");
/// let event = |name| Draft::json(name, ().into());
/// let placed = order.append(ExpectedVersion::New, [event("order.placed"), event("order.paid")]).await?;
/// assert_eq!((placed.version, placed.ids.len()), (2, 2));
///
/// // Whoever has not seen the payment does not get his way.
/// let cancelled = order.append(ExpectedVersion::At(1), [event("order.cancelled")]).await;
/// assert!(matches!(cancelled, Err(AppendError::Conflict { actual: Some(2), .. })));
///
/// let events: Vec<_> = order.read(1).try_collect().await?;
/// let versions: Vec<_> = events.iter().filter_map(|event| Some(event.aggregate()?.version)).collect();
/// assert_eq!(versions, [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct AggregateHandle {
    runtime: Runtime,
    tenant: Option<Tenant>,
    kind: String,
    id: String,
}

/// Which version an aggregate must have for events to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpectedVersion {
    /// Whichever it is.
    Any,
    /// None: it has no event yet.
    New,
    /// This one.
    At(u64),
}

/// What an append has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The aggregate's version after the last of the events; 0 where there is none.
    pub version: u64,
    /// The ids of the events.
    pub ids: Vec<EventId>,
    /// Whether the events were appended before, under the same idempotency key: then nothing was written now, and these are the
    /// version and the ids of then.
    pub is_duplicate: bool,
}

/// Why events are not known to be appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The aggregate has another version. Nothing is written.
    #[error("{kind} `{id}` has version {}, expected was {expected}", actual.unwrap_or(0))]
    Conflict {
        /// The aggregate's kind.
        kind: String,
        /// Which one.
        id: String,
        /// What was expected.
        expected: ExpectedVersion,
        /// Its version; none where it has no event.
        actual: Option<u64>,
    },
    /// The events are not accepted, as in [`Runtime::emit`]. Nothing is written.
    #[error("the events are refused: {reason}")]
    Refused {
        /// The events, as they were given.
        events: Vec<Draft>,
        /// Why: [`Refusal::advice`] says whether trying again can help.
        reason: Refusal,
    },
    /// An event says something that cannot be of one that is appended. Nothing is written.
    #[error("event `{name}` cannot be appended: {reason}")]
    NotAppendable {
        /// The events, as they were given.
        events: Vec<Draft>,
        /// The event's name.
        name: EventName,
        /// What it says.
        reason: &'static str,
    },
    /// The store refused them. Nothing is written.
    #[error("the store has refused the events: {reason}")]
    Unsaved {
        /// What it says.
        reason: String,
    },
    /// The write failed on its way: the events may be in the store or not. Appending them again is safe with the same
    /// [idempotency key](Append::idempotency_key); without one, the aggregate's version says whether they are there.
    #[error("the events may be in the store or not: {reason}")]
    Unknown {
        /// What the store says.
        reason: String,
    },
    /// The aggregate cannot be read. Nothing is written.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// Events that are appended once this is awaited.
///
/// # Cancel safety
/// Dropped while it is awaited, the events may be appended or not.
#[must_use = "nothing is appended before it is awaited"]
pub struct Append {
    aggregate: AggregateHandle,
    expected: ExpectedVersion,
    drafts: Vec<Draft>,
    key: Option<String>,
}

impl Runtime {
    /// One aggregate by its kind and id. Of no tenant; asked for inside a handler, of the tenant of its event, as what is emitted
    /// there. Needs a store.
    pub fn aggregate(&self, kind: impl Into<String>, id: impl Into<String>) -> AggregateHandle {
        let tenant = self.shared.intake.cause_here().and_then(|cause| cause.event.tenant.clone());
        AggregateHandle { runtime: self.clone(), tenant, kind: kind.into(), id: id.into() }
    }
}

impl TenantHandle {
    /// One aggregate of this tenant; see [`Runtime::aggregate`].
    pub fn aggregate(&self, kind: impl Into<String>, id: impl Into<String>) -> AggregateHandle {
        let aggregate = self.runtime.aggregate(kind, id);
        AggregateHandle { tenant: Some(self.tenant.clone()), ..aggregate }
    }
}

impl AggregateHandle {
    /// Its kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Which one it is.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn rows(&self) -> AggregateRows {
        AggregateRows::of(self.tenant.as_ref(), &self.kind, &self.id)
    }

    /// Its version; none where it has no event.
    ///
    /// # Errors
    /// [`HistoryError`]: there is no store, or it cannot be read.
    pub async fn version(&self) -> Result<Option<u64>, HistoryError> {
        self.rows().version(&self.runtime.library()?).await
    }

    /// Its events from a version on, in their order. All of them are there, whatever was trimmed from the log.
    pub fn read(&self, from: u64) -> AggregateEvents {
        self.rows().read(self.runtime.library(), from)
    }

    /// Appends events, in one commit: each makes the next version. Once it is done they are in the store, and on their way to
    /// subscriptions like any that was emitted. Nobody has to drive the runtime for that. On their way they hold room in the
    /// queue and count against the tenant's quotas; it does not wait for room.
    ///
    /// Inside a handler they are caused by its event, but not a part of its outcome. What is to be one commit with the
    /// outcome is returned, with [`Draft::aggregate`].
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append<E: IntoDraft>(&self, expected: ExpectedVersion, events: impl IntoIterator<Item = E>) -> Append {
        let drafts = events.into_iter().map(IntoDraft::into_draft).collect();
        Append { aggregate: self.clone(), expected, drafts, key: None }
    }

    fn conflict(&self, expected: ExpectedVersion, actual: Option<u64>) -> AppendError {
        AppendError::Conflict { kind: self.kind.clone(), id: self.id.clone(), expected, actual }
    }

    /// What is wrong with an event that is to be appended.
    fn refuses(&self, draft: &Draft) -> Option<&'static str> {
        let more = draft.more.as_ref();
        let aggregate = more.and_then(|more| more.aggregate.as_ref());
        if aggregate.is_some_and(|own| own.kind != self.kind || own.id != self.id) {
            return Some("it is of another aggregate");
        }
        if draft.tenant.is_some() && draft.tenant != self.tenant {
            return Some("it is of another tenant than the aggregate");
        }
        let inherits = || self.runtime.shared.intake.cause_here().is_some_and(|cause| cause.event.tenant.is_some());
        if self.tenant.is_none() && inherits() {
            return Some("it would be of the tenant of the handler's event, and the aggregate is of none");
        }
        if more.is_some_and(|more| more.due.is_some()) {
            return Some("it is delayed");
        }
        more.is_some_and(|more| more.once.is_some())
            .then_some("it has an idempotency key of its own: give the append one")
    }

    /// The events as they follow a version.
    fn stamp(&self, drafts: &[Draft], after: u64) -> Vec<Draft> {
        let stamped = drafts.iter().zip(after + 1..=u64::MAX).map(|(draft, version)| {
            let mut draft = draft.clone();
            draft.tenant.clone_from(&self.tenant);
            draft.more().aggregate = Some(Aggregate { kind: self.kind.clone(), id: self.id.clone(), version });
            draft
        });
        stamped.collect()
    }
}

impl ExpectedVersion {
    fn is_met(self, actual: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::New => actual.is_none(),
            Self::At(version) => actual.unwrap_or(0) == version,
        }
    }
}

impl fmt::Display for ExpectedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::New => f.write_str("none"),
            Self::At(version) => write!(f, "{version}"),
        }
    }
}

impl Append {
    /// Appends only once: while the runtime remembers the key (see
    /// [`idempotency_window`](crate::Builder::idempotency_window)), another append to this aggregate with the same key writes
    /// nothing, whatever version it expects, and gets what the first one got.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    async fn run(self) -> Result<Appended, AppendError> {
        let Self { aggregate, expected, drafts, key } = &self;
        let library = aggregate.runtime.library()?;
        let wrong = drafts.iter().find_map(|draft| Some((draft.name.clone(), aggregate.refuses(draft)?)));
        if let Some((name, reason)) = wrong {
            return Err(AppendError::NotAppendable { events: self.drafts, name, reason });
        }
        let once = key.as_ref().map(|key| aggregate.rows().once_key(key));
        let intake = &aggregate.runtime.shared.intake;
        let mut tries = Tries::default();
        loop {
            if let Some(key) = &once
                && let Some(row) = once_row(&library, key).await?
                && row.until > intake.clock.now()
            {
                return self.duplicate(&library, row).await;
            }
            let actual = aggregate.rows().version(&library).await?;
            if !expected.is_met(actual) {
                return Err(aggregate.conflict(*expected, actual));
            }
            let after = actual.unwrap_or(0);
            tries.look(after)?;
            if drafts.is_empty() {
                return Ok(Appended { version: after, ids: Vec::new(), is_duplicate: false });
            }
            if after.checked_add(drafts.len() as u64).is_none() {
                let reason = format!("there is no version after {}", u64::MAX);
                return Err(AppendError::Unsaved { reason });
            }
            // Beaten, somebody else has got on: what he has made of it is looked at anew.
            match self.try_after(after, once.clone()).await? {
                Ok(appended) => return Ok(appended),
                Err(Beaten(table)) => tries.beaten(table, after),
            }
        }
    }

    /// Appends behind a version, unless another was there first.
    async fn try_after(&self, after: u64, once: Option<bytes::Bytes>) -> Result<Result<Appended, Beaten>, AppendError> {
        let intake = &self.aggregate.runtime.shared.intake;
        let version = after + self.drafts.len() as u64;
        let window = intake.limits.once;
        let once = |id, now| {
            once.map(|key| {
                let until = now + window;
                Once { key, value: OnceRow { id, versions: (after + 1, version), until }.to_bytes(), until }
            })
        };
        let appending = intake.append(self.aggregate.stamp(&self.drafts, after), once);
        let appending =
            appending.map_err(|(_, reason)| AppendError::Refused { events: self.drafts.clone(), reason })?;
        match appending.landing.await {
            Ok(Ok(_)) => Ok(Ok(Appended { version, ids: appending.ids, is_duplicate: false })),
            Ok(Err(CommitError::Conflict { table, .. })) if table == tables::AGGREGATE || table == tables::ONCE => {
                Ok(Err(Beaten(table)))
            }
            Ok(Err(error @ (CommitError::Unknown { .. } | CommitError::Fenced))) => {
                Err(AppendError::Unknown { reason: chain(&error) })
            }
            Ok(Err(error)) => Err(AppendError::Unsaved { reason: chain(&error) }),
            Err(_) => Err(HistoryError::Closed.into()),
        }
    }

    /// What the first append of the key has come to.
    async fn duplicate(&self, library: &Library, row: OnceRow) -> Result<Appended, AppendError> {
        let (first, version) = row.versions;
        let count = usize::try_from(version.saturating_sub(first) + 1).unwrap_or(usize::MAX);
        let events = self.aggregate.rows().read(Ok(library.clone()), first);
        let events = futures_util::StreamExt::take(events, count);
        let ids = events.map_ok(|event| event.id()).try_collect().await?;
        Ok(Appended { version, ids, is_duplicate: true })
    }
}

/// Another has appended first, and has this table's row.
struct Beaten(Table);

/// What came of the tries so far.
#[derive(Default)]
struct Tries {
    /// Behind which version another was first.
    behind: Option<u64>,
    /// How often an idempotency key kept the append out that a look did not find.
    unseen: u32,
}

/// More than a key can end between two looks.
const MOST_UNSEEN: u32 = 3;

impl Tries {
    fn beaten(&mut self, table: Table, after: u64) {
        match table {
            tables::AGGREGATE => self.behind = Some(after),
            _ => self.unseen += 1,
        }
    }

    /// Whoever was first is seen now, or the rows contradict each other and no try ends that.
    fn look(&self, after: u64) -> Result<(), HistoryError> {
        let what = if self.behind.is_some_and(|behind| after <= behind) {
            "the last version of an aggregate is not where its rows end"
        } else if self.unseen > MOST_UNSEEN {
            "an append's idempotency key is taken and has ended"
        } else {
            return Ok(());
        };
        Err(StoreError::Corrupt { what: what.to_owned() }.into())
    }
}

impl IntoFuture for Append {
    type Output = Result<Appended, AppendError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Append")
            .field("aggregate", &self.aggregate)
            .field("expected", &self.expected)
            .field("events", &self.drafts.len())
            .finish_non_exhaustive()
    }
}
