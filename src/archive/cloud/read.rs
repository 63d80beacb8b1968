//! From attributes to an event.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_operators::Timestamp;
use serde_json::{Value, value::RawValue};

use super::{CONTENT, CloudEvent, CloudEventError, NO_SOURCE, SCHEMA, escape};
use crate::{
    archive::time,
    event::{Aggregate, Data, Envelope, EventId, EventName, Headers, Key, Lineage, More, Priority, Tenant, Way},
};

/// What is not taken yet.
struct Attributes {
    rest: BTreeMap<String, Value>,
    kept: Headers,
}

fn wrong(attribute: &str, found: &Value, expected: impl Into<String>) -> CloudEventError {
    CloudEventError::Wrong { attribute: attribute.to_owned(), found: found.to_string(), expected: expected.into() }
}

impl CloudEvent {
    /// Reads an event from its JSON text.
    ///
    /// # Errors
    /// Where the text is no `CloudEvent` of version 1.0, its type is no [`EventName`], or its data is no JSON.
    pub fn parse(text: &[u8]) -> Result<Self, CloudEventError> {
        let mut all: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(text)?;
        let data = all.remove("data").map_or_else(|| "null".to_owned(), |data| data.get().to_owned());
        let values = all.into_iter().map(|(name, value)| Ok((name, serde_json::from_str(value.get())?)));
        let rest = values.collect::<Result<BTreeMap<_, Value>, serde_json::Error>>()?;
        // An attribute that is null is not there.
        let rest = rest.into_iter().filter(|(_, value)| !value.is_null()).collect();
        Attributes { rest, kept: Headers::new() }.into_event(Data::raw(Bytes::from(data)))
    }
}

impl Attributes {
    fn into_event(mut self, data: Data) -> Result<CloudEvent, CloudEventError> {
        self.check_form()?;
        let name = self.name()?;
        let (source, stated) = self.source()?;
        let time = self.time("time")?;
        let id = self.id(&source, time)?;
        let emitted = self.time("emittedtime")?;
        let version = self.version(&name)?;
        let key = if self.rest.remove("emptykey").is_some() { Some(String::new()) } else { self.text("subject")? };
        let event = Envelope {
            id,
            version,
            priority: self.priority()?,
            key: key.map(Key::from),
            tenant: self.text("tenant")?.map(Tenant::from),
            emitted: emitted.or(time).unwrap_or(id.timestamp()),
            lineage: self.lineage(id)?,
            data,
            more: None,
            name,
        };
        let due = self.time("duetime")?;
        let more = More {
            time: time.filter(|_| emitted.is_some()),
            actor: self.text("actor")?,
            source: stated,
            aggregate: self.aggregate()?,
            headers: self.headers()?,
            ..More::default()
        };
        let is_any = more.time.is_some()
            || more.actor.is_some()
            || more.source.is_some()
            || more.aggregate.is_some()
            || !more.headers.is_empty();
        Ok(CloudEvent { event: Envelope { more: is_any.then(|| Box::new(more)), ..event }, due })
    }

