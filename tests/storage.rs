//! Key-value storage: written with a handler's outcome, or by itself.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use millstream::{
    Builder, Context, Draft, Expect, Handler, HandlerError, Retry, Runtime, Storage, StorageError,
    store::{Memory, Redb},
    testing::{self, FaultyStore, TestKit},
};
use serde_json::json;

fn number(id: u64) -> Draft {
    Draft::json("number", json!(id))
}

/// Counts each event once; gives way between reading and writing, so that others come in between.
async fn count(context: Context) -> Result<(), HandlerError> {
    let counts = context.storage("counts");
    let before: u64 = counts.get_json("all").await?.unwrap_or(0);
    tokio::task::yield_now().await;
    counts.put_json("all", &(before + 1)).await?;
    Ok(())
}

fn counter() -> impl Handler<(Context,)> {
    count.named("count")
}

async fn counted(kit: &TestKit) -> u64 {
    kit.runtime().storage("counts").get_json("all").await.unwrap().unwrap_or(0)
}

fn everywhere(test: impl AsyncFn(TestKit) + Copy) {
    for builder in [Runtime::builder(), Runtime::builder().store(Memory::new())] {
        testing::run(builder, async |kit| {
            test(kit).await;
            Ok(())
        });
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Redb::open(folder.path().join("rows.redb")).unwrap();
    let _clock = testing::hold_clock();
    testing::run(Runtime::builder().store(store), async |kit| {
        test(kit).await;
        Ok(())
    });
}

async fn keys(storage: &Storage, prefix: &str, limit: usize) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), None::<bytes::Bytes>);
    loop {
        let page = storage.scan(prefix, after.as_deref(), limit).await.unwrap();
        assert!(page.len() <= limit);
        found.extend(page.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()));
        after = page.last().map(|(key, _)| key.clone());
        if page.len() < limit {
            return found;
        }
    }
}

#[test]
fn a_value_is_put_read_replaced_and_deleted() {
    everywhere(async |kit| {
        let storage = kit.runtime().storage("n");
        assert_eq!(storage.get("k").await.unwrap(), None);
        storage.put("k", "one").await.unwrap();
        assert_eq!(storage.get("k").await.unwrap().unwrap(), "one");
        storage.put_json("k", &json!({"two": 2})).await.unwrap();
        assert_eq!(storage.get_json::<serde_json::Value>("k").await.unwrap(), Some(json!({"two": 2})));
        storage.delete("k").await.unwrap();
        storage.delete("k").await.unwrap();
        assert_eq!(storage.get("k").await.unwrap(), None);
    });
}

#[test]
fn a_put_on_a_condition_is_done_only_where_it_is_met() {
    everywhere(async |kit| {
        let storage = kit.runtime().storage("n");
        assert!(storage.put_if("k", Expect::Absent, "1").await.unwrap());
        assert!(!storage.put_if("k", Expect::Absent, "2").await.unwrap());
        assert!(!storage.put_if("k", Expect::equals("2"), "3").await.unwrap());
        assert!(storage.put_if("k", Expect::equals("1"), "3").await.unwrap());
        assert_eq!(storage.get("k").await.unwrap().unwrap(), "3");
        // Everybody adds one, all at once.
        let add = async || loop {
            let now = storage.get("sum").await.unwrap();
            let sum: u64 = now.as_ref().map_or(0, |now| std::str::from_utf8(now).unwrap().parse().unwrap());
            let expect = now.map_or(Expect::Absent, Expect::Equals);
            if storage.put_if("sum", expect, (sum + 1).to_string()).await.unwrap() {
                return;
            }
        };
        futures::future::join_all((0..10).map(|_| add())).await;
        assert_eq!(storage.get("sum").await.unwrap().unwrap(), "10");
    });
}

