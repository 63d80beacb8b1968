//! Events whose handlers end the process: they are found out and laid aside, and nobody else suffers for it.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt as _;
use millstream::{
    DeadLetterFilter, Death, Event, Handler, Replay, Runtime, Start,
    store::{Claim, Class, KeyRange, Memory, Op, PartitionId, Seq, Store, StoreError, StoreFuture, tables},
    testing::{self, FaultyStore, HookedStore, StoreHooks, TestKit},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "job")]
struct Job {
    id: u64,
}

/// How often each job was begun, and how often it ended, in all lives.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<BTreeMap<u64, (u32, u32)>>>);

impl Diary {
    fn begins(&self, id: u64) {
        self.0.lock().unwrap().entry(id).or_default().0 += 1;
    }

    fn ends(&self, id: u64) {
        self.0.lock().unwrap().entry(id).or_default().1 += 1;
    }

    fn of(&self, id: u64) -> (u32, u32) {
        self.0.lock().unwrap().get(&id).copied().unwrap_or_default()
    }

    /// The most that were begun and had not ended.
    fn open(&self) -> usize {
        self.0.lock().unwrap().values().filter(|(begun, ended)| begun > ended).count()
    }
}

/// Takes a second for each job, but for one with which the process ends.
fn work(diary: &Diary, poison: u64, end: &Arc<Notify>) -> impl Handler<(Job,)> + use<> {
    let (diary, end) = (diary.clone(), Arc::clone(end));
    let handler = move |job: Job| {
        let (diary, end) = (diary.clone(), Arc::clone(&end));
        async move {
            diary.begins(job.id);
            if job.id == poison {
                end.notify_one();
                return std::future::pending().await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            diary.ends(job.id);
        }
    };
    handler.named("work").concurrency(8).starting_at(Start::Earliest)
}

/// Emits jobs into a store, and is shut down.
fn fill(store: &Memory, jobs: std::ops::RangeInclusive<u64>) {
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        for id in jobs {
            kit.emit(Job { id })?.await?;
        }
        kit.shutdown(Duration::from_secs(1)).await?;
        Ok(())
    });
}

/// One process: it works until it has done all, or until it ends in the middle. Whether it has done all.
fn live(store: &Memory, diary: &Diary, poison: u64) -> bool {
    let (end, is_done) = (Arc::new(Notify::new()), Arc::new(Mutex::new(false)));
    let (diary, done) = (diary.clone(), Arc::clone(&is_done));
    testing::run(Runtime::builder().store(store.clone()), async move |kit: TestKit| {
        kit.on("job", work(&diary, poison, &end))?;
        tokio::select! {
            biased;
            () = end.notified() => {}
            report = kit.process() => {
                report?;
                kit.assert_balanced();
                *done.lock().unwrap() = true;
            }
        }
        Ok(())
    });
    *is_done.lock().unwrap()
}

/// The letters that a store has, looked at by a runtime that handles nothing.
fn letters(store: &Memory) -> Vec<(u64, Death, String)> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let letters = Arc::clone(&found);
    testing::run(Runtime::builder().store(store.clone()), async move |kit: TestKit| {
        kit.process().await?;
        for letter in kit.dead_letters(&DeadLetterFilter::all()) {
            let id = letter.event.data().to_json()?["id"].as_u64().unwrap();
            letters.lock().unwrap().push((id, letter.death, letter.reason()));
        }
        kit.shutdown(Duration::from_secs(1)).await?;
        Ok(())
    });
    let found = found.lock().unwrap();
    found.clone()
}

fn marks(store: &Memory) -> usize {
    let reader = store.reader(PartitionId(0));
    // A store in memory answers at once.
    reader.scan(tables::ATTEMPT, KeyRange::all(), 100).now_or_never().unwrap().unwrap().len()
}