    fn check_form(&mut self) -> Result<(), CloudEventError> {
        match self.text("specversion")? {
            None => return Err(CloudEventError::Missing { attribute: "specversion" }),
            Some(version) if version != "1.0" => {
                return Err(wrong("specversion", &version.into(), "only 1.0 is known"));
            }
            Some(_) => {}
        }
        if let Some(data) = self.rest.get("data_base64") {
            return Err(wrong("data_base64", data, "only data that is JSON can be taken in"));
        }
        if let Some(content) = self.text("datacontenttype")?.filter(|content| content != CONTENT) {
            self.kept.insert("datacontenttype".into(), content);
        }
        Ok(())
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, CloudEventError> {
        match self.rest.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, &other, "it must be a text")),
        }
    }

    fn needed(&mut self, name: &'static str) -> Result<String, CloudEventError> {
        let text = self.text(name)?.ok_or(CloudEventError::Missing { attribute: name })?;
        if text.is_empty() { Err(wrong(name, &text.into(), "it must not be empty")) } else { Ok(text) }
    }

    fn time(&mut self, name: &str) -> Result<Option<Timestamp>, CloudEventError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let time = time::parse(&text);
        time.map(Some).ok_or_else(|| wrong(name, &text.into(), "it must be a time after RFC 3339 from 1970 to 2554"))
    }

    fn name(&mut self) -> Result<EventName, CloudEventError> {
        let text = self.needed("type")?;
        EventName::try_from(&*text).map_err(|error| wrong("type", &text.into(), error.to_string()))
    }

    /// The source that names the event together with its id, and the one that the emitter stated.
    fn source(&mut self) -> Result<(String, Option<String>), CloudEventError> {
        let source = self.needed("source")?;
        let stated = self.text("sourcetext")?;
        let stated = stated.or_else(|| (source != NO_SOURCE).then(|| source.clone()));
        Ok((source, stated))
    }

    fn id(&mut self, source: &str, time: Option<Timestamp>) -> Result<EventId, CloudEventError> {
        let text = self.needed("id")?;
        if let Ok(id) = text.parse::<EventId>()
            && id.to_string() == text
        {
            return Ok(id);
        }
        let id = derived(source, &text, time.unwrap_or_default());
        self.kept.insert("id".into(), text);
        Ok(id)
    }

    /// An id that is one of ours; any other is kept as a header.
    fn event_id(&mut self, name: &str) -> Result<Option<EventId>, CloudEventError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let id = text.parse::<EventId>().ok().filter(|id| id.to_string() == text);
        if id.is_none() {
            self.kept.insert(name.to_owned(), text);
        }
        Ok(id)
    }

    fn version(&mut self, name: &EventName) -> Result<Option<u32>, CloudEventError> {
        let Some(schema) = self.text("dataschema")? else { return Ok(None) };
        let own = schema.strip_prefix(SCHEMA).and_then(|rest| rest.rsplit_once(':'));
        let version = own.filter(|(of, _)| *of == escape(name.as_str())).and_then(|(_, version)| version.parse().ok());
        if version.is_none() {
            self.kept.insert("dataschema".into(), schema);
        }
        Ok(version)
    }

    fn priority(&mut self) -> Result<Priority, CloudEventError> {
        let Some(text) = self.text("priority")? else { return Ok(Priority::default()) };
        let found = Priority::ALL.into_iter().find(|priority| priority.as_str() == text);
        found.ok_or_else(|| wrong("priority", &text.into(), "allowed are critical, high, normal and low"))
    }

    fn lineage(&mut self, id: EventId) -> Result<Lineage, CloudEventError> {
        let depth = match self.rest.remove("depth") {
            None => 0,
            Some(value) => {
                let depth = value.as_u64().and_then(|depth| u32::try_from(depth).ok());
                depth.ok_or_else(|| wrong("depth", &value, "it must be a whole number that is not negative"))?
            }
        };
        let root = self.event_id("rootid")?.unwrap_or(id);
        let correlation = self.event_id("correlationid")?.unwrap_or(id);
        Ok(Lineage { root, cause: self.event_id("causationid")?, correlation, depth, way: Way::Emitted })
    }

    fn aggregate(&mut self) -> Result<Option<Aggregate>, CloudEventError> {
        let Some(kind) = self.text("aggregatetype")? else { return Ok(None) };
        let id = self.text("aggregateid")?.ok_or(CloudEventError::Missing { attribute: "aggregateid" })?;
        let text = self.text("aggregateversion")?;
        let text = text.ok_or(CloudEventError::Missing { attribute: "aggregateversion" })?;
        let version =
            text.parse().map_err(|_| wrong("aggregateversion", &text.into(), "it must be a number's text"))?;
        Ok(Some(Aggregate { kind, id, version }))
    }

    /// All that is left is a header.
    fn headers(&mut self) -> Result<Headers, CloudEventError> {
        let mut headers = std::mem::take(&mut self.kept);
        if let Some(text) = self.text("headers")? {
            let others: Headers = serde_json::from_str(&text).map_err(|error| {
                wrong("headers", &text.into(), format!("it must be a JSON object of texts: {error}"))
            })?;
            headers.extend(others);
        }
        for (name, value) in std::mem::take(&mut self.rest) {
            let text = match value {
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                other => return Err(wrong(&name, &other, "it must be a text, a number, true or false")),
            };
            headers.insert(name, text);
        }
        Ok(headers)
    }
}

/// The id of an event that others named: its time, and 80 bits of its names' FNV-1a hash, which is the same in every version.
#[expect(clippy::cast_possible_truncation, reason = "the low half")]
#[expect(clippy::expect_used, reason = "it was made so")]
fn derived(source: &str, id: &str, time: Timestamp) -> EventId {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let names = source.bytes().chain([0]).chain(id.bytes());
    let hash = names.fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    let millis = u128::from(time.as_millis()) & 0xffff_ffff_ffff;
    let bits = millis << 80 | hash & ((1 << 80) - 1);
    // The low half of an id is never zero.
    let low = (bits as u64).max(1);
    EventId::from_u128((bits >> 64 << 64) | u128::from(low)).expect("its low half is not zero")
}
