//! What handlers return on a condition: an idempotency key, an aggregate's version.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt;
use millstream::{
    Builder, Context, DeadLetterFilter, Draft, ExpectedVersion, Handler, HandlerError, Json, Retry, Runtime,
    store::{Memory, Redb},
    testing::{self, FaultyStore, Probe, TestKit},
};
use serde_json::json;

fn on(store: &Memory) -> Builder {
    Runtime::builder().store(store.clone())
}

fn go(number: u64) -> Draft {
    Draft::json("go", json!(number))
}

/// Appends the next version of an order for each event, as it knows it: it learns the version anew at each attempt.
fn next_version(runtime: &Runtime) -> impl Handler<(Json, Context)> + use<> {
    let runtime = runtime.clone();
    let next = move |Json(number): Json, _: Context| {
        let order = runtime.aggregate("order", "7");
        async move {
            let version = order.version().await.map_err(HandlerError::transient)?.unwrap_or(0);
            tokio::task::yield_now().await;
            Ok::<_, HandlerError>(Draft::json("order.changed", number).aggregate("order", "7", version + 1))
        }
    };
    next.named("next").retry(Retry::fixed(Duration::from_millis(1)).attempts(u32::MAX))
}

async fn numbers(runtime: &Runtime, pattern: &str) -> Vec<u64> {
    let events: Vec<_> = runtime.history(pattern).unwrap().events().try_collect().await.unwrap();
    events.iter().map(|event| event.data().to_json().unwrap().as_u64().unwrap()).collect()
}

#[test]
fn an_idempotency_key_that_is_taken_drops_its_event_and_keeps_the_rest() {
    testing::run(on(&Memory::new()), async |kit| {
        kit.emit(Draft::json("once", json!(0)).idempotency_key("k1"))?.await?;
        let returns = |Json(number): Json| {
            let key = format!("k{number}");
            async move {
                let once = Draft::json("once", number.clone()).idempotency_key(&key);
                let again = Draft::json("once", json!(99)).idempotency_key(&key);
                (Draft::json("before", number.clone()), once, again, Draft::json("after", number))
            }
        };
        kit.on("go", returns.named("returns"))?;
        for number in [1, 2, 2, 3] {
            kit.emit(go(number))?;
        }
        assert_eq!(kit.settle().await.handled, 4);
        let mut once = numbers(kit.runtime(), "once").await;
        once.sort_unstable();
        assert_eq!(once, [0, 2, 3]);
        for kept in ["before", "after"] {
            let mut numbers = numbers(kit.runtime(), kept).await;
            numbers.sort_unstable();
            assert_eq!(numbers, [1, 2, 2, 3]);
        }
        assert_eq!(kit.stats().events.dropped.duplicate, 6);
        Ok(())
    });
}

#[test]
fn a_version_that_is_taken_fails_the_delivery_and_the_next_attempt_sees_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let redb = Redb::open(folder.path().join("orders.redb")).unwrap();
    let _clock = testing::hold_clock();
    for builder in [on(&Memory::new()), Runtime::builder().store(redb)] {
        testing::run(builder, async |kit| {
            kit.on("go", next_version(kit.runtime()))?;
            for number in 1..=30 {
                kit.emit(go(number))?;
            }
            let report = kit.settle().await;
            assert_eq!((report.handled, report.dead), (30, 0));
            assert!(report.retried > 0);
            let order = kit.runtime().aggregate("order", "7");
            let events: Vec<_> = order.read(0).try_collect().await?;
            let versions: Vec<_> = events.iter().map(|event| event.aggregate().unwrap().version).collect();
            assert_eq!(versions, (1..=30).collect::<Vec<_>>());
            let mut seen = numbers(kit.runtime(), "order.changed").await;
            seen.sort_unstable();
            assert_eq!(seen, (1..=30).collect::<Vec<_>>(), "each once");
            Ok(())
        });
    }
}

#[test]
fn without_a_policy_a_taken_version_is_a_dead_letter_that_says_why() {
    testing::run(on(&Memory::new()), async |kit| {
        kit.runtime().aggregate("order", "7").append(ExpectedVersion::New, [go(0).named("order.placed")]).await?;
        let returns = |_: Json, context: Context| async move {
            context.storage("n").put("k", "written").await?;
            Ok::<_, HandlerError>((
                Draft::json("other", json!(1)),
                Draft::json("order.changed", json!(1)).aggregate("order", "7", 1),
            ))
        };
        kit.on("go", returns.named("returns"))?;
        kit.emit(go(1))?;
        assert_eq!(kit.settle().await.dead, 1);
        let letters = kit.dead_letters(&DeadLetterFilter::all());
        let failure = &letters[0].failures[0];
        assert_eq!(failure.code.as_deref(), Some("conflict"));
        assert!(failure.message.contains("version 1 of order `7`"), "{}", failure.message);
        assert!(numbers(kit.runtime(), "other").await.is_empty(), "all or nothing");
        assert_eq!(kit.runtime().storage("n").get("k").await?, None);
        assert_eq!(kit.stats().events.dropped.unsaved, 2);
        Ok(())
    });
}

#[test]
fn two_events_of_one_version_can_never_be_and_are_not_tried_again() {
    testing::run(on(&Memory::new()), async |kit| {
        let twice = |_: Json| async {
            [1, 2].map(|number| Draft::json("order.changed", json!(number)).aggregate("order", "7", 1))
        };
        kit.on("go", twice.named("twice").retry(Retry::exponential()))?;
        kit.emit(go(1))?;
        let report = kit.settle().await;
        assert_eq!((report.dead, report.retried), (1, 0));
        Ok(())
    });
}

