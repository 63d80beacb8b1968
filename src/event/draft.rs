//! An event that is not emitted yet: its data and all that an emitter may say about it.

use std::time::Duration;

use millstream_operators::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Aggregate, Data, Event, EventId, EventName, Headers, Key, Priority, Tenant};

/// An event before it is emitted: data, and what the emitter wants to say about it. A refused draft comes back whole.
///
/// ```
/// use std::time::Duration;
/// use millstream::{Draft, Priority};
///
/// let draft = Draft::json("order.placed", serde_json::json!({ "id": 7 }))
///     .key("7")
///     .priority(Priority::High)
///     .delay(Duration::from_secs(5))
///     .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// assert_eq!(draft.name().as_str(), "order.placed");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a draft does nothing until it is emitted"]
pub struct Draft {
    pub(crate) name: EventName,
    pub(crate) version: Option<u32>,
    pub(crate) priority: Option<Priority>,
    pub(crate) key: Option<Key>,
    pub(crate) tenant: Option<Tenant>,
    pub(crate) data: Data,
    pub(crate) more: Option<Box<More>>,
    /// Names that are known when the program is built are checked there.
    pub(crate) name_is_checked: bool,
}

/// What few events carry: kept apart, so that the others stay small.
#[derive(Clone, Debug, Default)]
pub(crate) struct More {
    pub(crate) id: Option<EventId>,
    pub(crate) time: Option<Timestamp>,
    pub(crate) due: Option<Due>,
    pub(crate) correlation: Option<EventId>,
    pub(crate) actor: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) aggregate: Option<Aggregate>,
    pub(crate) headers: Headers,
    pub(crate) cancellation: Option<CancellationToken>,
    /// Only one event of this key is taken, for a while.
    pub(crate) once: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    After(Duration),
    At(Timestamp),
}

/// Text that is no JSON.
#[derive(Debug, thiserror::Error)]
#[error("event `{name}` at line {}, column {}: the text is not valid JSON", source.line(), source.column())]
pub struct ParseError {
    /// The name under which it was to be emitted.
    pub name: String,
    /// What is wrong there.
    pub source: serde_json::Error,
}

impl Draft {
    /// A typed event with its type's name, version, priority and key.
    pub fn new<T: Event>(event: T) -> Self {
        const { assert!(EventName::is_valid(T::NAME), "`Event::NAME` must be tokens joined by single dots") };
        Self {
            name: EventName::unchecked_static(T::NAME),
            version: Some(T::VERSION),
            priority: Some(T::PRIORITY),
            key: event.key(),
            tenant: None,
            data: Data::typed(event),
            more: None,
            name_is_checked: true,
        }
    }

    /// An event by name with JSON data. A bad name is refused when the draft is emitted.
    ///
    /// Where the runtime knows a Rust type of that name, its priority and key are used unless they are set here.
    pub fn json(name: &str, data: Value) -> Self {
        Self {
            name: EventName::unchecked(name),
            version: None,
            priority: None,
            key: None,
            tenant: None,
            data: Data::json(data),
            more: None,
            name_is_checked: false,
        }
    }

    /// An event by name with JSON text.
    ///
    /// # Errors
    /// [`ParseError`] with line and column where the text is not JSON.
    pub fn parse(name: &str, text: impl AsRef<[u8]>) -> Result<Self, ParseError> {
        match serde_json::from_slice(text.as_ref()) {
            Ok(value) => Ok(Self::json(name, value)),
            Err(source) => Err(ParseError { name: name.to_owned(), source }),
        }
    }

    /// Emits it under another name than its type's; checked when it is emitted.
    pub fn named(mut self, name: &str) -> Self {
        self.name = EventName::unchecked(name);
        self.name_is_checked = false;
        self
    }

    /// The version of the data's schema. Default: the type's, and for JSON that of whoever reads it.
    pub fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// The class to wait in. Default: the type's, else normal.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// What the event is about. Default: what the type says.
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Whose event it is. Default: nobody's, or the tenant of the event that caused it.
    pub fn tenant(mut self, tenant: impl Into<Tenant>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Queued only after so long. A delay of a second or more begins a new root for loop protection.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.more().due = Some(Due::After(delay));
        self
    }

