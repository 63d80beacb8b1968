//! The past: read, followed, and made into states.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, future::poll_immediate};
use millstream::{
    Builder, Draft, Envelope, Events, ExpectedVersion, Handler, HistoryError, Json, Priority, Runtime,
    store::{Memory, Redb},
    testing::{self, FaultyStore, Probe, TestKit},
};
use serde_json::json;

fn on(store: &Memory) -> Builder {
    Runtime::builder().store(store.clone()).queue_size(100_000)
}

fn number(event: &Envelope) -> u64 {
    event.data().to_json().unwrap().as_u64().unwrap()
}

async fn all(events: Events) -> Vec<u64> {
    let events: Vec<Arc<Envelope>> = events.try_collect().await.unwrap();
    events.iter().map(|event| number(event)).collect()
}

fn draft(name: &str, number: u64) -> Draft {
    Draft::json(name, json!(number)).priority(Priority::ALL[usize::try_from(number % 4).unwrap()])
}

#[test]
fn events_are_read_in_the_order_of_the_log_over_all_classes() {
    let folder = tempfile::tempdir().unwrap();
    let redb = Redb::open(folder.path().join("log.redb")).unwrap();
    let _clock = testing::hold_clock();
    for builder in [on(&Memory::new()), Runtime::builder().store(redb).queue_size(100_000)] {
        testing::run(builder, async |kit| {
            for id in 0..500 {
                kit.emit(draft("a.b", id))?.await?;
            }
            assert_eq!(all(kit.runtime().history(">")?.events()).await, (0..500).collect::<Vec<_>>());
            // What comes while it is read is not waited for.
            let mut events = kit.runtime().history("a.*")?.events();
            assert_eq!(number(&events.try_next().await?.unwrap()), 0);
            kit.emit(draft("a.b", 999))?.await?;
            assert_eq!(events.count().await, 499);
            Ok(())
        });
    }
}

#[test]
fn a_history_leaves_out_what_nobody_asked_for() {
    testing::run(on(&Memory::new()), async |kit| {
        let start = kit.now();
        for id in 0..100_u64 {
            let name = ["order.placed", "order.paid", "stock.low"][usize::try_from(id % 3).unwrap()];
            let event = draft(name, id).key(id % 5).tenant(["x", "y"][usize::try_from(id % 2).unwrap()]);
            kit.emit(event)?.await?;
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let of = |pattern| kit.runtime().history(pattern).unwrap();
        let second = |seconds| start + Duration::from_secs(seconds);
        let pick = |keep: fn(u64) -> bool| (0..100).filter(|id| keep(*id)).collect::<Vec<u64>>();
        assert_eq!(all(of("order.*").events()).await, pick(|id| id % 3 < 2));
        assert_eq!(all(of("stock.low").events()).await, pick(|id| id % 3 == 2));
        assert!(all(of("nothing.*").events()).await.is_empty());
        assert_eq!(all(of(">").key("3").events()).await, pick(|id| id % 5 == 3));
        assert_eq!(all(of(">").tenant("y").events()).await, pick(|id| id % 2 == 1));
        assert_eq!(all(kit.runtime().tenant("x").history(">")?.events()).await, pick(|id| id % 2 == 0));
        let ten = of("order.*").since(second(10)).until(second(20)).events();
        assert_eq!(all(ten).await, pick(|id| (10..20).contains(&id) && id % 3 < 2));
        assert!(kit.runtime().history("no..pattern").is_err());
        let order = kit.runtime().aggregate("order", "7");
        order.append(ExpectedVersion::New, [draft("order.changed", 7)]).await?;
        kit.runtime().aggregate("order", "8").append(ExpectedVersion::New, [draft("order.changed", 8)]).await?;
        kit.runtime().aggregate("stock", "7").append(ExpectedVersion::New, [draft("order.changed", 9)]).await?;
        assert_eq!(all(of("order.*").aggregate_kind("order").events()).await, [7, 8]);
        assert_eq!(all(of(">").aggregate("order", "7").events()).await, [7]);
        Ok(())
    });
}

#[test]
fn reading_goes_on_from_a_place_over_restarts() {
    let store = Memory::new();
    let mut place = None;
    let mut seen = Vec::new();
    for round in 0..4_u64 {
        testing::run(on(&store), async |kit| {
            for id in 0..50 {
                kit.emit(draft("a", round * 50 + id))?.await?;
            }
            let mut history = kit.runtime().history("a")?;
            if let Some(place) = place {
                history = history.from(place);
            }
            let mut events = history.events();
            for _ in 0..40 {
                seen.push(number(&events.try_next().await?.unwrap()));
            }
            place = Some(events.place());
            Ok(())
        });
    }
    assert_eq!(seen, (0..160).collect::<Vec<_>>());
}

#[test]
fn who_follows_gets_what_was_and_what_comes_each_once() {
    testing::run(on(&Memory::new()), async |kit| {
        for id in 0..30 {
            kit.emit(draft("a", id))?.await?;
        }
        let mut events = kit.runtime().history("a")?.follow();
        let mut seen = Vec::new();
        for id in 30..60 {
            kit.emit(draft("a", id))?;
            kit.emit(draft("b", id))?.await?;
            while let Some(Some(next)) = poll_immediate(events.next()).await {
                let next = next?;
                seen.push(number(&next));
            }
        }
        kit.settle().await;
        kit.shutdown(Duration::from_secs(1)).await?;
        seen.extend(all(events).await);
        assert_eq!(seen, (0..60).collect::<Vec<_>>());
        Ok(())
    });
}

#[test]
fn a_projection_takes_in_what_was_and_goes_on() {
    testing::run(on(&Memory::new()), async |kit| {
        for id in 0..10 {
            kit.emit(draft("a", id))?.await?;
        }
        let mut seen = kit.runtime().history("a")?.project(Vec::new(), |seen, event| seen.push(number(event)));
        assert_eq!(seen.place(), millstream::store::Seq(0));
        assert_eq!(seen.catch_up().await?.len(), 10);
        assert_eq!(seen.catch_up().await?.len(), 10, "and nothing twice");
        let runtime = kit.runtime().clone();
        let later = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            runtime.emit(draft("b", 1)).unwrap().await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            runtime.emit(draft("a", 10)).unwrap().await.unwrap();
        };
        let (changed, ()) = futures::join!(seen.changed(), later);
        assert_eq!(changed?, &(0..=10).collect::<Vec<_>>());
        kit.settle().await;
        kit.shutdown(Duration::ZERO).await?;
        assert!(matches!(seen.changed().await, Err(HistoryError::Closed)));
        assert_eq!(seen.into_state().len(), 11);
        Ok(())
    });
}

