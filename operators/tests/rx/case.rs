//! A case as its file has it.

use std::time::Duration;

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mark {
    Next(Value),
    Complete,
    Error(String),
}

/// What happens, and at which millisecond.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) at: u64,
    pub(crate) mark: Mark,
}

pub(crate) type Timeline = Vec<Event>;

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) op: String,
    pub(crate) params: Value,
    pub(crate) inputs: Vec<Timeline>,
    /// One timeline an output.
    pub(crate) expect: Vec<Timeline>,
    /// What a tie may give instead.
    pub(crate) alt: Option<Vec<Timeline>>,
    pub(crate) horizon: Option<u64>,
    pub(crate) has_error: bool,
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn event(value: &Value) -> Event {
    let fields = value.as_object().expect("an event is an object");
    let mark = match (fields.get("next"), fields.get("error")) {
        (Some(next), _) => Mark::Next(next.clone()),
        (None, Some(error)) => Mark::Error(error.as_str().unwrap_or_default().to_owned()),
        (None, None) => Mark::Complete,
    };
    Event { at: fields["at"].as_u64().expect("a time"), mark }
}

pub(crate) fn timeline(value: &Value) -> Timeline {
    value.as_array().map(|events| events.iter().map(event).collect()).unwrap_or_default()
}

fn timelines(value: &Value) -> Vec<Timeline> {
    value.as_array().map(|lines| lines.iter().map(timeline).collect()).unwrap_or_default()
}

impl Case {
    pub(crate) fn parse(line: &str) -> Self {
        let case: Value = serde_json::from_str(line).expect("a line is a case");
        let several = case.get("outputs").is_some();
        let lines = |value: &Value| if several { timelines(value) } else { vec![timeline(value)] };
        Self {
            id: case["id"].as_str().unwrap_or_default().to_owned(),
            op: case["op"].as_str().unwrap_or_default().to_owned(),
            params: case["params"].clone(),
            inputs: timelines(&case["inputs"]),
            expect: lines(if several { &case["outputs"] } else { &case["expect"] }),
            alt: case.get("alt").map(lines),
            horizon: case.get("horizon").and_then(Value::as_u64),
            has_error: case.get("has_error").and_then(Value::as_bool).unwrap_or(false),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.params.get(name).and_then(Value::as_u64)
    }

    pub(crate) fn size(&self, name: &str) -> usize {
        self.number(name).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    }

    pub(crate) fn period(&self) -> Duration {
        ms(self.number("ms").unwrap_or(0))
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.params.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(crate) fn list(&self, name: &str) -> Vec<Value> {
        self.params.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    }

    /// The input of the `k`th run.
    pub(crate) fn run(&self, k: usize) -> Timeline {
        self.inputs.get(k.min(self.inputs.len().saturating_sub(1))).cloned().unwrap_or_default()
    }

    pub(crate) fn passes(&self, seen: &[Timeline]) -> bool {
        self.expect == seen || self.alt.as_deref() == Some(seen)
    }
}
