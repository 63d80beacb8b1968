//! Whatever bytes, texts, settings and payloads there are: no panic, no hang, and an error where something is wrong.
//!
//! A few cases of each by default. For a long run: `PROPTEST_CASES=100000 cargo test --release --all-features --test fuzz`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

#[path = "fuzz/damage.rs"]
mod damage;
#[path = "fuzz/settings.rs"]
mod settings;
#[path = "fuzz/texts.rs"]
mod texts;

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};
use serde_json::Value;

/// So many cases, unless `PROPTEST_CASES` says otherwise.
fn cases(default: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    // The same cases each time, unless more or others are asked for.
    let is_asked = ["PROPTEST_CASES", "PROPTEST_RNG_SEED"].iter().any(|name| std::env::var_os(name).is_some());
    if is_asked { config } else { Config { rng_seed: RngSeed::Fixed(1), ..config } }
}

/// Any JSON.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(
                (prop_oneof![Just("id".to_owned()), Just("user".to_owned()), any::<String>()], inner),
                0..6
            )
            .prop_map(Value::from_iter),
        ]
    })
}