#[test]
fn what_was_trimmed_before_it_was_read_is_an_error_and_then_it_goes_on() {
    testing::run(on(&Memory::new()), async |kit| {
        kit.on("a", Probe::<Json>::new().handler().named("reader"))?;
        let normal = |id: u64| Draft::json("a", json!(id));
        for id in 0..100 {
            kit.emit(normal(id))?;
        }
        let mut seen = kit.runtime().history("a")?.project(0, |count, _| *count += 1);
        kit.runtime().emit(normal(100))?.await?;
        seen.catch_up().await?;
        for round in 0..5 {
            for id in 0..2_000 {
                kit.emit(normal(1_000 + round * 2_000 + id))?;
            }
            kit.settle().await;
        }
        for id in 0..20 {
            kit.emit(normal(20_000 + id))?.await?;
        }
        assert!(matches!(seen.catch_up().await, Err(HistoryError::Trimmed { .. })));
        let before = *seen.state();
        let after = *seen.catch_up().await?;
        assert!(before == 101 && after > before && after < 10_101, "{before} {after}");
        let from_first = kit.runtime().history("a")?.events();
        assert_eq!(from_first.count().await, after - before, "who begins at the first that is kept misses nothing");
        Ok(())
    });
}

#[test]
fn a_runtime_without_a_store_has_no_history() {
    testing::run(Runtime::builder(), async |kit: TestKit| {
        let mut events = kit.runtime().history(">")?.events();
        assert!(matches!(events.next().await, Some(Err(HistoryError::NeedsStore))));
        assert!(events.next().await.is_none());
        let mut none = kit.runtime().history(">")?.project((), |(), _| ());
        assert!(matches!(none.catch_up().await, Err(HistoryError::NeedsStore)));
        Ok(())
    });
}

#[test]
fn pages_that_end_early_change_nothing() {
    for seed in 0..20 {
        let store = FaultyStore::new(Memory::new(), seed).one_in(0);
        testing::run(Runtime::builder().store(store.clone()), async |kit| {
            for id in 0..80 {
                kit.emit(draft(["a", "b"][usize::try_from(id % 2).unwrap()], id))?.await?;
            }
            let failing = store.clone().one_in(3);
            for _ in 0..10 {
                let seen = all(kit.runtime().history("a")?.events()).await;
                assert_eq!(seen, (0..80).filter(|id| id % 2 == 0).collect::<Vec<_>>());
            }
            drop(failing.one_in(0));
            Ok(())
        });
    }
}