#[test]
fn namespaces_and_tenants_are_apart() {
    everywhere(async |kit| {
        let runtime = kit.runtime();
        let all = [runtime.storage("a"), runtime.storage("b"), runtime.tenant("t").storage("a")];
        for (place, storage) in all.iter().enumerate() {
            storage.put("k", place.to_string()).await.unwrap();
        }
        for (place, storage) in all.iter().enumerate() {
            assert_eq!(storage.get("k").await.unwrap().unwrap(), place.to_string());
            assert_eq!(keys(storage, "", 9).await, ["k"]);
        }
        let of_event = async |context: Context| -> Result<(), HandlerError> {
            context.storage("a").put("from", "a handler").await?;
            Ok(())
        };
        runtime.on("number", of_event.named("writer")).unwrap();
        kit.emit(number(1).tenant("t")).unwrap();
        kit.settle().await;
        assert_eq!(keys(&all[2], "", 9).await, ["from", "k"]);
        assert_eq!(keys(&all[0], "", 9).await, ["k"]);
    });
}

#[test]
fn a_scan_is_in_order_by_pages_and_sees_what_is_on_its_way() {
    everywhere(async |kit| {
        let storage = kit.runtime().storage("n");
        for key in ["a", "p/1", "p/3", "p/5", "p/7", "p/9", "z"] {
            storage.put(key, key.to_owned()).await.unwrap();
        }
        for limit in 1..8 {
            assert_eq!(keys(&storage, "p/", limit).await, ["p/1", "p/3", "p/5", "p/7", "p/9"]);
        }
        assert_eq!(storage.scan("p/", None, 0).await.unwrap(), []);
        let looks = async |context: Context| -> Result<(), HandlerError> {
            let storage = context.storage("n");
            for key in ["p/0", "p/4", "p/99"] {
                storage.put(key, "own").await?;
            }
            for key in ["p/3", "p/7", "p/none"] {
                storage.delete(key).await?;
            }
            for limit in 1..9 {
                assert_eq!(keys(&storage, "p/", limit).await, ["p/0", "p/1", "p/4", "p/5", "p/9", "p/99"], "{limit}");
            }
            Ok(())
        };
        kit.on("number", looks.named("looks")).unwrap();
        kit.emit(number(1)).unwrap();
        assert_eq!(kit.settle().await.handled, 1);
        assert_eq!(keys(&storage, "p/", 2).await, ["p/0", "p/1", "p/4", "p/5", "p/9", "p/99"]);
    });
}

#[test]
fn a_counter_is_right_under_any_concurrency() {
    everywhere(async |kit| {
        kit.on("number", counter()).unwrap();
        for id in 0..40 {
            kit.emit(number(id)).unwrap();
        }
        let report = kit.settle().await;
        assert_eq!((report.handled, report.dead, report.retried), (40, 0, 0));
        let book = kit.stats().deliveries;
        assert!(book.conflicts > 0 && book.balances(), "they were in each other's way: {book:?}");
        assert_eq!(counted(&kit).await, 40);
    });
}

#[test]
fn a_handler_that_writes_outside_what_it_watches_inside_fails_in_the_end() {
    everywhere(async |kit| {
        let begun = Arc::new(AtomicU64::new(0));
        let (outside, begins) = (kit.runtime().storage("counts"), Arc::clone(&begun));
        let misled = move |context: Context| {
            let (outside, begins) = (outside.clone(), Arc::clone(&begins));
            async move {
                let inside = context.storage("counts");
                let before: u64 = inside.get_json("numbers").await?.unwrap_or(0);
                outside.put_json("numbers", &begins.fetch_add(1, Ordering::Relaxed)).await?;
                inside.put_json("numbers", &(before + 1)).await?;
                Ok::<_, HandlerError>(())
            }
        };
        kit.on("number", misled.named("misled")).unwrap();
        kit.emit(number(1)).unwrap();
        assert_eq!(kit.settle().await.dead, 1);
        let letters = kit.dead_letters(&millstream::DeadLetterFilter::all());
        assert_eq!((letters[0].attempts, letters[0].failures[0].code.as_deref()), (1, Some("conflict")));
        let book = kit.stats().deliveries;
        assert_eq!((begun.load(Ordering::Relaxed), book.retried), (book.conflicts, 0));
        assert!(book.conflicts > 100 && book.balances(), "{book:?}");
    });
}

