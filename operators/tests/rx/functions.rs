//! The named functions of the vectors.

use serde_json::{Value, json};

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn name(spec: &Value) -> &str {
    spec.get("fn").and_then(Value::as_str).unwrap_or("always")
}

fn arg(spec: &Value, key: &str) -> i64 {
    spec.get(key).map(number).unwrap_or_default()
}

/// Whether the predicate holds; a missing one always does.
pub(crate) fn pred(spec: Option<&Value>) -> impl Fn(&Value) -> bool + Clone + Send + Sync + use<> {
    let spec = spec.cloned().unwrap_or(Value::Null);
    move |value| {
        let x = number(value);
        match name(&spec) {
            "even" => x % 2 == 0,
            "odd" => x % 2 != 0,
            "gt" => x > arg(&spec, "k"),
            "lt" => x < arg(&spec, "k"),
            "ne" => Some(value) != spec.get("k"),
            "eq" => Some(value) == spec.get("k"),
            "mod_eq" => x % arg(&spec, "m") == arg(&spec, "r"),
            "never" => false,
            "always" => true,
            other => panic!("unknown predicate {other}"),
        }
    }
}

pub(crate) fn map(spec: &Value) -> impl Fn(Value) -> Value + Clone + Send + Sync + use<> {
    let spec = spec.clone();
    move |value| {
        let x = number(&value);
        match name(&spec) {
            "add" => json!(x + arg(&spec, "k")),
            "mul" => json!(x * arg(&spec, "k")),
            "square" => json!(x * x),
            "neg" => json!(-x),
            "pair" => json!([x, x * 10]),
            "const" => spec["k"].clone(),
            "wrap" => json!({ "v": value }),
            other => panic!("unknown map {other}"),
        }
    }
}

pub(crate) fn acc(spec: &Value) -> impl Fn(Value, Value) -> Value + Clone + Send + Sync + use<> {
    let spec = spec.clone();
    move |before, value| {
        let (a, x) = (number(&before), number(&value));
        match name(&spec) {
            "sum" => json!(a + x),
            "sub" => json!(a - x),
            "max" => json!(a.max(x)),
            "min" => json!(a.min(x)),
            "count" => json!(a + 1),
            "hash" => json!((a * 31 + x) % 1_000_003),
            "last" => value,
            "append" => {
                let mut all = before.as_array().cloned().unwrap_or_default();
                all.push(value);
                Value::Array(all)
            }
            other => panic!("unknown accumulator {other}"),
        }
    }
}

pub(crate) fn key(spec: &Value) -> impl Fn(&Value) -> Value + Clone + Send + Sync + use<> {
    let spec = spec.clone();
    move |value| match name(&spec) {
        "id" => value.clone(),
        "mod" => json!(number(value) % arg(&spec, "m")),
        "div" => json!(number(value).div_euclid(arg(&spec, "m"))),
        "field" => value[spec["name"].as_str().unwrap_or_default()].clone(),
        other => panic!("unknown key {other}"),
    }
}