#[test]
fn an_event_that_ends_the_process_again_and_again_is_a_dead_letter_and_all_others_are_handled() {
    let (store, diary) = (Memory::new(), Diary::default());
    fill(&store, 1..=5);
    let lives = (1..=20).find(|_| live(&store, &diary, 3)).unwrap();
    assert_eq!(lives, 5, "one life that wrote nothing down, three that count, and the one that has done");
    assert_eq!(diary.of(3), (4, 0));
    for id in [1, 2, 4, 5] {
        assert_eq!(diary.of(id).1, 1, "{id} is handled");
    }
    let found = letters(&store);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0, found[0].1), (3, Death::Crashed));
    assert!(found[0].2.contains("3 of its attempts"), "{}", found[0].2);
    assert_eq!(marks(&store), 0, "what has ended is marked no more");
}

#[test]
fn after_a_shutdown_nothing_is_held_against_what_was_in_flight() {
    let (store, diary) = (Memory::new(), Diary::default());
    fill(&store, 1..=1);
    for _ in 0..10 {
        let diary = diary.clone();
        testing::run(Runtime::builder().store(store.clone()), async move |kit: TestKit| {
            let end = Arc::new(Notify::new());
            kit.on("job", work(&diary, 1, &end))?;
            tokio::select! {
                biased;
                () = end.notified() => {}
                _ = kit.process() => {}
            }
            kit.shutdown(Duration::ZERO).await?;
            Ok(())
        });
    }
    assert_eq!(diary.of(1), (10, 0));
    assert!(live(&store, &diary, 99), "it is handled in the end");
    assert_eq!(letters(&store).len(), 0);
}

#[cfg(feature = "archive")]
#[test]
fn a_tool_that_had_the_store_in_between_is_no_crash() {
    let (store, diary) = (Memory::new(), Diary::default());
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let archive = millstream::archive::Archive::new(store.clone());
    tokio.block_on(async { archive.import().await.unwrap().finish().await.unwrap() });
    fill(&store, 1..=1);
    tokio.block_on(archive.purge(&DeadLetterFilter::all())).unwrap();
    assert!(!live(&store, &diary, 1));
    assert_eq!(marks(&store), 0, "it was begun at once");
    tokio.block_on(archive.purge(&DeadLetterFilter::all())).unwrap();
    assert!(!live(&store, &diary, 1));
    assert_eq!(marks(&store), 1, "but a tool does not make up for a crash");
}

#[cfg(feature = "archive")]
#[test]
fn tools_between_shutdowns_make_no_crash_of_what_was_in_flight() {
    let (store, diary) = (Memory::new(), Diary::default());
    fill(&store, 1..=1);
    assert!(!live(&store, &diary, 1), "a crash, after which it is marked");
    let archive = millstream::archive::Archive::new(store.clone());
    for _ in 0..4 {
        let (store, diary) = (store.clone(), diary.clone());
        testing::run(Runtime::builder().store(store).max_crashes(1), async move |kit: TestKit| {
            let end = Arc::new(Notify::new());
            kit.on("job", work(&diary, 1, &end))?;
            tokio::select! {
                biased;
                () = end.notified() => {}
                _ = kit.process() => {}
            }
            kit.shutdown(Duration::ZERO).await?;
            Ok(())
        });
        archive.purge(&DeadLetterFilter::all().numbers([99])).now_or_never().unwrap().unwrap();
    }
    assert_eq!((marks(&store), letters(&store).len()), (0, 0));
    assert_eq!(diary.of(1), (5, 0));
}

#[test]
fn what_was_in_flight_beside_the_culprit_is_begun_alone_and_blamed_for_nothing() {
    let (store, diary) = (Memory::new(), Diary::default());
    fill(&store, 1..=6);
    assert!(!live(&store, &diary, 6), "nothing is written down");
    assert!(!live(&store, &diary, 6), "all are marked");
    assert_eq!(marks(&store), 6);
    assert_eq!(diary.open(), 6, "all were begun together");
    let most = Arc::new(Mutex::new(0));
    testing::run(Runtime::builder().store(store.clone()), {
        let most = Arc::clone(&most);
        async move |kit: TestKit| {
            let running = Arc::new(Mutex::new(0));
            let handler = move |_: Job| {
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                async move {
                    *running.lock().unwrap() += 1;
                    let now = *running.lock().unwrap();
                    let most_yet = *most.lock().unwrap();
                    *most.lock().unwrap() = now.max(most_yet);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    *running.lock().unwrap() -= 1;
                }
            };
            kit.on("job", handler.named("work").concurrency(8).starting_at(Start::Earliest))?;
            kit.process().await?;
            assert_eq!(kit.stats().deliveries.handled, 6);
            kit.assert_balanced();
            Ok(())
        }
    });
    assert_eq!(*most.lock().unwrap(), 1, "one at a time");
    assert_eq!((marks(&store), letters(&store).len()), (0, 0));
}

