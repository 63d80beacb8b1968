//! The envelope: what the runtime knows about an event, and the event's data.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_operators::Timestamp;
use serde::{
    Deserialize, Serialize, Serializer,
    ser::{Error, SerializeStruct},
};
use tokio_util::sync::CancellationToken;

use super::{Data, DecodeError, Draft, Event, EventId, EventName, Key, More, Priority, Tenant, key::scoped};

/// Headers by name. W3C trace context is `traceparent` and `tracestate`.
pub type Headers = BTreeMap<String, String>;

/// What an event changes, and to which version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregate {
    /// The aggregate's type, such as `order`.
    pub kind: String,
    /// Which one.
    pub id: String,
    /// The version that the event makes it.
    pub version: u64,
}

/// The key under which an aggregate's event is stored: tenant, kind and id, then the version, so that they lie in its order.
pub(crate) fn aggregate_key(tenant: Option<&Tenant>, aggregate: &Aggregate) -> Bytes {
    let mut key = scoped(tenant, &[&aggregate.kind, &aggregate.id]);
    key.extend_from_slice(&aggregate.version.to_be_bytes());
    key.into()
}

/// An accepted event: its data and all that is known about it.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub(crate) id: EventId,
    pub(crate) name: EventName,
    pub(crate) version: Option<u32>,
    pub(crate) priority: Priority,
    pub(crate) key: Option<Key>,
    pub(crate) tenant: Option<Tenant>,
    pub(crate) emitted: Timestamp,
    pub(crate) lineage: Lineage,
    pub(crate) data: Data,
    pub(crate) more: Option<Box<More>>,
}

/// Where an event comes from: its root, its cause, and how far it is from the root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lineage {
    pub(crate) root: EventId,
    pub(crate) cause: Option<EventId>,
    pub(crate) correlation: EventId,
    pub(crate) depth: u32,
    pub(crate) way: Way,
}

/// How an event came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    #[default]
    Emitted,
    /// A handler returned it: it was taken in whether there was room or not.
    Returned,
}

impl Lineage {
    pub(crate) fn root(id: EventId) -> Self {
        Self { root: id, cause: None, correlation: id, depth: 0, way: Way::Emitted }
    }
}

impl Envelope {
    /// The event's id.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// The name of its type.
    pub fn name(&self) -> &EventName {
        &self.name
    }

    /// The version of the data's schema, where the emitter stated one.
    pub fn version(&self) -> Option<u32> {
        self.version
    }

    /// The class it waits in.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// What it is about.
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Whose it is.
    pub fn tenant(&self) -> Option<&Tenant> {
        self.tenant.as_ref()
    }

    /// The event's own time where the emitter stated one, else when it was emitted.
    pub fn time(&self) -> Timestamp {
        self.more.as_ref().and_then(|more| more.time).unwrap_or(self.emitted)
    }

    /// When it was emitted.
    pub fn emitted_at(&self) -> Timestamp {
        self.emitted
    }

    /// The conversation it belongs to.
    pub fn correlation_id(&self) -> EventId {
        self.lineage.correlation
    }

    /// The event whose handler emitted it.
    pub fn causation_id(&self) -> Option<EventId> {
        self.lineage.cause
    }

    /// The event at the start of the chain of causes: itself where nothing caused it.
    pub fn root_id(&self) -> EventId {
        self.lineage.root
    }

    /// How many causes lie between it and its root.
    pub fn depth(&self) -> u32 {
        self.lineage.depth
    }

    /// Who caused it.
    pub fn actor(&self) -> Option<&str> {
        self.more.as_ref()?.actor.as_deref()
    }

    /// The system it comes from.
    pub fn source(&self) -> Option<&str> {
        self.more.as_ref()?.source.as_deref()
    }

    /// The aggregate it changes.
    pub fn aggregate(&self) -> Option<&Aggregate> {
        self.more.as_ref()?.aggregate.as_ref()
    }

    /// A header by name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.more.as_ref()?.headers.get(name).map(String::as_str)
    }

    /// The data.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The data as a `T`: a clone if it is one, else deserialised.
    ///
    /// # Errors
    /// [`DecodeError`] where the data is of another type, version or shape.
    pub fn decode<T: Event>(&self) -> Result<T, DecodeError> {
        self.data.decode(&self.name, self.version)
    }

    /// A draft with the same data, key, tenant and options, which becomes an event of its own.
    pub fn into_draft(self) -> Draft {
        let mut draft = self.into_refused_draft();
        if let Some(more) = &mut draft.more {
            more.id = None;
            more.due = None;
        }
        draft
    }

    /// The draft that it was made of, id and due time included.
    pub(crate) fn into_refused_draft(self) -> Draft {
        let Self { name, version, priority, key, tenant, data, more, .. } = self;
        Draft { name, version, priority: Some(priority), key, tenant, data, more, name_is_checked: true }
    }

    /// Whether its draft had its id already: then there may be another one of that id.
    pub(crate) fn has_given_id(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.id.is_some())
    }

    /// Its idempotency key.
    pub(crate) fn once(&self) -> Option<&str> {
        self.more.as_ref()?.once.as_deref()
    }

    pub(crate) fn cancellation(&self) -> Option<&CancellationToken> {
        self.more.as_ref()?.cancellation.as_ref()
    }

    /// `draft`'s priority must be resolved by now; normal stands in where nobody knew better.
    pub(crate) fn new(draft: Draft, id: EventId, emitted: Timestamp, lineage: Lineage) -> Self {
        let Draft { name, version, priority, key, tenant, data, more, name_is_checked: _ } = draft;
        Self { id, name, version, priority: priority.unwrap_or_default(), key, tenant, emitted, lineage, data, more }
    }
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let more = self.more.as_deref();
        let mut map = serializer.serialize_struct("Envelope", 15)?;
        map.serialize_field("id", &self.id)?;
        map.serialize_field("name", &self.name)?;
        map.serialize_field("version", &self.version)?;
        map.serialize_field("priority", &self.priority)?;
        map.serialize_field("key", &self.key)?;
        map.serialize_field("tenant", &self.tenant)?;
        map.serialize_field("time_ns", &self.time())?;
        map.serialize_field("correlation_id", &self.lineage.correlation)?;
        map.serialize_field("causation_id", &self.lineage.cause)?;
        map.serialize_field("depth", &self.lineage.depth)?;
        map.serialize_field("actor", &more.and_then(|more| more.actor.as_ref()))?;
        map.serialize_field("source", &more.and_then(|more| more.source.as_ref()))?;
        map.serialize_field("aggregate", &more.and_then(|more| more.aggregate.as_ref()))?;
        map.serialize_field("headers", &more.map(|more| &more.headers))?;
        map.serialize_field("data", &self.data.to_json().map_err(Error::custom)?)?;
        map.end()
    }
}
