//! What stays in the log, and what goes.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use millstream::{
    Builder, Draft, Handler, Json, Limits, Priority, Retention, Runtime, Start,
    store::{Memory, PartitionId, Redb, Store},
    testing::{self, Probe, TestKit},
};
use serde_json::json;

fn on(store: &Memory, retention: Retention) -> Builder {
    Runtime::builder().store(store.clone()).retention(retention).queue_size(100_000)
}

fn text(number: u64) -> Draft {
    // What hardly can be compressed.
    let letter = |at: u64| {
        (number * 1_000 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).wrapping_mul(0xd6e8_feb8_6659_fd93)
    };
    let noise: String = (0..200).map(|at| char::from(b'0' + u8::try_from(letter(at) >> 58).unwrap())).collect();
    Draft::json("text", json!({ "number": number, "noise": noise }))
}

fn reader() -> impl Handler<(Json,)> {
    Probe::<Json>::new().handler().named("reader")
}

async fn emit(kit: &TestKit, numbers: std::ops::Range<u64>) {
    for batch in numbers.collect::<Vec<_>>().chunks(100) {
        for &number in batch {
            let class = Priority::ALL[usize::try_from(number % 4).unwrap()];
            kit.emit(text(number).priority(class)).unwrap();
        }
        kit.settle().await;
    }
}

async fn kept(kit: &TestKit) -> Vec<u64> {
    let events: Vec<_> = kit.runtime().history("text").unwrap().events().try_collect().await.unwrap();
    events.iter().map(|event| event.data().to_json().unwrap()["number"].as_u64().unwrap()).collect()
}

async fn bytes(store: &dyn Store) -> u64 {
    store.reader(PartitionId(0)).extent().await.unwrap().bytes()
}

#[test]
fn a_log_stays_within_its_size_and_keeps_what_is_newest() {
    const MOST: u64 = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let redb = Redb::open(folder.path().join("log.redb")).unwrap();
    let _clock = testing::hold_clock();
    let memory = Memory::new();
    let slack = [(&memory as &dyn Store, 5_000), (&redb as &dyn Store, 70_000)];
    let builders = [Runtime::builder().store(memory.clone()), Runtime::builder().store(redb.clone())];
    for (builder, (store, slack)) in builders.into_iter().zip(slack) {
        testing::run(builder.retention(Retention::Bytes(MOST)).queue_size(100_000), async |kit| {
            kit.on("text", reader())?;
            emit(&kit, 0..100).await;
            assert_eq!(kept(&kit).await.len(), 100, "what has room stays");
            for round in 1..40 {
                emit(&kit, round * 100..(round + 1) * 100).await;
                let now = bytes(store).await;
                assert!(now < MOST + slack + 40_000, "round {round}: {now}");
            }
            let kept = kept(&kit).await;
            assert!(kept.len() > 100 && kept.len() < 3_000, "{}", kept.len());
            let mut sorted = kept.clone();
            sorted.sort_unstable();
            assert_eq!(sorted.last(), Some(&3_999));
            let newest = 4_000 - sorted[sorted.len() / 2];
            assert!(newest < 3_000, "the newest half are new: {newest}");
            Ok(())
        });
    }
}

#[test]
fn what_somebody_has_not_handled_stays_whatever_the_limits() {
    let (store, retention) = (Memory::new(), Retention::Within(Limits::new().events(100).bytes(10_000)));
    testing::run(on(&store, retention), async |kit| {
        let slow = kit.on("text", Probe::<Json>::new().handler().named("slow"))?;
        kit.on("text", reader())?;
        kit.settle().await;
        kit.off(slow);
        emit(&kit, 0..5_000).await;
        assert_eq!(kept(&kit).await.len(), 5_000);
        let late = Probe::<Json>::new();
        kit.on("text", late.handler().named("slow"))?;
        kit.settle().await;
        assert_eq!(late.received().len(), 5_000);
        emit(&kit, 5_000..7_000).await;
        assert!(kept(&kit).await.len() < 2_000);
        assert!(kit.health().findings.is_empty(), "{:?}", kit.health());
        Ok(())
    });
}