#[test]
fn what_comes_after_the_start_is_begun_without_ado() {
    let (store, diary) = (Memory::new(), Diary::default());
    fill(&store, 1..=1);
    assert!(!live(&store, &diary, 1));
    testing::run(Runtime::builder().store(store.clone()), {
        let (store, diary) = (store.clone(), diary.clone());
        async move |kit: TestKit| {
            let end = Arc::new(Notify::new());
            kit.on("job", work(&diary, 7, &end))?;
            kit.process().await?;
            kit.emit(Job { id: 7 })?.await?;
            tokio::select! {
                biased;
                () = end.notified() => {}
                _ = kit.process() => {}
            }
            assert_eq!(marks(&store), 0);
            Ok(())
        }
    });
    assert_eq!(diary.of(1).1, 1);
}

#[test]
fn a_partition_that_is_lost_is_no_crash() {
    let (store, diary) = (Memory::new(), Diary::default());
    fill(&store, 1..=1);
    assert!(!live(&store, &diary, 1));
    let faulty = FaultyStore::new(store.clone(), 7);
    let builder = Runtime::builder().store(faulty.clone()).max_crashes(1);
    testing::run(builder, {
        let (store, diary) = (store.clone(), diary.clone());
        async move |kit: TestKit| {
            let end = Arc::new(Notify::new());
            kit.on("job", work(&diary, 1, &end))?;
            for _ in 0..5 {
                tokio::select! {
                    biased;
                    () = end.notified() => {}
                    _ = kit.process() => {}
                }
                assert_eq!(marks(&store), 1, "it is under way");
                // Somebody else claims the partition, and this runtime does again.
                store.claim(PartitionId(0)).await?;
                kit.emit(Job { id: 2 })?.await?;
                drop(faulty.clone().one_in(1));
                let failed = kit.emit(Job { id: 3 })?.await;
                drop(faulty.clone().one_in(0));
                assert!(failed.is_err());
            }
            assert_eq!(kit.dead_letters(&DeadLetterFilter::all()).len(), 0);
            Ok(())
        }
    });
    assert_eq!(diary.of(1), (6, 0));
}

#[test]
fn a_forgotten_subscription_leaves_no_marks() {
    let (store, diary) = (Memory::new(), Diary::default());
    fill(&store, 1..=3);
    assert!(!live(&store, &diary, 2));
    assert!(!live(&store, &diary, 2));
    assert_eq!(marks(&store), 3);
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.process().await?;
        kit.forget("work");
        kit.process().await?;
        Ok(())
    });
    assert_eq!(marks(&store), 0);
}

#[test]
fn a_crashed_letter_is_replayed_as_a_new_delivery() {
    let (store, diary) = (Memory::new(), Diary::default());
    fill(&store, 1..=2);
    while !live(&store, &diary, 2) {}
    assert_eq!(letters(&store).len(), 1);
    testing::run(Runtime::builder().store(store.clone()), {
        let diary = diary.clone();
        async move |kit: TestKit| {
            // The bug is mended.
            kit.on("job", work(&diary, 99, &Arc::new(Notify::new())))?;
            kit.process().await?;
            assert_eq!(kit.replay(&Replay::all()).replayed, 1);
            kit.process().await?;
            assert_eq!(kit.dead_letters(&DeadLetterFilter::all()).len(), 0);
            kit.assert_balanced();
            Ok(())
        }
    });
    assert_eq!(diary.of(2).1, 1);
}

#[test]
fn a_process_may_end_with_no_fewer_than_one_attempt() {
    let error = Runtime::builder().max_crashes(0).build().unwrap_err();
    assert!(error.to_string().contains("max_crashes"), "{error}");
}