#[test]
fn a_conditional_outcome_holds_up_nobody_else_and_its_own_key() {
    testing::run(on(&Memory::new()), async |kit| {
        let (plain, seen) = (Probe::<Json>::new(), Probe::<Json>::new());
        kit.on("go", plain.handler().named("plain"))?;
        kit.on("once", seen.handler().named("seen").ordered_by_key())?;
        let returns = |Json(number): Json| async move {
            let key = format!("k{number}");
            Draft::json("once", number).idempotency_key(&key).key("same")
        };
        kit.on("go", returns.named("returns").ordered_by_key())?;
        for number in 0..50 {
            kit.emit(go(number).key("same"))?;
        }
        assert_eq!(kit.settle().await.handled, 150);
        let expected: Vec<_> = (0..50).map(|number| Json(json!(number))).collect();
        assert_eq!((plain.received(), seen.received()), (expected.clone(), expected), "in the order of their key");
        Ok(())
    });
}

#[test]
fn delayed_events_may_have_conditions_too() {
    testing::run(on(&Memory::new()), async |kit| {
        let returns =
            |_: Json| async { Draft::json("late", json!(1)).idempotency_key("k").delay(Duration::from_mins(1)) };
        kit.on("go", returns.named("returns"))?;
        kit.emit(go(1))?;
        kit.emit(go(2))?;
        kit.settle().await;
        assert_eq!((kit.stats().events.delayed, kit.stats().events.dropped.duplicate), (1, 1));
        kit.advance(Duration::from_secs(61)).await;
        assert_eq!(numbers(kit.runtime(), "late").await, [1]);
        Ok(())
    });
}

/// Drives until nothing is left, however often the store fails.
async fn insist(kit: &TestKit) {
    let mut tries = 0;
    while kit.runtime().process().await.is_err() {
        tries += 1;
        assert!(tries < 10_000, "the store never gets better");
        tokio::time::advance(Duration::from_secs(10)).await;
    }
}

async fn sure(kit: &TestKit, draft: Draft, key: &str) {
    loop {
        if let Ok(receipt) = kit.emit(draft.clone().idempotency_key(key))
            && receipt.await.is_ok()
        {
            return;
        }
        insist(kit).await;
    }
}

#[test]
fn a_store_that_fails_between_neither_doubles_nor_loses_an_outcome() {
    for seed in 0..60 {
        let store = FaultyStore::new(Memory::new(), seed).one_in(10);
        let runs = Arc::new(AtomicU64::new(0));
        let mut sent = 0;
        for round in 0..3 {
            // The last one sees that nothing is left to do.
            let events = if round < 2 { 12 } else { 0 };
            testing::run(Runtime::builder().store(store.clone()), async |kit| {
                let runtime = kit.runtime().clone();
                let ran = Arc::clone(&runs);
                let next = move |Json(number): Json, context: Context| {
                    ran.fetch_add(1, Ordering::Relaxed);
                    let order = runtime.aggregate("order", "7");
                    async move {
                        let version = order.version().await.map_err(HandlerError::transient)?.unwrap_or(0);
                        let counts = context.storage("n");
                        let count: u64 = counts.get_json("count").await?.unwrap_or(0);
                        tokio::task::yield_now().await;
                        counts.put_json("count", &(count + 1)).await?;
                        // Two events in a row have the same key.
                        let key = format!("pair {}", number.as_u64().unwrap() / 2);
                        Ok::<_, HandlerError>((
                            Draft::json("plain", number.clone()),
                            Draft::json("pair", number.clone()).idempotency_key(key),
                            Draft::json("order.changed", number).aggregate("order", "7", version + 1),
                        ))
                    }
                };
                let policy = Retry::fixed(Duration::from_millis(1)).attempts(u32::MAX);
                kit.on("go", next.named("next").retry(policy))?;
                insist(&kit).await;
                for _ in 0..events {
                    sure(&kit, go(sent), &sent.to_string()).await;
                    sent += 1;
                }
                insist(&kit).await;
                let mut found = BTreeMap::new();
                for name in ["plain", "pair", "order.changed"] {
                    let mut numbers = numbers(kit.runtime(), name).await;
                    numbers.sort_unstable();
                    found.insert(name, numbers);
                }
                let all: Vec<_> = (0..sent).collect();
                assert_eq!((&found["plain"], &found["order.changed"]), (&all, &all), "seed {seed}");
                let pairs: Vec<_> = found["pair"].iter().map(|number| number / 2).collect();
                assert_eq!(pairs, (0..sent / 2).collect::<Vec<_>>(), "seed {seed}");
                let order = kit.runtime().aggregate("order", "7");
                let events: Vec<_> = order.read(0).try_collect().await?;
                let versions: Vec<_> = events.iter().map(|event| event.aggregate().unwrap().version).collect();
                assert_eq!(versions, (1..=sent).collect::<Vec<_>>(), "seed {seed}");
                assert_eq!(kit.runtime().storage("n").get_json::<u64>("count").await?, Some(sent), "seed {seed}");
                // The handler holds the runtime, which would live on.
                kit.clear();
                Ok(())
            });
        }
        assert!(runs.load(Ordering::Relaxed) > sent, "something was run again");
    }
}