#[test]
fn of_several_limits_the_first_that_is_reached_counts() {
    let age = Duration::from_secs(100);
    for (limits, most) in [
        (Limits::new().age(age).events(1_000_000), 2_600),
        (Limits::new().age(age * 1_000).events(2_000), 3_100),
        (Limits::new().age(age * 1_000).bytes(100_000), 1_000),
    ] {
        testing::run(on(&Memory::new(), Retention::Within(limits)), async |kit| {
            kit.on("text", reader())?;
            for round in 0..100 {
                emit(&kit, round * 100..(round + 1) * 100).await;
                tokio::time::advance(Duration::from_secs(10)).await;
            }
            let kept = kept(&kit).await.len();
            assert!(kept <= most && kept > 100, "{limits:?}: {kept}");
            Ok(())
        });
    }
    testing::run(on(&Memory::new(), Retention::All), async |kit| {
        kit.on("text", reader())?;
        emit(&kit, 0..5_000).await;
        assert_eq!(kept(&kit).await.len(), 5_000);
        Ok(())
    });
}

#[test]
fn strict_limits_take_what_a_slow_reader_has_not_read_and_count_it() {
    let strict = |limits: Limits| Retention::Within(limits.strict());
    for retention in [strict(Limits::new().events(1_000)), strict(Limits::new().bytes(300_000))] {
        let store = Memory::new();
        testing::run(on(&store, retention), async |kit| {
            let slow = kit.on("text", Probe::<Json>::new().handler().named("slow"))?;
            kit.on("text", reader())?;
            emit(&kit, 0..10).await;
            kit.off(slow);
            emit(&kit, 10..5_000).await;
            Ok(())
        });
        testing::run(on(&store, retention), async |kit| {
            let late = Probe::<Json>::new();
            kit.on("text", reader())?;
            kit.on("text", late.handler().named("slow"))?;
            let first = Probe::<Json>::new();
            kit.on("text", first.handler().named("first").starting_at(Start::Earliest))?;
            kit.settle().await;
            let got = late.received().len();
            assert!(got > 500 && got < 3_500, "{got}");
            assert_eq!(first.received().len(), got, "it began with the first that is kept");
            let describe = kit.runtime().describe();
            let trimmed = |name| describe.subscriptions.iter().find(|s| s.name == name).unwrap().book.trimmed;
            assert!(usize::try_from(trimmed("slow")).unwrap() >= 4_990 - got, "{} {got}", trimmed("slow"));
            assert_eq!(trimmed("reader"), 0, "who keeps up has lost nothing");
            let findings = kit.health().findings;
            assert!(findings.iter().any(|finding| finding.contains("`slow` has lost up to")), "{findings:?}");
            emit(&kit, 5_000..5_100).await;
            assert_eq!(late.received().len(), got + 100, "and it goes on");
            Ok(())
        });
    }
}

#[test]
fn what_was_open_and_is_trimmed_holds_the_log_no_more() {
    let store = Memory::new();
    let hangs = || (|_: Json| std::future::pending::<()>()).named("hangs").timeout(Duration::from_hours(1_000));
    testing::run(on(&store, Retention::All), async |kit| {
        kit.on("text", hangs())?;
        for number in 0..50 {
            kit.emit(text(number))?;
        }
        assert!(tokio::time::timeout(Duration::from_secs(1), kit.runtime().process()).await.is_err());
        Ok(())
    });
    let strict = Retention::Within(Limits::new().events(1_100).strict());
    testing::run(on(&store, strict), async |kit| {
        kit.on("other", reader())?;
        for number in 0..5_000 {
            kit.emit(Draft::json("other", json!(number)))?;
        }
        kit.settle().await;
        Ok(())
    });
    testing::run(on(&store, Retention::Handled), async |kit| {
        let seen = Probe::<Json>::new();
        kit.on("other", reader())?;
        kit.on("text", seen.handler().named("hangs"))?;
        for number in 0..3_000 {
            kit.emit(Draft::json("other", json!(number)))?;
        }
        kit.settle().await;
        assert_eq!(seen.received().len(), 0, "they are gone");
        let left = kit.runtime().history(">")?.events().count().await;
        assert!(left < 2_500, "and hold nothing: {left}");
        Ok(())
    });
}

#[test]
fn a_limit_of_zero_is_refused() {
    let zero = [Retention::Age(Duration::ZERO), Retention::Bytes(0), Retention::Within(Limits::new().events(0))];
    for retention in zero {
        let error = on(&Memory::new(), retention).build().unwrap_err();
        assert!(error.to_string().contains("retention"), "{error}");
    }
}
