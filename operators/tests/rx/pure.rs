//! Every operator of one input as a chain, for whoever wants to run it.

use std::collections::BTreeMap;

use millstream_operators::{
    Chain, Operator,
    buffer::{Batch, Window},
    chain,
    time::{Edge, Timeout},
};
use serde_json::{Value, json};

use super::{
    case::{Case, ms},
    functions::{acc, key, map, pred},
    timeline::Outcome,
};

/// Runs a chain whose type only the case knows.
pub(crate) trait Visit {
    type Output;
    fn visit<O: Operator<Value, Out = Outcome>>(self, chain: Chain<Value, O>) -> Self::Output;
}

fn text(error: &impl ToString) -> String {
    match error.to_string().as_str() {
        "no item came in time" => "TimeoutError".to_owned(),
        "the input ended without an item" => "EmptyError".to_owned(),
        _ => "ArgumentOutOfRangeError".to_owned(),
    }
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// `None` where the operator is not one of these.
pub(crate) fn pure<V: Visit>(case: &Case, visitor: V) -> Option<V::Output> {
    filters(case, visitor)
        .or_else(|visitor| transforms(case, visitor))
        .or_else(|visitor| reductions(case, visitor))
        .or_else(|visitor| timed(case, visitor))
        .or_else(|visitor| buffers(case, visitor))
        .ok()
}

fn filters<V: Visit>(case: &Case, visitor: V) -> Result<V::Output, V> {
    let (c, n) = (chain::<Value>(), case.size("n"));
    let (when, by) = (pred(case.params.get("pred")), case.params.get("key"));
    let default = case.params.get("default").cloned();
    Ok(match case.op.as_str() {
        "filter" => visitor.visit(c.filter(when).map(Ok)),
        "filter_map" => {
            let f = map(&case.params["map"]);
            visitor.visit(c.filter_map(move |x| when(&x).then(|| f(x))).map(Ok))
        }
        "take" => visitor.visit(c.take(n).map(Ok)),
        "skip" => visitor.visit(c.skip(n).map(Ok)),
        "take_last" => visitor.visit(c.take_last(n).map(Ok)),
        "skip_last" => visitor.visit(c.skip_last(n).map(Ok)),
        "take_while" if case.flag("inclusive") => visitor.visit(c.take_while_inclusive(when).map(Ok)),
        "take_while" => visitor.visit(c.take_while(when).map(Ok)),
        "skip_while" => visitor.visit(c.skip_while(when).map(Ok)),
        "ignore_elements" => visitor.visit(c.ignore_elements().map(Ok)),
        "distinct" => match by {
            Some(by) => visitor.visit(c.distinct_by_key(key(by)).map(Ok)),
            None => visitor.visit(c.distinct().map(Ok)),
        },
        "distinct_until_changed" => match by {
            Some(by) => visitor.visit(c.distinct_until_key_changed(key(by)).map(Ok)),
            None => visitor.visit(c.distinct_until_changed().map(Ok)),
        },
        "element_at" => match default {
            Some(default) => visitor.visit(c.element_at_or(case.size("i"), default).map(Ok)),
            None => visitor.visit(c.element_at(case.size("i")).map(|x| x.map_err(|e| text(&e)))),
        },
        "first" => match default {
            Some(default) => visitor.visit(c.filter(when).first_or(default).map(Ok)),
            None => visitor.visit(c.filter(when).first().map(|x| x.map_err(|e| text(&e)))),
        },
        "last" => match default {
            Some(default) => visitor.visit(c.filter(when).last_or(default).map(Ok)),
            None => visitor.visit(c.filter(when).last().map(|x| x.map_err(|e| text(&e)))),
        },
        "find" => visitor.visit(c.find(when).map(|found| Ok(found.unwrap_or(Value::Null)))),
        _ => return Err(visitor),
    })
}

fn transforms<V: Visit>(case: &Case, visitor: V) -> Result<V::Output, V> {
    let c = chain::<Value>();
    Ok(match case.op.as_str() {
        "map" => visitor.visit(c.map(map(&case.params["map"])).map(Ok)),
        "pairwise" => visitor.visit(c.pairwise().map(|(a, b)| Ok(json!([a, b])))),
        "start_with" => visitor.visit(c.start_with(case.list("values")).map(Ok)),
        "end_with" => visitor.visit(c.end_with(case.list("values")).map(Ok)),
        "default_if_empty" => visitor.visit(c.default_if_empty(case.params["value"].clone()).map(Ok)),
        "scan" => {
            let step = acc(&case.params["acc"]);
            match case.params.get("seed") {
                Some(seed) => {
                    let step = move |a: &mut Value, x| *a = step(a.take(), x);
                    visitor.visit(c.scan(seed.clone(), step).map(Ok))
                }
                None => visitor.visit(c.scan_first(step).map(Ok)),
            }
        }
        _ => return Err(visitor),
    })
}

fn reductions<V: Visit>(case: &Case, visitor: V) -> Result<V::Output, V> {
    let c = chain::<Value>();
    let (when, by) = (pred(case.params.get("pred")), case.params.get("key"));
    Ok(match case.op.as_str() {
        "reduce" => {
            let step = acc(&case.params["acc"]);
            match case.params.get("seed") {
                Some(seed) => {
                    let step = move |a: &mut Value, x| *a = step(a.take(), x);
                    visitor.visit(c.fold(seed.clone(), step).map(Ok))
                }
                None => visitor.visit(c.reduce(step).map(Ok)),
            }
        }
        "count" => visitor.visit(c.filter(when).count().map(|n| Ok(json!(n)))),
        "min" | "max" => return Ok(extremes(case, by, visitor)),
        "every" => visitor.visit(c.every(when).map(|x| Ok(json!(x)))),
        "any" => visitor.visit(c.any(when).map(|x| Ok(json!(x)))),
        "is_empty" => visitor.visit(c.is_empty().map(|x| Ok(json!(x)))),
        "to_array" | "to_vec" => visitor.visit(c.to_vec().map(|x| Ok(json!(x)))),
        _ => return Err(visitor),
    })
}

fn extremes<V: Visit>(case: &Case, by: Option<&Value>, visitor: V) -> V::Output {
    let c = chain::<Value>();
    match (case.op.as_str(), by.map(key)) {
        ("min", None) => visitor.visit(c.map(|x| number(&x)).min().map(|x| Ok(json!(x)))),
        ("min", Some(by)) => visitor.visit(c.min_by_key(move |x| number(&by(x))).map(Ok)),
        (_, None) => visitor.visit(c.map(|x| number(&x)).max().map(|x| Ok(json!(x)))),
        (_, Some(by)) => visitor.visit(c.max_by_key(move |x| number(&by(x))).map(Ok)),
    }
}

/// The limits of a `timeout` case.
pub(crate) fn timeout(case: &Case) -> Timeout {
    let (first, each) = (case.number("first").map(ms), case.number("each").map(ms));
    match (first, each) {
        (Some(first), Some(each)) => Timeout::first_and_each(first, each),
        (Some(first), None) => Timeout::first(first),
        (None, each) => Timeout::each(each.unwrap_or_default()),
    }
    .expect("a limit is not zero")
}

fn timed<V: Visit>(case: &Case, visitor: V) -> Result<V::Output, V> {
    let (c, d) = (chain::<Value>(), case.period());
    Ok(match case.op.as_str() {
        "delay" => visitor.visit(c.delay(d).map(Ok)),
        "debounce" => visitor.visit(c.debounce(d).map(Ok)),
        "throttle_leading" => visitor.visit(c.throttle(d, Edge::Leading).map(Ok)),
        "throttle_trailing" => visitor.visit(c.throttle(d, Edge::Trailing).map(Ok)),
        "throttle_both" => visitor.visit(c.throttle(d, Edge::Both).map(Ok)),
        "audit" => visitor.visit(c.audit(d).map(Ok)),
        "sample" => visitor.visit(c.sample(d).map(Ok)),
        "rate_limit" => visitor.visit(c.rate_limit(d).map(Ok)),
        "timeout" if case.params.get("with").is_none() => {
            visitor.visit(c.apply(timeout(case)).map(|x| x.map_err(|e| text(&e))))
        }
        _ => return Err(visitor),
    })
}

fn buffers<V: Visit>(case: &Case, visitor: V) -> Result<V::Output, V> {
    let (c, d, n) = (chain::<Value>(), case.period(), case.size("n"));
    let every = case.number("every").map_or(n, |_| case.size("every"));
    let skip_empty = case.flag("skip_empty");
    Ok(match case.op.as_str() {
        "batch" => visitor.visit(c.batch(n, d).map(|x| Ok(json!(x)))),
        "buffer_count" if every == n => visitor.visit(c.buffer_count(n).map(|x| Ok(json!(x)))),
        "buffer_count" => visitor.visit(c.buffer_count_every(n, every).map(|x| Ok(json!(x)))),
        "buffer_time" => visitor.visit(c.buffer_time(d).map(|x| Ok(json!(x)))),
        "buffer_time_count" => {
            let wanted = move |x: &Vec<Value>| !(skip_empty && x.is_empty());
            visitor.visit(c.buffer_time_count(d, n).filter(wanted).map(|x| Ok(json!(x))))
        }
        "window_count" if case.params["emit"] == "pairs" => {
            let pair = |window| match window {
                Window::Item(index, item) => Some(Ok(json!([index, item]))),
                Window::Open(_) | Window::Close(_) => None,
            };
            visitor.visit(c.window_count(n, every).filter_map(pair))
        }
        "window_count" => {
            visitor.visit(c.window_count(n, every).scan(Windows::default(), Windows::step).filter_map(|w| w.whole))
        }
        "group_by" => return Ok(groups(case, visitor)),
        _ => return Err(visitor),
    })
}

/// Whole windows from what happens to them.
#[derive(Clone, Default)]
struct Windows {
    open: BTreeMap<u64, Vec<Value>>,
    whole: Option<Outcome>,
}

impl Windows {
    fn step(&mut self, event: Window<Value>) {
        self.whole = None;
        match event {
            Window::Open(index) => drop(self.open.insert(index, Vec::new())),
            Window::Item(index, item) => self.open.entry(index).or_default().push(item),
            Window::Close(index) => self.whole = self.open.remove(&index).map(|items| Ok(json!(items))),
        }
    }
}

/// Groups as a chain for each key.
fn groups<V: Visit>(case: &Case, visitor: V) -> V::Output {
    let (c, by) = (chain::<Value>(), key(&case.params["key"]));
    let again = by.clone();
    let named = move |items: Vec<Value>| Ok(json!([again(&items[0]), items]));
    match (case.params["emit"].as_str(), case.number("ttl")) {
        (Some("pairs"), _) => visitor.visit(c.map(move |x| Ok(json!([by(&x), x])))),
        (_, None) => visitor.visit(c.per_key(by, Chain::to_vec).map(named)),
        (_, Some(ttl)) => {
            let batch = Batch::new(usize::MAX, ms(ttl)).expect("a time to live is not zero");
            visitor.visit(c.per_key(by, |each| each.apply(batch)).map(named))
        }
    }
}