#[test]
fn what_a_handler_writes_is_written_with_its_outcome_or_not_at_all() {
    everywhere(async |kit| {
        let fails = async |context: Context| -> Result<Draft, HandlerError> {
            let storage = context.storage("n");
            assert_eq!(storage.get("k").await?, None);
            storage.put("k", context.attempt().to_string()).await?;
            assert_eq!(storage.get("k").await?.unwrap(), context.attempt().to_string(), "its own write");
            if context.attempt() < 3 { Err(HandlerError::transient("no")) } else { Ok(Draft::json("done", json!(1))) }
        };
        kit.on("number", fails.named("fails").retry(Retry::fixed(Duration::from_secs(1)))).unwrap();
        kit.emit(number(1)).unwrap();
        kit.settle().await;
        assert_eq!(kit.runtime().storage("n").get("k").await.unwrap().unwrap(), "3");
        assert_eq!(kit.stats().events.emitted, 2);
    });
}

#[test]
fn the_next_event_of_a_key_sees_what_the_one_before_wrote() {
    everywhere(async |kit| {
        let adds = async |context: Context| -> Result<(), HandlerError> {
            let storage = context.storage("n");
            let key = context.event().key().unwrap().as_str().to_owned();
            let before: u64 = storage.get_json(&key).await?.unwrap_or(0);
            tokio::task::yield_now().await;
            storage.put_json(&key, &(before + 1)).await?;
            Ok(())
        };
        kit.on("number", adds.named("adds").ordered_by_key()).unwrap();
        for id in 0..60 {
            kit.emit(number(id).key(id % 3)).unwrap();
        }
        let report = kit.settle().await;
        assert_eq!((report.handled, report.retried, report.dead), (60, 0, 0), "nobody is in anybody's way");
        let storage = kit.runtime().storage("n");
        for key in ["0", "1", "2"] {
            assert_eq!(storage.get_json::<u64>(key).await.unwrap(), Some(20));
        }
    });
}

#[test]
fn what_is_too_large_or_too_late_is_an_error_and_writes_nothing() {
    testing::run(Runtime::builder().store(Memory::new()).max_value_size(10), async |kit| {
        let storage = kit.runtime().storage("n");
        let large = storage.put("k", "12345678901").await.unwrap_err();
        assert!(matches!(large, StorageError::ValueTooLarge { bytes: 11, limit: 10 }), "{large}");
        let long = storage.put("k".repeat(2_000), "1").await.unwrap_err();
        assert!(matches!(long, StorageError::KeyTooLong { bytes: 2_000, .. }), "{long}");
        storage.put("k", "no json").await?;
        let wrong = storage.get_json::<u64>("k").await.unwrap_err();
        assert!(matches!(wrong, StorageError::Json { .. }), "{wrong}");
        let (send, kept) = tokio::sync::oneshot::channel();
        let send = std::sync::Mutex::new(Some(send));
        let leaks = move |context: Context| {
            let _ = send.lock().unwrap().take().map(|send| send.send(context));
            async {}
        };
        kit.on("number", leaks.named("leaks"))?;
        kit.emit(number(1))?;
        kit.settle().await;
        let context: Context = kept.await?;
        assert_eq!(storage.get("late").await?, None);
        let late = context.storage("n").put("late", "1").await.unwrap_err();
        assert!(matches!(late, StorageError::Ended), "{late}");
        kit.shutdown(Duration::ZERO).await?;
        let closed = storage.put("k", "1").await.unwrap_err();
        assert!(matches!(closed, StorageError::Closed), "{closed}");
        assert!(matches!(storage.get("k").await, Err(StorageError::Store(_))), "the store is let go of");
        Ok(())
    });
    assert!(Runtime::builder().max_value_size(0).build().is_err());
}

#[test]
fn a_handler_may_write_through_the_runtime_as_well() {
    testing::run(Runtime::builder().store(Memory::new()), async |kit| {
        let runtime = kit.runtime().clone();
        let outside = move |context: Context| {
            let storage = runtime.storage("n");
            async move {
                storage.put("seen", context.event().id().to_string()).await?;
                Ok::<_, StorageError>(())
            }
        };
        kit.on("number", outside.named("outside").concurrency(1))?;
        for id in 0..5 {
            kit.emit(number(id))?;
        }
        assert_eq!(kit.settle().await.handled, 5);
        assert!(kit.runtime().storage("n").get("seen").await?.is_some());
        Ok(())
    });
}

