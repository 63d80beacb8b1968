//! Events as [CloudEvents 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md), in the
//! structured JSON mode.
//!
//! | attribute | what |
//! | --- | --- |
//! | `id` | the id |
//! | `source` | the source; `urn:millstream` where none was stated |
//! | `sourcetext` | the source as it was stated, where that is no URI reference |
//! | `type` | the name |
//! | `subject` | the key |
//! | `time` | the event's time |
//! | `emittedtime` | when it was emitted, where the event's time is another |
//! | `dataschema` | `urn:millstream:NAME:VERSION`, where a version was stated |
//! | `priority`, `tenant`, `actor`, `depth` | what the envelope says; no depth is 0 |
//! | `correlationid`, `causationid` | after the [correlation extension](https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/correlation.md) |
//! | `rootid` | the root, where it is another event |
//! | `aggregatetype`, `aggregateid`, `aggregateversion` | the aggregate that it changes |
//! | `duetime` | when a delayed event is due |
//! | `traceparent`, `tracestate` | after the [distributed tracing extension](https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/distributed-tracing.md) |
//! | any other | the header of that name |
//! | `headers` | all headers whose names are no attribute names, as the text of a JSON object |
//!
//! What is read of others and has no place here, such as an id that is no ULID, is kept as a header of the attribute's name.
//! An id is then made of the source and the id, so that the same event gets the same one each time.

mod read;
mod write;

use std::fmt::Write as _;

use millstream_operators::Timestamp;

use crate::event::Envelope;

/// An event as it leaves one store for another, or for another program.
///
/// Writes and reads itself as one JSON object in the structured mode of CloudEvents 1.0.
///
/// # Data loss
/// An idempotency key is no part of an event and stays behind.
///
/// ```
/// use millstream::archive::CloudEvent;
///
/// let line = r#"{"specversion":"1.0","id":"A-1","source":"/shop","type":"order.placed","subject":"7","data":{"id":7}}"#;
/// let event = CloudEvent::parse(line.as_bytes())?;
/// assert_eq!(event.envelope().key().map(|key| key.as_str()), Some("7"));
/// // The id is no ULID: the event gets one, and keeps its own as a header.
/// assert_eq!(event.envelope().header("id"), Some("A-1"));
/// let again = CloudEvent::parse(&serde_json::to_vec(&event)?)?;
/// assert_eq!(again.envelope().id(), event.envelope().id());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CloudEvent {
    event: Envelope,
    due: Option<Timestamp>,
}

/// Why a text is no event that can be taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudEventError {
    /// It is no JSON object.
    #[error("it is no JSON object: {0}")]
    Json(#[from] serde_json::Error),
    /// An attribute that must be there is missing.
    #[error("`{attribute}` is missing")]
    Missing {
        /// Which.
        attribute: &'static str,
    },
    /// An attribute is not what it must be.
    #[error("`{attribute}` is {found}: {expected}")]
    Wrong {
        /// Which.
        attribute: String,
        /// What it is.
        found: String,
        /// What is allowed.
        expected: String,
    },
}

/// What `source` says where none was stated.
const NO_SOURCE: &str = "urn:millstream";
/// What `dataschema` begins with where it is ours.
const SCHEMA: &str = "urn:millstream:";
/// The attributes that have a meaning of their own. A header of such a name is in `headers`.
const RESERVED: &[&str] = &[
    "specversion",
    "id",
    "source",
    "sourcetext",
    "type",
    "subject",
    "emptykey",
    "time",
    "emittedtime",
    "dataschema",
    "datacontenttype",
    "data",
    "priority",
    "tenant",
    "actor",
    "depth",
    "correlationid",
    "causationid",
    "rootid",
    "aggregatetype",
    "aggregateid",
    "aggregateversion",
    "duetime",
    "headers",
];
/// What data is unless a header says otherwise.
const CONTENT: &str = "application/json";

impl CloudEvent {
    /// An event of the log.
    pub fn new(event: Envelope) -> Self {
        Self { event, due: None }
    }