/// Tells the child where the store is.
#[cfg(feature = "redb")]
const FILE: &str = "MILLSTREAM_CRASHES_FILE";

/// A process of its own, which one of the jobs ends.
#[cfg(feature = "redb")]
#[tokio::main(flavor = "current_thread")]
async fn be_aborted(path: std::ffi::OsString) {
    let runtime = Runtime::builder().store(millstream::store::Redb::open(path).unwrap()).build().unwrap();
    let handler = async |job: Job| {
        if job.id == 2 {
            std::process::abort();
        }
    };
    runtime.on("job", handler.named("work").starting_at(Start::Earliest)).unwrap();
    if runtime.process().await.unwrap().handled == 0 && runtime.dead_letters(&DeadLetterFilter::all()).is_empty() {
        for id in 1..=3 {
            runtime.emit(Job { id }).unwrap().await.unwrap();
        }
        runtime.process().await.unwrap();
    }
    runtime.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[cfg(feature = "redb")]
#[test]
fn a_process_that_a_handler_aborts_is_up_again_after_a_few_starts() {
    if let Some(path) = std::env::var_os(FILE) {
        return be_aborted(path);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.redb");
    let name = "a_process_that_a_handler_aborts_is_up_again_after_a_few_starts";
    let start = || {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", name]).env(FILE, &path).output().unwrap().status.success()
    };
    assert_eq!((1..=10).find(|_| start()), Some(5));
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio.block_on(async {
        let runtime = Runtime::builder().store(millstream::store::Redb::open(&path).unwrap()).build().unwrap();
        runtime.process().await.unwrap();
        let letters = runtime.dead_letters(&DeadLetterFilter::all());
        assert_eq!(letters.iter().map(|letter| letter.death).collect::<Vec<_>>(), [Death::Crashed]);
    });
}

#[test]
fn what_a_subscription_does_not_want_any_more_leaves_no_marks() {
    let (store, diary) = (Memory::new(), Diary::default());
    fill(&store, 1..=3);
    assert!(!live(&store, &diary, 2));
    assert!(!live(&store, &diary, 2));
    assert_eq!(marks(&store), 3);
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("other", work(&diary, 2, &Arc::new(Notify::new())))?;
        kit.process().await?;
        Ok(())
    });
    assert_eq!(marks(&store), 0);
}

#[test]
fn what_was_trimmed_before_it_was_begun_again_leaves_no_marks() {
    let (store, diary) = (Memory::new(), Diary::default());
    fill(&store, 1..=3);
    assert!(!live(&store, &diary, 2));
    assert!(!live(&store, &diary, 2));
    assert_eq!(marks(&store), 3);
    fill(&store, 4..=4);
    store
        .claim(PartitionId(0))
        .now_or_never()
        .unwrap()
        .unwrap()
        .partition
        .commit((0..4).map(|class| Op::Trim { class: Class(class), below: Seq(u64::MAX / 2) }).collect())
        .now_or_never()
        .unwrap()
        .unwrap();
    live(&store, &diary, 2);
    assert_eq!(marks(&store), 0);
}

/// Takes its time to be claimed.
struct SlowClaim;

impl StoreHooks for SlowClaim {
    fn claim(&self, store: &Arc<dyn Store>, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        let claim = store.claim(partition);
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            claim.await
        })
    }
}

#[test]
fn a_process_that_is_shut_down_during_its_claim_hides_no_crash_before_it() {
    let (store, diary) = (Memory::new(), Diary::default());
    fill(&store, 1..=1);
    assert!(!live(&store, &diary, 1), "it ends in the middle");
    let unused = diary.clone();
    testing::run(Runtime::builder().store(HookedStore::new(store.clone(), SlowClaim)), async move |kit: TestKit| {
        kit.on("job", work(&unused, 99, &Arc::new(Notify::new())))?;
        drop(tokio::time::timeout(Duration::from_millis(1), kit.process()).await);
        kit.shutdown(Duration::ZERO).await?;
        Ok(())
    });
    assert_eq!(diary.of(1), (1, 0), "nothing was begun");
    assert!(!live(&store, &diary, 1));
    assert_eq!(marks(&store), 1, "it is begun with care");
}
