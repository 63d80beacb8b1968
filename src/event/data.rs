//! An event's data: typed and shared, or JSON; turned into the other only where somebody asks for the other.

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::{Event, EventName, UpgradeError, payload::Typed};

/// The data of an event, cheap to clone. Typed data is not serialised until somebody asks for JSON.
#[derive(Clone)]
pub struct Data(Repr);

#[derive(Clone)]
enum Repr {
    Typed(Typed),
    Json(Arc<Value>),
    Raw(Arc<Raw>),
}

/// JSON text, and its value once somebody asked for it.
struct Raw {
    text: Bytes,
    value: OnceLock<Value>,
}

impl Raw {
    fn value(&self) -> serde_json::Result<&Value> {
        match self.value.get() {
            Some(value) => Ok(value),
            None => serde_json::from_slice(&self.text).map(|value| self.value.get_or_init(|| value)),
        }
    }
}

/// Why an event's data is not what a handler asked for. Never worth a retry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The data is of another Rust type, which is an event of another name.
    #[error("event `{event}` carries a `{found}`, the handler takes a `{expected}`")]
    WrongType {
        /// The event's name.
        event: String,
        /// The name of the type that it carries.
        found: &'static str,
        /// The name of the type that was asked for.
        expected: &'static str,
    },
    /// The data is of a newer version than the handler's type.
    #[error("event `{event}` is of version {found}, the handler's `{expected_type}` knows versions up to {expected}")]
    UnknownVersion {
        /// The event's name.
        event: String,
        /// The data's version.
        found: u32,
        /// The type's version.
        expected: u32,
        /// The type's event name.
        expected_type: &'static str,
    },
    /// The data is of an older version and the type knows no way from there.
    #[error("event `{event}` cannot be upgraded")]
    Upgrade {
        /// The event's name.
        event: String,
        /// Why not.
        source: UpgradeError,
    },
    /// JSON that is not of the type's shape.
    #[error("event `{event}` at `{path}`")]
    Shape {
        /// The event's name.
        event: String,
        /// Where in the data, such as `lines[2].price`; `.` is the whole.
        path: String,
        /// What is wrong there.
        source: serde_json::Error,
    },
    /// Typed data that serde could not turn into JSON.
    #[error("event `{event}` has no JSON form")]
    Serialize {
        /// The event's name.
        event: String,
        /// Why not.
        source: serde_json::Error,
    },
}

impl Data {
    pub(crate) fn typed<T: Event>(event: T) -> Self {
        Self(Repr::Typed(Typed::new(event)))
    }

    pub(crate) fn json(value: Value) -> Self {
        Self(Repr::Json(Arc::new(value)))
    }

    /// JSON text that is read when somebody asks for it.
    pub(crate) fn raw(text: Bytes) -> Self {
        Self(Repr::Raw(Arc::new(Raw { text, value: OnceLock::new() })))
    }