    /// An event that waits for its due time.
    pub fn delayed(event: Envelope, due: Timestamp) -> Self {
        Self { event, due: Some(due) }
    }

    /// The event.
    pub fn envelope(&self) -> &Envelope {
        &self.event
    }

    /// When it is due, where it is delayed.
    pub fn due(&self) -> Option<Timestamp> {
        self.due
    }

    pub(super) fn into_parts(self) -> (Envelope, Option<Timestamp>) {
        (self.event, self.due)
    }
}

/// Whether a name is one that an attribute may have.
fn is_attribute(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Whether a character may be in a URI as it is.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&byte)
}

/// A text with all that a URI cannot have in its escaped form.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            byte if is_plain(byte) => out.push(char::from(byte)),
            // Nothing fails that is written to a text.
            byte => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::event::{Draft, IdSource, Lineage, Priority, Way};

    fn root(draft: Draft) -> Envelope {
        let id = IdSource::new(7).next(Timestamp::from_millis(4));
        Envelope::new(draft, id, Timestamp::from_nanos(4_000_000_001), Lineage::root(id))
    }

    fn full() -> Envelope {
        let ids = IdSource::new(7);
        let [first, correlation, cause, id] = [1, 2, 3, 4].map(|ms| ids.next(Timestamp::from_millis(ms)));
        let draft = Draft::json("order.größe", json!({"id": 7, "text": "ä\n"}))
            .version(3)
            .key("7/ä")
            .tenant("acme")
            .priority(Priority::High)
            .time(Timestamp::from_secs(1))
            .actor("ann")
            .source("our shop 100%")
            .aggregate("order", "7", u64::MAX)
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .header("Content-Type", "x/y")
            .header("tenant", "a header of a reserved name");
        let lineage = Lineage { root: first, cause: Some(cause), correlation, depth: 4, way: Way::Emitted };
        Envelope::new(draft, id, Timestamp::from_millis(5), lineage)
    }

    fn written(event: &CloudEvent) -> Value {
        serde_json::to_value(event).unwrap()
    }

    #[test]
    fn an_event_is_what_the_specification_says() {
        let written = written(&CloudEvent::new(full()));
        for (attribute, value) in [
            ("specversion", json!("1.0")),
            ("type", json!("order.größe")),
            ("subject", json!("7/ä")),
            ("source", json!("our%20shop%20100%25")),
            ("time", json!("1970-01-01T00:00:01Z")),
            ("dataschema", json!("urn:millstream:order.gr%C3%B6%C3%9Fe:3")),
            ("priority", json!("high")),
            ("depth", json!(4)),
            ("traceparent", json!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
            ("data", json!({"id": 7, "text": "ä\n"})),
        ] {
            assert_eq!(written[attribute], value, "{attribute}");
        }
        let names = written.as_object().unwrap().keys();
        assert!(names.clone().all(|name| is_attribute(name)), "{names:?}");
    }

    #[test]
    fn an_event_goes_there_and_back_whatever_it_carries() {
        let bare = root(Draft::json("x", json!(null)));
        let odd = root(Draft::json("x", json!(1.5)).key("").source(NO_SOURCE).header("headers", "{").header("ok", ""));
        for event in [CloudEvent::new(full()), CloudEvent::new(bare), CloudEvent::delayed(odd, Timestamp::MAX)] {
            let text = serde_json::to_vec(&event).unwrap();
            assert!(!text.contains(&b'\n'));
            let back = CloudEvent::parse(&text).unwrap();
            assert_eq!(back.event.to_record().unwrap(), event.event.to_record().unwrap());
            assert_eq!((back.due, written(&back)), (event.due, written(&event)));
        }
    }

    #[test]
    fn data_is_not_read_as_numbers_on_its_way() {
        let data = r#"{"big":123456789012345678901234567890,"exact":0.10000000000000000000001}"#;
        let line = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"a.b","data":{data}}}"#);
        let event = CloudEvent::parse(line.as_bytes()).unwrap();
        assert!(serde_json::to_string(&event).unwrap().contains(data));
    }

    #[test]
    fn data_of_many_lines_is_one_line_and_nothing_else_of_it_changes() {
        #[derive(Clone, serde::Serialize, serde::Deserialize)]
        struct Raw(Box<serde_json::value::RawValue>);

        impl crate::event::Event for Raw {
            const NAME: &'static str = "raw";
        }

        let text = "{\n  \"z\": 123456789012345678901234567890,\r\n  \"a\": \"b\\n\"\n}";
        let event = CloudEvent::new(root(Draft::new(Raw(serde_json::from_str(text).unwrap()))));
        let written = serde_json::to_string(&event).unwrap();
        let line = text.replace(['\n', '\r'], " ");
        assert!(written.contains(&line) && !written.contains('\n'), "{written}");
    }

    #[test]
    fn an_event_of_others_keeps_what_it_says_and_gets_the_same_id_each_time() {
        let line = json!({
            "specversion": "1.0", "id": "no ulid", "source": "/shop", "type": "com.shop.order", "time": "2020-01-01T00:00:00Z",
            "dataschema": "https://example.com/order", "datacontenttype": "text/xml", "data": "<order/>", "sampled": true,
            "correlationid": "theirs", "comexampleport": 7,
        });
        let parse = |line: &Value| CloudEvent::parse(&serde_json::to_vec(line).unwrap()).unwrap();
        let event = parse(&line);
        let again = parse(&written(&event));
        assert_eq!((written(&again), again.event.id()), (written(&event), event.event.id()));
        assert_eq!(parse(&line).event.id(), event.event.id());
        for (attribute, value) in [("dataschema", "https://example.com/order"), ("datacontenttype", "text/xml")] {
            assert_eq!(written(&event)[attribute], value);
        }
        for (header, value) in
            [("id", "no ulid"), ("sampled", "true"), ("correlationid", "theirs"), ("comexampleport", "7")]
        {
            assert_eq!(event.event.header(header), Some(value), "{header}");
        }
    }

    #[test]
    fn a_bad_event_says_what_is_wrong() {
        let good = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "a.b"});
        for (attribute, value, says) in [
            ("specversion", json!("0.3"), "1.0"),
            ("type", json!("a b"), "not allowed"),
            ("time", json!("yesterday"), "RFC 3339"),
            ("priority", json!("urgent"), "critical"),
            ("data_base64", json!("AAAA"), "JSON"),
            ("id", json!(""), "empty"),
            ("x", json!({}), "text"),
            ("depth", json!(-1), "number"),
        ] {
            let mut bad = good.clone();
            bad[attribute] = value;
            let error = CloudEvent::parse(&serde_json::to_vec(&bad).unwrap()).unwrap_err().to_string();
            assert!(error.contains(attribute) && error.contains(says), "{error}");
        }
        let error = CloudEvent::parse(br#"{"specversion":"1.0","id":"1","source":"s"}"#).unwrap_err();
        assert!(matches!(error, CloudEventError::Missing { attribute: "type" }), "{error}");
    }

    proptest! {
        #[test]
        fn any_texts_go_there_and_back(key: Option<String>, tenant: Option<String>, source: Option<String>, name in "[ -~]{0,12}", value: String) {
            let mut draft = Draft::json("a.b", json!(value.clone())).header(name, value);
            if let Some(key) = key { draft = draft.key(key) }
            if let Some(tenant) = tenant { draft = draft.tenant(tenant) }
            if let Some(source) = source { draft = draft.source(source) }
            let event = CloudEvent::new(root(draft));
            let back = CloudEvent::parse(&serde_json::to_vec(&event).unwrap()).unwrap();
            prop_assert_eq!(back.event.to_record().unwrap(), event.event.to_record().unwrap());
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = CloudEvent::parse(text.as_bytes());
        }
    }
}