    /// Queued only at that time; a time in the past is now.
    pub fn at(mut self, due: Timestamp) -> Self {
        self.more().due = Some(Due::At(due));
        self
    }

    /// The event's own time, where it is not the time of its emission: when a sensor read it, for instance.
    pub fn time(mut self, time: Timestamp) -> Self {
        self.more().time = Some(time);
        self
    }

    /// Which conversation it belongs to. Default: that of its cause, else its own id.
    pub fn correlation(mut self, id: EventId) -> Self {
        self.more().correlation = Some(id);
        self
    }

    /// Who caused it: a user, a job.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.more().actor = Some(actor.into());
        self
    }

    /// Which system it comes from.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.more().source = Some(source.into());
        self
    }

    /// Which aggregate it changes, and to which version. In a durable runtime a version is taken once: an event with one that is
    /// taken is refused, which its receipt says. That the versions follow one another is the caller's business here:
    /// [`AggregateHandle::append`](crate::AggregateHandle::append) gives the next one, and refuses an event that expects another.
    pub fn aggregate(mut self, kind: impl Into<String>, id: impl Into<String>, version: u64) -> Self {
        self.more().aggregate = Some(Aggregate { kind: kind.into(), id: id.into(), version });
        self
    }

    /// Adds a header, or replaces the one of that name. W3C trace context travels as `traceparent` and `tracestate`.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.more().headers.insert(name.into(), value.into());
        self
    }

    /// Takes it only once: while the runtime remembers the key (24 hours unless
    /// [`idempotency_window`](crate::Builder::idempotency_window) says otherwise), another event of the same key and tenant
    /// is counted as a duplicate, and its receipt resolves to the first one's id. Needs a durable runtime.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.more().once = Some(key.into());
        self
    }

    /// Cancels it, and all that it causes, with this token: see [`Runtime::cancel`](crate::Runtime::cancel).
    pub fn cancelled_by(mut self, token: &CancellationToken) -> Self {
        self.more().cancellation = Some(token.clone());
        self
    }

    /// The name it will be emitted under.
    pub fn name(&self) -> &EventName {
        &self.name
    }

    /// The data.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The id, where one is assigned already: [`Runtime::create`](crate::Runtime::create) does that.
    pub fn id(&self) -> Option<EventId> {
        self.more.as_ref()?.id
    }

    /// The typed event that it was made of.
    ///
    /// # Errors
    /// The draft, where it carries something else.
    pub fn into_event<T: Event>(self) -> Result<T, Self> {
        let Self { name, version, priority, key, tenant, data, more, name_is_checked } = self;
        data.into_inner().map_err(|data| Self { name, version, priority, key, tenant, data, more, name_is_checked })
    }

    /// When it is due, if that is to come.
    pub(crate) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let due = match self.more.as_ref()?.due? {
            Due::After(delay) => now + delay,
            Due::At(at) => at,
        };
        (due > now).then_some(due)
    }

    pub(crate) fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }
}

/// What can be emitted: a typed event or a [`Draft`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be emitted",
    label = "neither an event nor a draft",
    note = "derive `millstream::Event`, or emit JSON under a name: `Draft::json(\"order.placed\", value)`"
)]
pub trait IntoDraft: Sized {
    /// The draft to emit.
    fn into_draft(self) -> Draft;
    /// The value again, from a draft that was refused.
    #[doc(hidden)]
    fn handed_back(draft: Draft) -> Self;
}

impl<T: Event> IntoDraft for T {
    fn into_draft(self) -> Draft {
        Draft::new(self)
    }

    #[expect(clippy::expect_used, reason = "the draft was made from this type, and nobody else ever held it")]
    fn handed_back(draft: Draft) -> Self {
        draft.into_event().expect("a draft hands back the type it was made of")
    }
}

impl IntoDraft for Draft {
    fn into_draft(self) -> Draft {
        self
    }

    fn handed_back(draft: Draft) -> Self {
        draft
    }
}