    /// Appends the data's JSON text.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        match &self.0 {
            Repr::Typed(typed) => typed.write_json(out),
            Repr::Json(value) => serde_json::to_writer(out, value),
            Repr::Raw(raw) => {
                out.extend_from_slice(&raw.text);
                Ok(())
            }
        }
    }

    /// The data as a `T`, if it is one without conversion.
    pub fn get<T: Event>(&self) -> Option<&T> {
        match &self.0 {
            Repr::Typed(typed) => typed.as_any().downcast_ref(),
            Repr::Json(_) | Repr::Raw(_) => None,
        }
    }

    /// The data as JSON, if it entered as JSON or was read from a store.
    pub fn as_json(&self) -> Option<&Value> {
        match &self.0 {
            Repr::Typed(_) => None,
            Repr::Json(value) => Some(value),
            Repr::Raw(raw) => raw.value().ok(),
        }
    }

    /// The data as JSON, serialised if it is typed.
    ///
    /// # Errors
    /// What serde says, for a type that has no JSON form (such as a map whose keys are no strings).
    pub fn to_json(&self) -> serde_json::Result<Value> {
        match &self.0 {
            Repr::Typed(typed) => typed.json(),
            Repr::Json(value) => Ok(Value::clone(value)),
            Repr::Raw(raw) => raw.value().cloned(),
        }
    }

    /// The data as a shared `T`: the same allocation if it is one, else deserialised.
    pub(crate) fn shared<T: Event>(&self, name: &EventName, version: Option<u32>) -> Result<Arc<T>, DecodeError> {
        if self.get::<T>().is_some()
            && let Repr::Typed(typed) = &self.0
            && let Ok(same) = typed.shared().downcast()
        {
            return Ok(same);
        }
        self.convert(name, version).map(Arc::new)
    }

    /// The data as an own `T`: a clone if it is one, else deserialised.
    pub(crate) fn decode<T: Event>(&self, name: &EventName, version: Option<u32>) -> Result<T, DecodeError> {
        match self.get::<T>() {
            Some(typed) => Ok(typed.clone()),
            None => self.convert(name, version),
        }
    }

    fn convert<T: Event>(&self, name: &EventName, version: Option<u32>) -> Result<T, DecodeError> {
        let value = match &self.0 {
            Repr::Typed(typed) if typed.event_name() != T::NAME => {
                return Err(DecodeError::WrongType {
                    event: name.to_string(),
                    found: typed.event_name(),
                    expected: T::NAME,
                });
            }
            Repr::Typed(typed) => {
                let json = typed.json();
                json.map_err(|source| DecodeError::Serialize { event: name.to_string(), source })?
            }
            Repr::Json(value) => return from_json(value, name, version),
            Repr::Raw(raw) => return from_text(raw, name, version),
        };
        from_json(&value, name, version)
    }

    /// The data as an own `T` if it is one and nobody shares it, else the data.
    pub(crate) fn into_inner<T: Event>(self) -> Result<T, Self> {
        let typed: Arc<T> = match &self.0 {
            Repr::Typed(typed) if typed.as_any().is::<T>() => match typed.shared().downcast() {
                Ok(typed) => typed,
                Err(_) => return Err(self),
            },
            _ => return Err(self),
        };
        drop(self);
        Ok(Arc::unwrap_or_clone(typed))
    }

    /// The event name of the Rust type that it carries.
    pub(crate) fn event_name(&self) -> Option<&'static str> {
        match &self.0 {
            Repr::Typed(typed) => Some(typed.event_name()),
            Repr::Json(_) | Repr::Raw(_) => None,
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        matches!(self.0, Repr::Json(_) | Repr::Raw(_))
    }

    pub(crate) fn json_size(&self, limit: usize) -> JsonSize {
        match &self.0 {
            Repr::Typed(typed) => typed.json_size(limit),
            Repr::Json(value) => JsonSize::of(value, limit),
            Repr::Raw(raw) if raw.text.len() > limit => JsonSize::Over,
            Repr::Raw(raw) => JsonSize::Bytes(raw.text.len()),
        }
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Typed(typed) => match typed.json() {
                Ok(value) => write!(f, "{}{value}", typed.event_name()),
                Err(_) => f.write_str(typed.event_name()),
            },
            Repr::Json(value) => write!(f, "{value}"),
            Repr::Raw(raw) => f.write_str(&String::from_utf8_lossy(&raw.text)),
        }
    }
}

fn from_json<T: Event>(value: &Value, name: &EventName, version: Option<u32>) -> Result<T, DecodeError> {
    match version {
        Some(found) if found > T::VERSION => Err(DecodeError::UnknownVersion {
            event: name.to_string(),
            found,
            expected: T::VERSION,
            expected_type: T::NAME,
        }),
        Some(older) if older < T::VERSION => {
            let upgraded = T::upgrade(older, value.clone())
                .map_err(|source| DecodeError::Upgrade { event: name.to_string(), source })?;
            deserialize(&upgraded, name)
        }
        _ => deserialize(value, name),
    }
}

/// Text of the type's own version becomes the type without a value between.
fn from_text<T: Event>(raw: &Raw, name: &EventName, version: Option<u32>) -> Result<T, DecodeError> {
    if version.is_none_or(|version| version == T::VERSION)
        && let Ok(typed) = serde_json::from_slice(&raw.text)
    {
        return Ok(typed);
    }
    let shape = |source| DecodeError::Shape { event: name.to_string(), path: ".".to_owned(), source };
    from_json(raw.value().map_err(shape)?, name, version)
}

/// The path of a mistake is looked for only once there is one: tracking it costs every good event.
fn deserialize<T: Event>(value: &Value, name: &EventName) -> Result<T, DecodeError> {
    T::deserialize(value).or_else(|_| serde_path_to_error::deserialize(value)).map_err(|error| DecodeError::Shape {
        event: name.to_string(),
        path: error.path().to_string(),
        source: error.into_inner(),
    })
}

/// How long a value's JSON would be, without writing it: counting stops at the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonSize {
    /// So many bytes.
    Bytes(usize),
    /// More than the limit.
    Over,
    /// It has no JSON form.
    None,
}

struct Counter {
    bytes: usize,
    limit: usize,
}

impl io::Write for Counter {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.bytes += part.len();
        if self.bytes > self.limit { Err(io::Error::from(io::ErrorKind::FileTooLarge)) } else { Ok(part.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl JsonSize {
    pub(super) fn of(value: &impl Serialize, limit: usize) -> Self {
        let mut counter = Counter { bytes: 0, limit };
        match serde_json::to_writer(&mut counter, value) {
            Ok(()) => Self::Bytes(counter.bytes),
            Err(error) if error.is_io() => Self::Over,
            Err(_) => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_size_is_that_of_the_text_and_counting_stops_at_the_limit() {
        let value = json!({"text": "a\"b", "numbers": [1, 2.5, null]});
        let length = value.to_string().len();
        assert_eq!(JsonSize::of(&value, length), JsonSize::Bytes(length));
        assert_eq!(JsonSize::of(&value, length - 1), JsonSize::Over);
        assert_eq!(JsonSize::of(&std::collections::HashMap::from([((1, 2), 3)]), 99), JsonSize::None);
    }
}
