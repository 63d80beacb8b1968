//! From an event to its attributes.

use std::collections::BTreeMap;

use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeMap},
};
use serde_json::value::RawValue;

use super::{CONTENT, CloudEvent, NO_SOURCE, RESERVED, SCHEMA, escape, is_attribute, is_plain};
use crate::{archive::time::to_text, event::Envelope};

impl Serialize for CloudEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (event, mut map) = (&self.event, serializer.serialize_map(None)?);
        map.serialize_entry("specversion", "1.0")?;
        map.serialize_entry("id", &event.id)?;
        put_source(&mut map, event.source())?;
        map.serialize_entry("type", event.name.as_str())?;
        match event.key.as_ref().map(crate::event::Key::as_str) {
            // A subject is never empty.
            Some("") => map.serialize_entry("emptykey", &true)?,
            key => put(&mut map, "subject", key)?,
        }
        map.serialize_entry("time", &to_text(event.time()))?;
        let has_own_time = event.more.as_ref().is_some_and(|more| more.time.is_some());
        put(&mut map, "emittedtime", has_own_time.then(|| to_text(event.emitted)))?;
        let schema = event.version.map(|version| format!("{SCHEMA}{}:{version}", escape(event.name.as_str())));
        put(&mut map, "dataschema", schema.as_deref().or_else(|| foreign_schema(event)))?;
        map.serialize_entry("datacontenttype", event.header("datacontenttype").unwrap_or(CONTENT))?;
        put(&mut map, "duetime", self.due.map(to_text))?;
        put_envelope(&mut map, event)?;
        put_headers(&mut map, event)?;
        map.serialize_entry("data", &data(event).map_err(Error::custom)?)?;
        map.end()
    }
}

fn put<M: SerializeMap>(map: &mut M, name: &str, value: Option<impl Serialize>) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(name, &value))
}

/// Headers that stand for an attribute of others.
fn is_passed_on(event: &Envelope, name: &str) -> bool {
    match name {
        "dataschema" => event.version.is_none() && foreign_schema(event).is_some(),
        "datacontenttype" => event.header(name).is_some_and(|content| content != CONTENT),
        _ => false,
    }
}

fn foreign_schema(event: &Envelope) -> Option<&str> {
    event.header("dataschema").filter(|schema| !schema.is_empty() && !schema.starts_with(SCHEMA))
}

fn put_source<M: SerializeMap>(map: &mut M, source: Option<&str>) -> Result<(), M::Error> {
    let Some(source) = source else { return map.serialize_entry("source", NO_SOURCE) };
    let is_uri = !source.is_empty() && source != NO_SOURCE && source.bytes().all(is_plain);
    if is_uri {
        return map.serialize_entry("source", source);
    }
    let escaped = if source.is_empty() { NO_SOURCE.to_owned() } else { escape(source) };
    map.serialize_entry("source", &escaped)?;
    map.serialize_entry("sourcetext", source)
}

fn put_envelope<M: SerializeMap>(map: &mut M, event: &Envelope) -> Result<(), M::Error> {
    let lineage = &event.lineage;
    map.serialize_entry("priority", event.priority.as_str())?;
    put(map, "tenant", event.tenant.as_ref())?;
    put(map, "actor", event.actor())?;
    put(map, "depth", (lineage.depth > 0).then_some(lineage.depth))?;
    put(map, "correlationid", (lineage.correlation != event.id).then_some(lineage.correlation))?;
    put(map, "causationid", lineage.cause)?;
    put(map, "rootid", (lineage.root != event.id).then_some(lineage.root))?;
    if let Some(aggregate) = event.aggregate() {
        map.serialize_entry("aggregatetype", &aggregate.kind)?;
        map.serialize_entry("aggregateid", &aggregate.id)?;
        // Numbers of CloudEvents have 32 bits.
        map.serialize_entry("aggregateversion", &aggregate.version.to_string())?;
    }
    Ok(())
}

fn put_headers<M: SerializeMap>(map: &mut M, event: &Envelope) -> Result<(), M::Error> {
    let headers = event.more.iter().flat_map(|more| &more.headers);
    let headers = headers.filter(|(name, _)| !is_passed_on(event, name));
    let (attributes, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
        headers.partition(|(name, _)| is_attribute(name) && !RESERVED.contains(&name.as_str()));
    for (name, value) in attributes {
        map.serialize_entry(name, value)?;
    }
    if !others.is_empty() {
        map.serialize_entry("headers", &serde_json::to_string(&others).map_err(Error::custom)?)?;
    }
    Ok(())
}

/// The data as the text that it is stored as, so that no number in it is read and written again.
fn data(event: &Envelope) -> serde_json::Result<Box<RawValue>> {
    let mut text = Vec::new();
    event.data.write_json(&mut text)?;
    // JSON has line breaks as they are only between values; a line of a file must have none.
    text.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    serde_json::from_slice(&text)
}
