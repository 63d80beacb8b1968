//! Aggregates: appended to with an expected version, read for good.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::TryStreamExt;
use millstream::{
    AggregateHandle, AppendError, Builder, Context, DeadLetterFilter, Draft, Envelope, ExpectedVersion, Handler,
    HistoryError, Json, Priority, Quota, Refusal, Retention, Retry, Runtime, Start,
    store::{KeyRange, Memory, Op, PartitionId, Redb, Store, Table},
    testing::{self, FaultyStore, Probe, TestKit},
};
use serde_json::json;

fn on(store: &Memory) -> Builder {
    Runtime::builder().store(store.clone())
}

fn event(number: u64) -> Draft {
    Draft::json("order.changed", json!(number))
}

fn numbers(events: &[Arc<Envelope>]) -> Vec<(u64, u64)> {
    let number = |event: &Arc<Envelope>| event.data().to_json().unwrap().as_u64().unwrap();
    events.iter().map(|event| (event.aggregate().unwrap().version, number(event))).collect()
}

async fn read(order: &AggregateHandle, from: u64) -> Vec<(u64, u64)> {
    numbers(&order.read(from).try_collect::<Vec<_>>().await.unwrap())
}

#[test]
fn events_are_appended_together_and_each_makes_a_version() {
    testing::run(on(&Memory::new()), async |kit| {
        let order = kit.runtime().aggregate("order", "7");
        assert_eq!(order.version().await?, None);
        let first = order.append(ExpectedVersion::New, [event(1), event(2)]).await?;
        assert_eq!((first.version, first.ids.len(), first.is_duplicate), (2, 2, false));
        assert_eq!(order.append(ExpectedVersion::At(2), [event(3)]).await?.version, 3);
        assert_eq!(order.append(ExpectedVersion::Any, [event(4).priority(Priority::Low), event(5)]).await?.version, 5);
        assert_eq!(order.append(ExpectedVersion::Any, Vec::<Draft>::new()).await?.version, 5);
        assert_eq!(order.version().await?, Some(5));
        assert_eq!(read(&order, 0).await, [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
        assert_eq!(read(&order, 4).await, [(4, 4), (5, 5)]);
        assert_eq!(read(&kit.runtime().aggregate("order", "70"), 0).await, []);
        assert_eq!(read(&kit.runtime().tenant("t").aggregate("order", "7"), 0).await, []);
        Ok(())
    });
}

#[test]
fn a_version_that_is_not_expected_is_a_conflict_that_says_both() {
    testing::run(on(&Memory::new()), async |kit| {
        let order = kit.runtime().aggregate("order", "7");
        order.append(ExpectedVersion::Any, [event(1), event(2)]).await?;
        for expected in [ExpectedVersion::New, ExpectedVersion::At(1), ExpectedVersion::At(3)] {
            let refused = order.append(expected, [event(9)]).await.unwrap_err();
            let AppendError::Conflict { actual: Some(2), expected: said, .. } = &refused else {
                return Err(refused.into());
            };
            assert_eq!(*said, expected);
            assert!(refused.to_string().contains("has version 2"), "{refused}");
        }
        assert_eq!(read(&order, 0).await.len(), 2);
        assert_eq!(kit.stats().events.emitted, 2);
        Ok(())
    });
}

#[test]
fn of_those_who_append_at_once_to_a_version_one_wins_and_any_version_suits_all() {
    testing::run(on(&Memory::new()), async |kit| {
        let order = kit.runtime().aggregate("order", "7");
        let at_once =
            futures::future::join_all((0..20).map(|n| order.append(ExpectedVersion::New, [event(n)]).into_future()));
        let won = at_once.await.into_iter().flatten().count();
        assert_eq!(won, 1);
        let at_once =
            futures::future::join_all((0..20).map(|n| order.append(ExpectedVersion::Any, [event(n)]).into_future()));
        assert!(at_once.await.into_iter().all(|appended| appended.is_ok()));
        let versions: Vec<_> = read(&order, 0).await.into_iter().map(|(version, _)| version).collect();
        assert_eq!(versions, (1..=21).collect::<Vec<_>>());
        Ok(())
    });
}

#[test]
fn appended_events_reach_subscriptions_and_the_books_like_all_others() {
    testing::run(on(&Memory::new()), async |kit| {
        let seen = Probe::<Json>::new();
        kit.on("order.*", seen.handler().named("seen"))?;
        let order = kit.runtime().aggregate("order", "7");
        order.append(ExpectedVersion::New, [event(1), event(2), event(3)]).await?;
        kit.settle().await;
        assert_eq!(seen.received(), [1, 2, 3].map(|number| Json(json!(number))));
        let stats = kit.stats();
        assert_eq!((stats.events.emitted, stats.events.routed, stats.held), (3, 3, 0));
        Ok(())
    });
}

#[test]
fn room_and_quotas_hold_for_all_events_or_for_none() {
    let builder = on(&Memory::new()).queue_size(4).quota_of("small", Quota::new().queue(2));
    testing::run(builder, async |kit| {
        let order = kit.runtime().aggregate("order", "7");
        let refused = order.append(ExpectedVersion::New, (0..5).map(event)).await.unwrap_err();
        let AppendError::Refused { events, reason: Refusal::Full { capacity: 4, .. } } = refused else {
            return Err(refused.into());
        };
        assert_eq!(events.len(), 5, "handed back");
        assert_eq!(kit.stats().held, 0, "nothing is held for what was refused");
        order.append(ExpectedVersion::New, (0..4).map(event)).await?;
        let small = kit.runtime().tenant("small").aggregate("order", "7");
        let refused = small.append(ExpectedVersion::New, (0..3).map(event)).await.unwrap_err();
        assert!(matches!(refused, AppendError::Refused { reason: Refusal::QuotaExceeded { .. }, .. }), "{refused}");
        small.append(ExpectedVersion::New, (0..2).map(event)).await?;
        small.append(ExpectedVersion::At(2), (0..2).map(event)).await?;
        assert_eq!(small.version().await?, Some(4));
        Ok(())
    });
}

#[test]
fn what_cannot_be_appended_is_handed_back_with_the_reason() {
    testing::run(on(&Memory::new()), async |kit| {
        let order = kit.runtime().aggregate("order", "7");
        let wrong = [
            event(1).delay(Duration::from_secs(1)),
            event(1).tenant("other"),
            event(1).aggregate("order", "8", 1),
            event(1).idempotency_key("k"),
        ];
        for draft in wrong {
            let refused = order.append(ExpectedVersion::New, [event(0), draft]).await.unwrap_err();
            assert!(matches!(&refused, AppendError::NotAppendable { events, .. } if events.len() == 2), "{refused}");
        }
        let refused =
            order.append(ExpectedVersion::New, [event(0), Draft::json("no name", json!(1))]).await.unwrap_err();
        assert!(matches!(&refused, AppendError::Refused { events, .. } if events.len() == 2), "{refused}");
        assert_eq!((order.version().await?, kit.stats().events.emitted), (None, 0));
        kit.shutdown(Duration::ZERO).await?;
        let refused = order.append(ExpectedVersion::New, [event(0)]).await.unwrap_err();
        assert!(matches!(refused, AppendError::History(HistoryError::Closed)), "{refused}");
        Ok(())
    });
    testing::run(Runtime::builder(), async |kit| {
        let order = kit.runtime().aggregate("order", "7");
        let refused = order.append(ExpectedVersion::New, [event(0)]).await.unwrap_err();
        assert!(matches!(refused, AppendError::History(HistoryError::NeedsStore)), "{refused}");
        assert!(matches!(order.read(0).try_next().await, Err(HistoryError::NeedsStore)));
        Ok(())
    });
}

#[test]
fn an_append_of_the_same_key_is_done_once_and_says_what_the_first_one_did() {
    let store = Memory::new();
    let mut first = None;
    for round in 0..3 {
        testing::run(on(&store), async |kit| {
            let order = kit.runtime().aggregate("order", "7");
            let append = |key: &str| order.append(ExpectedVersion::New, [event(1), event(2)]).idempotency_key(key);
            let appended = append("a").await?;
            assert_eq!(appended.is_duplicate, round > 0);
            let first = first.get_or_insert(appended.clone());
            assert_eq!((&appended.ids, appended.version), (&first.ids, 2));
            let other = append("b").await.unwrap_err();
            assert!(matches!(other, AppendError::Conflict { actual: Some(2), .. }), "{other}");
            let elsewhere = kit.runtime().aggregate("order", "8").append(ExpectedVersion::Any, [event(1)]);
            assert_eq!(elsewhere.idempotency_key("a").await?.is_duplicate, round > 0, "a key is of one aggregate");
            assert_eq!(read(&order, 0).await, [(1, 1), (2, 2)]);
            Ok(())
        });
    }
    testing::run(on(&store), async |kit| {
        tokio::time::advance(Duration::from_hours(25)).await;
        let order = kit.runtime().aggregate("order", "7");
        let again = order.append(ExpectedVersion::Any, [event(3)]).idempotency_key("a").await?;
        assert_eq!((again.is_duplicate, again.version), (false, 3), "it is forgotten by now");
        Ok(())
    });
}

#[test]
fn an_aggregate_is_read_whole_after_a_restart_and_after_its_log_was_trimmed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.redb");
    let _clock = testing::hold_clock();
    for round in 0..3_u64 {
        let store = Redb::open(&path).unwrap();
        testing::run(Runtime::builder().store(store).retention(Retention::default()), async |kit| {
            kit.on("order.*", Probe::<Json>::new().handler().named("seen"))?;
            for id in ["a", "b"] {
                let order = kit.runtime().aggregate("order", id);
                assert_eq!(order.version().await?.unwrap_or(0), round * 1_000);
                for batch in 0..10 {
                    let events = (0..100).map(|number| event(round * 1_000 + batch * 100 + number + 1));
                    order.append(ExpectedVersion::At(round * 1_000 + batch * 100), events).await?;
                }
            }
            kit.settle().await;
            for number in 0..10 {
                kit.emit(Draft::json("order.noise", json!(number)))?;
                kit.settle().await;
            }
            let all = (1..=(round + 1) * 1_000).map(|number| (number, number)).collect::<Vec<_>>();
            for id in ["a", "b"] {
                assert_eq!(read(&kit.runtime().aggregate("order", id), 0).await, all);
            }
            Ok(())
        });
    }
    let store = Redb::open(&path).unwrap();
    testing::run(Runtime::builder().store(store), async |kit| {
        let left = kit.runtime().history(">")?.events().try_collect::<Vec<_>>().await?;
        assert!(left.len() < 3_000, "the log was trimmed: {}", left.len());
        Ok(())
    });
}

#[test]
fn a_handler_that_appends_is_the_cause_and_its_tenant_the_owner() {
    testing::run(on(&Memory::new()), async |kit| {
        let runtime = kit.runtime().clone();
        let appends = move |_: Json| {
            let order = runtime.aggregate("order", "7");
            async move { order.append(ExpectedVersion::Any, [event(1)]).await.map(drop) }
        };
        kit.on("go", appends.named("appends"))?;
        let cause = kit.emit(Draft::json("go", json!(1)).tenant("t"))?.id();
        assert_eq!(kit.settle().await.handled, 1);
        let order = kit.runtime().tenant("t").aggregate("order", "7");
        let events: Vec<_> = order.read(0).try_collect().await?;
        assert_eq!(events[0].causation_id(), Some(cause));
        assert_eq!(kit.runtime().aggregate("order", "7").version().await?, None);
        Ok(())
    });
}

/// Appends a counter's next value until it is there, whatever the store does; nothing comes twice and nothing is left out.
#[test]
fn a_store_that_fails_neither_loses_nor_doubles_what_is_appended() {
    for seed in 0..40 {
        let store = FaultyStore::new(Memory::new(), seed).one_in(6);
        let seen = Arc::new(Mutex::new(Vec::new()));
        testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
            let sink = Arc::clone(&seen);
            let see = move |Json(number): Json| {
                sink.lock().unwrap().push(number.as_u64().unwrap());
                async {}
            };
            kit.on("order.*", see.named("see").starting_at(Start::Earliest))?;
            let order = kit.runtime().aggregate("order", "7");
            for number in 0..20_u64 {
                let events = || [event(number * 2 + 1), event(number * 2 + 2)];
                let key = format!("k{number}");
                loop {
                    // With and without a key, by turns.
                    let append = order.append(ExpectedVersion::At(number * 2), events());
                    let appended = match number % 2 {
                        0 => append.idempotency_key(&key).await,
                        _ => append.await,
                    };
                    match appended {
                        Ok(appended) => {
                            assert_eq!(appended.version, number * 2 + 2);
                            break;
                        }
                        Err(AppendError::Conflict { actual, .. })
                            if number % 2 == 1 && actual == Some(number * 2 + 2) =>
                        {
                            break;
                        }
                        Err(AppendError::Unknown { .. } | AppendError::Refused { .. }) => insist(&kit).await,
                        Err(error) => return Err(format!("seed {seed}: {error}").into()),
                    }
                }
            }
            insist(&kit).await;
            assert_eq!(
                read(&order, 0).await,
                (1..=40).map(|number| (number, number)).collect::<Vec<_>>(),
                "seed {seed}"
            );
            Ok(())
        });
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, (1..=40).collect::<Vec<_>>(), "seed {seed}");
    }
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

