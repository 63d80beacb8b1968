//! Patterns, names and payloads.

use std::sync::{Arc, Mutex};

use millstream::{
    DeadLetterFilter, Death, Draft, ErrorKind, Event, EventName, Handler, Json, Pattern, Runtime,
    store::Memory,
    testing::{self, TestKit},
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{cases, json};

/// What a pattern says, read slowly. A star alone selects all.
fn selects(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        ([">"], [_, ..]) | ([], []) => true,
        (["*", pattern @ ..], [_, name @ ..]) => selects(pattern, name),
        ([first, pattern @ ..], [other, name @ ..]) if first == other => selects(pattern, name),
        _ => false,
    }
}

fn token() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("*".to_owned()), Just(">".to_owned()), "[a-z_ä-]{0,3}"]
}

fn dotted() -> impl Strategy<Value = String> {
    prop::collection::vec(token(), 0..5).prop_map(|tokens| tokens.join("."))
}

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "order", key = "id")]
struct Order {
    id: u64,
    user: Option<String>,
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn any_text_is_a_pattern_or_is_refused(text: String, name: String) {
        if let Ok(pattern) = text.parse::<Pattern>() {
            let _ = pattern.matches(&name);
            prop_assert_eq!(pattern.as_str(), text);
        }
    }

    #[test]
    fn a_pattern_selects_what_it_says(text in dotted(), name in dotted()) {
        let (Ok(pattern), Ok(checked)) = (text.parse::<Pattern>(), EventName::try_from(&*name)) else { return Ok(()) };
        let [tokens, names] = [&text, &name].map(|text| text.split('.').collect::<Vec<_>>());
        prop_assert_eq!(pattern.matches(checked.as_str()), tokens == ["*"] || selects(&tokens, &names), "{} {}", text, name);
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn any_name_is_refused_or_reaches_who_subscribes_to_it(names in prop::collection::vec(prop_oneof![dotted(), any::<String>()], 1..8), durable: bool) {
        let builder = if durable { Runtime::builder().store(Memory::new()) } else { Runtime::builder() };
        testing::run(builder, async |kit: TestKit| {
            let mut accepted = 0;
            for (number, name) in names.iter().enumerate() {
                let seen = Arc::new(Mutex::new(0));
                let count = {
                    let seen = Arc::clone(&seen);
                    move |_: Json| { *seen.lock().unwrap() += 1; async {} }
                };
                let subscribed = kit.on(name, count.named(format!("subscription {number}")));
                let emitted = kit.emit(Draft::json(name.as_str(), number.into()));
                assert!(subscribed.is_ok() || emitted.is_err(), "whatever is emitted can be subscribed to: `{name}`");
                kit.settle().await;
                if emitted.is_ok() {
                    accepted += 1;
                    assert_eq!(*seen.lock().unwrap(), 1, "`{name}`");
                }
            }
            assert_eq!(kit.stats().events.emitted, accepted);
            Ok(())
        });
    }

    #[test]
    fn any_payload_is_handled_or_is_a_dead_letter(payloads in prop::collection::vec(json(), 1..12), durable: bool) {
        let builder = if durable { Runtime::builder().store(Memory::new()) } else { Runtime::builder() };
        testing::run(builder, async |kit: TestKit| {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let keep = {
                let seen = Arc::clone(&seen);
                move |order: Order| { seen.lock().unwrap().push(order); async {} }
            };
            kit.on("order", keep.named("orders"))?;
            let mut expected = Vec::new();
            for payload in &payloads {
                expected.extend(serde_json::from_value::<Order>(payload.clone()));
                kit.emit(Draft::json("order", payload.clone()))?;
            }
            kit.settle().await;
            assert_eq!(*seen.lock().unwrap(), expected);
            let dead = kit.dead_letters(&DeadLetterFilter::all().death(Death::Permanent));
            assert_eq!(dead.len() + expected.len(), payloads.len());
            assert!(dead.iter().all(|letter| letter.failures[0].kind == ErrorKind::Invalid));
            Ok(())
        });
    }
}