#[test]
fn a_write_needs_nobody_who_drives_and_gets_on_beside_one_who_does() {
    testing::run(Runtime::builder().store(Memory::new()), async |kit| {
        kit.on("number", counter())?;
        kit.emit(number(1))?.await?;
        kit.runtime().storage("n").put("k", "1").await?;
        assert_eq!(kit.stats().deliveries.created, 0, "it ran no handler");
        let driven = kit.runtime().clone();
        let drive = async move { driven.run().await.map(drop) };
        let write = async {
            for id in 0..20 {
                kit.runtime().storage("n").put("k", id.to_string()).await.unwrap();
            }
            kit.settle().await;
            assert_eq!(counted(&kit).await, 1);
            kit.shutdown(Duration::from_secs(1)).await.map(drop)
        };
        let (driven, written) = futures::join!(drive, write);
        driven?;
        written?;
        Ok(())
    });
}

#[test]
fn all_of_it_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.redb");
    let _clock = testing::hold_clock();
    for round in 0..4_u64 {
        let builder = Runtime::builder().store(Redb::open(&path).unwrap());
        testing::run(builder, async |kit| {
            assert_eq!(counted(&kit).await, round * 30);
            kit.on("number", counter())?;
            for id in 0..30 {
                kit.emit(number(id))?;
            }
            kit.settle().await;
            Ok(())
        });
    }
}

fn on(store: &FaultyStore) -> Builder {
    Runtime::builder().store(store.clone())
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
fn a_store_that_fails_never_counts_twice_or_loses_one() {
    for seed in 0..60 {
        let store = FaultyStore::new(Memory::new(), seed).one_in(12);
        let ran = Arc::new(AtomicU64::new(0));
        let mut sent = 0;
        for _ in 0..3 {
            testing::run(on(&store), async |kit| {
                let runs = Arc::clone(&ran);
                let counts = move |context: Context| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    count(context)
                };
                kit.on(
                    "number",
                    counts.named("count").retry(Retry::fixed(Duration::from_millis(1)).attempts(u32::MAX)),
                )?;
                insist(&kit).await;
                for _ in 0..15 {
                    let key = format!("n{sent}");
                    loop {
                        let saved = match kit.emit(number(sent).idempotency_key(&key)) {
                            Ok(receipt) => receipt.await.is_ok(),
                            Err(_) => false,
                        };
                        if saved {
                            break;
                        }
                        insist(&kit).await;
                    }
                    sent += 1;
                }
                insist(&kit).await;
                assert_eq!(counted(&kit).await, sent, "seed {seed}");
                Ok(())
            });
        }
        assert!(store.faults() > 0 && ran.load(Ordering::Relaxed) >= sent);
    }
}

#[test]
fn a_write_whose_answer_is_unknown_is_either_there_or_not() {
    for seed in 0..40 {
        let store = FaultyStore::new(Memory::new(), seed).one_in(5);
        testing::run(on(&store), async |kit| {
            let storage = kit.runtime().storage("n");
            let mut last = None;
            for value in 0..30_u64 {
                match storage.put("k", value.to_string()).await {
                    Ok(()) => last = Some(value),
                    Err(StorageError::Unknown { .. }) => {
                        tokio::time::advance(Duration::from_secs(10)).await;
                        let now = storage.get("k").await?.map(|now| String::from_utf8_lossy(&now).parse());
                        let now: Option<u64> = now.transpose()?;
                        assert!(now == last || now == Some(value), "seed {seed}: {now:?}, {last:?}, {value}");
                        last = now;
                    }
                    Err(error) => return Err(error.into()),
                }
                assert_eq!(storage.get("k").await?.map(|now| now.to_vec()), last.map(|v| v.to_string().into_bytes()));
            }
            Ok(())
        });
    }
}