#[test]
fn a_key_that_is_taken_and_has_ended_at_once_is_damage_and_not_tried_for_ever() {
    const ONCE: Table = Table("once");
    let store = Memory::new();
    let append = async |kit: TestKit| {
        kit.aggregate("order", "7").append(ExpectedVersion::Any, [event(1)]).idempotency_key("k").await
    };
    testing::run(on(&store), async |kit| {
        append(kit.clone()).await?;
        kit.shutdown(Duration::from_secs(1)).await?;
        let mut rows = store.reader(PartitionId(0)).scan(ONCE, KeyRange::all(), 10).await?;
        let (key, value) = rows.pop().unwrap();
        // Its end is in the past, and nothing says so to the store.
        let value = [&value[..32], &[0; 8]].concat().into();
        let mut partition = store.claim(PartitionId(0)).await?.partition;
        partition.commit(vec![Op::Put { table: ONCE, key, value }]).await?;
        partition.release().await?;
        Ok(())
    });
    testing::run(on(&store), async |kit| {
        let error = append(kit.clone()).await.unwrap_err();
        assert!(format!("{error:?}").contains("is taken and has ended"), "{error:?}");
        Ok(())
    });
}

#[test]
fn what_is_returned_again_because_its_version_was_taken_counts_once_against_its_root() {
    testing::run(on(&Memory::new()), async |kit: TestKit| {
        kit.runtime().aggregate("order", "7").append(ExpectedVersion::New, [event(0)]).await?;
        let handler = |Json(_): Json, context: Context| async move {
            // The first ones are taken.
            let version = if context.attempt() < 6 { 1 } else { 2 };
            Draft::json("order.changed", json!(1)).aggregate("order", "7", version)
        };
        let retry = Retry::fixed(Duration::from_secs(1)).attempts(9);
        kit.on("order.placed", handler.named("change").max_events_per_root(2).retry(retry))?;
        kit.emit(Draft::json("order.placed", json!(1)))?.await?;
        kit.advance(Duration::from_mins(1)).await;
        assert_eq!(kit.stats().events.dropped.loops, 0, "{:?}", kit.dead_letters(&DeadLetterFilter::all()));
        assert_eq!(kit.runtime().aggregate("order", "7").version().await?, Some(2));
        Ok(())
    });
}
