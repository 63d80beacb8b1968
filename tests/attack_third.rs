//! What a third attack on a durable runtime has found: each test fails without the mend that came with it.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use millstream::{
    Builder, Context, DeadLetterFilter, Draft, Event, Handler, HandlerError, Json, Priority, Retention, Retry, Runtime,
    Stage, Start, chain,
    store::{
        Class, CommitError, Committed, FoundRow, KeyRange, Memory, Op, Page, PartitionId, Reader, Row, Seq, Store,
        StoreError, StoreFuture, Table, Wanted, tables,
    },
    testing::{self, HeldPartition, HookedStore, StoreHooks, TestKit},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

type Seen = Arc<Mutex<Vec<u64>>>;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "typed.number")]
struct Number(u64);

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "typed.total")]
struct Total(u64);

/// Lets something happen right after a page of the most urgent class was read, keeps the rows of a table from whoever has read
/// them until the gate is open, and has damaged rows.
struct Meanwhile {
    inner: Memory,
    hook: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    gate: tokio::sync::watch::Sender<bool>,
    stalled: Table,
    /// A range of deliveries that left the log begins with it.
    damaged: Mutex<Option<Bytes>>,
}

impl Meanwhile {
    /// A store that keeps the rows of a table.
    fn store(stalled: Table) -> HookedStore<Self> {
        let (inner, gate) = (Memory::new(), tokio::sync::watch::Sender::new(true));
        let (hook, damaged) = (Mutex::default(), Mutex::default());
        HookedStore::new(inner.clone(), Self { inner, hook, gate, stalled, damaged })
    }
}

impl StoreHooks for Meanwhile {
    fn scan<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'a, Result<Vec<Row>, StoreError>> {
        if table == tables::FAILED && self.damaged.lock().unwrap().as_ref() == Some(&range.start) {
            return Box::pin(async { Err(StoreError::Corrupt { what: "a row".to_owned() }) });
        }
        let (scan, mut gate) = (reader.scan(table, range, limit), self.gate.subscribe());
        Box::pin(async move {
            if table == self.stalled {
                drop(gate.wait_for(|open| *open).await);
            }
            scan.await
        })
    }

    fn scan_each<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'a, Result<Vec<FoundRow>, StoreError>> {
        Box::pin(async move {
            let rows = self.scan(reader, table, range, limit).await?;
            Ok(rows.into_iter().map(|(key, value)| (key, Ok(value))).collect())
        })
    }

    fn read<'a>(
        &'a self,
        reader: &'a dyn Reader,
        class: Class,
        from: Seq,
        max_bytes: usize,
        wanted: &'a Wanted,
    ) -> StoreFuture<'a, Result<Page, StoreError>> {
        let read = reader.read(class, from, max_bytes, wanted);
        Box::pin(async move {
            let page = read.await;
            let hook = if class == Class(0) { self.hook.lock().unwrap().take() } else { None };
            if let Some(hook) = hook {
                hook();
            }
            page
        })
    }
}

fn on(store: &Memory) -> Builder {
    Runtime::builder().store(store.clone())
}

fn number(id: u64) -> Draft {
    Draft::json("number", json!(id))
}

fn id_of(event: &serde_json::Value) -> u64 {
    event.as_u64().or_else(|| event["id"].as_u64()).unwrap()
}

/// Keeps what it sees.
fn keep(name: &'static str, seen: &Seen) -> impl Handler<(Json,)> + use<> {
    let seen = Arc::clone(seen);
    let handler = move |Json(event): Json| {
        let seen = Arc::clone(&seen);
        async move { seen.lock().unwrap().push(id_of(&event)) }
    };
    handler.named(name)
}

/// Fails always, with the next attempt in an hour.
fn fail(name: &'static str) -> impl Handler<(Json,)> {
    (|_: Json| async { Err::<(), _>(HandlerError::transient("closed")) })
        .named(name)
        .retry(Retry::fixed(Duration::from_hours(1)).attempts(9))
}

/// Drives for a while in which no retry is due.
async fn drive(kit: &TestKit) {
    drop(tokio::time::timeout(Duration::from_secs(1), kit.runtime().process()).await);
}

fn seen(seen: &Seen) -> Vec<u64> {
    seen.lock().unwrap().clone()
}

#[test]
fn what_lands_while_the_classes_of_a_strict_subscription_are_read_is_not_passed_over() {
    let (store, all) = (Meanwhile::store(tables::DELAYED), Seen::default());
    testing::run(on(&store.hooks().inner).retention(Retention::All), async |kit: TestKit| {
        kit.emit(number(1))?.await?;
        Ok(())
    });
    let builder = Runtime::builder().store(store.clone()).retention(Retention::All);
    testing::run(builder, async |kit: TestKit| {
        let runtime = kit.runtime().clone();
        let emit = move || {
            for (id, priority) in [(2, Priority::Critical), (3, Priority::Low)] {
                drop(runtime.emit(number(id).priority(priority)).unwrap());
            }
        };
        *store.hooks().hook.lock().unwrap() = Some(Box::new(emit));
        kit.on("number", keep("all", &all).strict_key_order().starting_at(Start::Earliest))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&all), [1, 2, 3]);
}

#[test]
fn what_was_begun_under_another_pattern_does_not_stay_open_for_good() {
    let (store, all) = (Memory::new(), Seen::default());
    let first = |kit: &TestKit| {
        let stuck = |Json(event): Json| async move {
            if id_of(&event) == 1 {
                pending::<()>().await;
            }
        };
        kit.on("number", stuck.named("one"))
    };
    testing::run(on(&store), async |kit: TestKit| {
        first(&kit)?;
        for id in 1..=2 {
            kit.emit(number(id))?;
        }
        drive(&kit).await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("other", keep("one", &all))?;
        kit.settle().await;
        kit.emit(Draft::json("other", json!(3)))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&all), [1, 3]);
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("one", &all))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&all), [1, 3], "it was handled");
}

#[test]
fn a_name_that_was_never_opened_is_renamed_with_all_that_came_after_it() {
    let (store, new) = (Memory::new(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("old", &Seen::default()))?;
        kit.emit(number(1))?.await?;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("new", &new).was("old"))?;
        kit.settle().await;
        assert_eq!(kit.health().findings, [""; 0]);
        Ok(())
    });
    assert_eq!(seen(&new), [1]);
}

#[test]
fn large_delayed_events_that_are_due_together_come_all_of_them() {
    let (store, all) = (Memory::new(), Seen::default());
    let text = "x".repeat(900_000);
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("all", &all))?;
        for id in 0..100 {
            let event = Draft::json("number", json!({"id": id, "text": text}));
            kit.emit(event.delay(Duration::from_mins(1)))?.await?;
        }
        kit.advance(Duration::from_mins(2)).await;
        kit.settle().await;
        assert_eq!(kit.stats().events.dropped.unsaved, 0);
        Ok(())
    });
    assert_eq!(seen(&all).len(), 100);
}

#[test]
fn a_strict_order_of_a_key_over_classes_outlives_a_restart() {
    let (store, all) = (Memory::new(), Seen::default());
    let handler = |is_up: bool| {
        let all = Arc::clone(&all);
        let handler = move |Json(event): Json, _: Context| {
            let all = Arc::clone(&all);
            async move {
                if !is_up {
                    return Err(HandlerError::transient("closed"));
                }
                all.lock().unwrap().push(id_of(&event));
                Ok(())
            }
        };
        handler.named("one").strict_key_order().retry(Retry::fixed(Duration::from_hours(1)).attempts(9))
    };
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", handler(false))?;
        for (id, priority) in
            [(1, Priority::Normal), (2, Priority::Low), (3, Priority::Normal), (4, Priority::Critical)]
        {
            kit.emit(number(id).key("k").priority(priority))?.await?;
        }
        drive(&kit).await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", handler(true))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&all), [1, 2, 3, 4]);
}

#[test]
fn whoever_processes_does_not_wait_for_what_a_halted_key_keeps_in_the_log() {
    let store = Memory::new();
    testing::run(on(&store).queue_size(20_000), async |kit: TestKit| {
        let dies = (|_: Json| async { Err::<(), _>(HandlerError::permanent("no")) }).named("one").ordered_by_key();
        kit.on("number", dies.halt_key_on_dead())?;
        for id in 0..12_000 {
            kit.emit(number(id).key("k"))?;
        }
        let driven = tokio::time::timeout(Duration::from_mins(10), kit.runtime().process()).await;
        assert!(driven.is_ok(), "{:?}", kit.stats());
        Ok(())
    });
}

#[test]
fn a_name_that_somebody_has_still_is_not_taken_over() {
    let (store, old, new) = (Memory::new(), Seen::default(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("old", &old))?;
        kit.emit(number(1))?;
        kit.settle().await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", fail("new").was("old"))?;
        kit.on("number", keep("old", &old))?;
        kit.emit(number(2))?;
        drive(&kit).await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("new", &new).was("old"))?;
        kit.on("number", keep("old", &old))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!((seen(&old), seen(&new)), (vec![1, 2], vec![2]));
}

#[test]
fn delayed_events_that_come_while_the_next_are_looked_for_push_none_out() {
    let (store, all) = (Meanwhile::store(tables::DELAYED), Seen::default());
    let delayed = |id: u64| number(id).delay(Duration::from_secs(id));
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("number", keep("all", &all))?;
        for id in 1..=3_000 {
            kit.emit(delayed(id))?.await?;
        }
        kit.settle().await;
        Ok(())
    });
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("number", keep("all", &all))?;
        kit.settle().await;
        store.hooks().gate.send_replace(false);
        tokio::time::sleep(Duration::from_mins(10)).await;
        drive(&kit).await;
        for id in 3_001..=5_000 {
            kit.emit(number(id).delay(Duration::from_secs(2)))?.await?;
        }
        drive(&kit).await;
        store.hooks().gate.send_replace(true);
        kit.advance(Duration::from_hours(1)).await;
        Ok(())
    });
    assert_eq!(seen(&all).len(), 5_000);
}

#[test]
fn delayed_events_that_nobody_drove_are_found_though_the_next_are_looked_for() {
    let (store, all) = (Meanwhile::store(tables::DELAYED), Seen::default());
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("number", keep("all", &all))?;
        for id in 1..=3_000 {
            kit.emit(number(id).delay(Duration::from_hours(2)))?.await?;
        }
        kit.settle().await;
        Ok(())
    });
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("number", keep("all", &all))?;
        store.hooks().gate.send_replace(false);
        drive(&kit).await;
        for id in 3_001..=8_000 {
            kit.emit(number(id).delay(Duration::from_hours(1)))?.await?;
        }
        drive(&kit).await;
        store.hooks().gate.send_replace(true);
        kit.advance(Duration::from_hours(3)).await;
        Ok(())
    });
    assert_eq!(seen(&all).len(), 8_000);
}

/// Keeps from whoever writes what has become of it, until the gate is open, and loses a commit or what is appended.
struct Slow {
    commits: tokio::sync::watch::Sender<bool>,
    appends: tokio::sync::watch::Sender<bool>,
    loses_commit: AtomicBool,
    loses_append: AtomicBool,
    /// The next commit that may be refused lands, and nobody knows.
    hides_outcome: AtomicBool,
}

impl Slow {
    fn store() -> HookedStore<Self> {
        let gate = || tokio::sync::watch::Sender::new(true);
        let (loses_commit, loses_append, hides_outcome) = Default::default();
        let hooks = Self { commits: gate(), appends: gate(), loses_commit, loses_append, hides_outcome };
        HookedStore::new(Memory::new(), hooks)
    }
}

fn slowly(
    work: StoreFuture<'static, Result<Committed, CommitError>>,
    mut gate: tokio::sync::watch::Receiver<bool>,
) -> StoreFuture<'static, Result<Committed, CommitError>> {
    Box::pin(async move {
        drop(gate.wait_for(|open| *open).await);
        work.await
    })
}

fn lost() -> StoreFuture<'static, Result<Committed, CommitError>> {
    Box::pin(async { Err(CommitError::unknown(std::io::Error::other("it is lost"))) })
}

impl StoreHooks for Slow {
    fn append(
        &self,
        store: &Arc<dyn Store>,
        partition: PartitionId,
        batch: Vec<Op>,
    ) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let is_lost = self.loses_append.swap(false, Ordering::Relaxed);
        slowly(if is_lost { lost() } else { store.append(partition, batch) }, self.appends.subscribe())
    }

    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        if batch.iter().any(|op| matches!(op, Op::PutNew { .. })) && self.hides_outcome.swap(false, Ordering::Relaxed) {
            drop(held.commit(batch));
            held.lose();
            return lost();
        }
        if self.loses_commit.swap(false, Ordering::Relaxed) {
            held.lose();
        }
        slowly(held.commit(batch), self.commits.subscribe())
    }
}

#[test]
fn an_outcome_that_a_shutdown_finds_on_its_way_is_written_once() {
    let store = Slow::store();
    let go_on = Arc::new(tokio::sync::Notify::new());
    let handler = || {
        let go_on = Arc::clone(&go_on);
        let handler = move |Json(event): Json, context: Context| {
            let go_on = Arc::clone(&go_on);
            async move {
                if id_of(&event) == 2 {
                    go_on.notified().await;
                    return Ok(Vec::new());
                }
                let counts = context.storage("counts");
                let before: u64 = counts.get_json("one").await?.unwrap_or(0);
                counts.put_json("one", &(before + 1)).await?;
                Ok::<_, HandlerError>(vec![Draft::json("out", json!(1)).idempotency_key("one")])
            }
        };
        handler.named("one").concurrency(8)
    };
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("number", handler())?;
        kit.settle().await;
        store.hooks().commits.send_replace(false);
        kit.emit(number(1))?.await?;
        drive(&kit).await;
        kit.emit(number(2))?.await?;
        drive(&kit).await;
        go_on.notify_one();
        drive(&kit).await;
        kit.shutdown(Duration::ZERO).await?;
        let stats = kit.stats().deliveries;
        assert_eq!(stats.created, stats.handled + stats.abandoned, "{stats:?}");
        store.hooks().commits.send_replace(true);
        Ok(())
    });
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("number", handler())?;
        go_on.notify_one();
        kit.settle().await;
        assert_eq!(kit.storage("counts").get_json::<u64>("one").await?, Some(1));
        Ok(())
    });
}

#[test]
fn an_age_of_next_to_nothing_keeps_nobody_from_his_rest() {
    let folder = tempfile::tempdir().unwrap();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio.block_on(async {
        let store = millstream::store::Redb::open(folder.path().join("events.redb")).unwrap();
        let age = Retention::Age(Duration::from_nanos(1));
        let runtime = Runtime::builder().store(store).retention(age).build().unwrap();
        runtime.on("number", keep("one", &Seen::default())).unwrap();
        runtime.emit(number(1)).unwrap().await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), runtime.process()).await.unwrap().unwrap();
    });
}

#[test]
fn a_migration_that_panics_parks_its_stage() {
    let store = Memory::new();
    let stage =
        || Stage::keyed(|number: &Number| number.0, chain().scan(0, |sum, number: Number| *sum += number.0).map(Total));
    testing::run(on(&store), async |kit: TestKit| {
        kit.stage("sums", stage())?;
        kit.emit(Number(1))?;
        kit.settle().await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.stage("sums", stage().version(2).migrate(|_, _| panic!("no")))?;
        kit.emit(Number(1))?;
        kit.settle().await;
        assert!(kit.stages()[0].parked.as_ref().is_some_and(|why| why.contains("no")), "{:?}", kit.stages());
        Ok(())
    });
}

#[test]
fn a_delayed_event_that_fires_once_more_takes_nobody_elses_place_in_the_books() {
    let (store, all) = (Slow::store(), Seen::default());
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("number", keep("all", &all))?;
        kit.emit(number(1).delay(Duration::from_secs(10)))?.await?;
        kit.settle().await;
        store.hooks().appends.send_replace(false);
        store.hooks().loses_append.store(true, Ordering::Relaxed);
        let late = kit.emit(number(2).delay(Duration::from_hours(1)))?;
        store.hooks().loses_commit.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(11)).await;
        drive(&kit).await;
        assert_eq!((seen(&all), kit.stats().events.delayed), (vec![1], 1));
        store.hooks().appends.send_replace(true);
        assert!(late.await.is_err());
        drive(&kit).await;
        assert!(kit.stats().events.balances() && kit.stats().events.delayed == 0, "{:?}", kit.stats().events);
        Ok(())
    });
}

#[test]
fn damage_of_a_name_that_is_forgotten_stops_nobody_else() {
    let (store, other) = (Meanwhile::store(tables::DELAYED), Seen::default());
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("number", fail("gone"))?;
        kit.emit(number(1))?;
        drive(&kit).await;
        Ok(())
    });
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("number", keep("other", &other))?;
        kit.settle().await;
        *store.hooks().damaged.lock().unwrap() = Some(Bytes::copy_from_slice(&1_u32.to_be_bytes()));
        kit.forget("gone");
        kit.emit(number(2))?;
        assert!(tokio::time::timeout(Duration::from_mins(10), kit.runtime().process()).await?.is_ok());
        assert_eq!(seen(&other), [2]);
        assert!(kit.health().findings.iter().any(|finding| finding.contains("`gone`")), "{:?}", kit.health());
        Ok(())
    });
}

#[test]
fn a_crash_while_a_subscription_is_opened_does_not_move_its_beginning() {
    let store = Meanwhile::store(tables::FAILED);
    let late = Seen::default();
    let on = || Runtime::builder().store(store.clone()).retention(Retention::All);
    testing::run(on(), async |kit: TestKit| {
        kit.emit(number(1))?.await?;
        Ok(())
    });
    store.hooks().gate.send_replace(false);
    testing::run(on(), async |kit: TestKit| {
        kit.on("number", keep("late", &late))?;
        drive(&kit).await;
        Ok(())
    });
    store.hooks().gate.send_replace(true);
    testing::run(on(), async |kit: TestKit| {
        kit.on("number", keep("late", &late))?;
        kit.emit(number(2))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&late), [2]);
}

#[test]
fn what_a_stage_does_again_counts_once_against_its_root() {
    let (store, totals) = (Memory::new(), Seen::default());
    testing::run(on(&store).max_events_per_root(200), async |kit: TestKit| {
        let total = |number: Number| match number.0 {
            0..40 => Draft::new(Total(number.0)),
            // No operator may.
            _ => Draft::new(Total(number.0)).idempotency_key("one"),
        };
        kit.stage("totals", Stage::new(chain().map(total)))?;
        let many = |_: Json| async { (0..50).map(Number).collect::<Vec<_>>() };
        kit.on("number", many.named("many"))?;
        kit.on("typed.total", keep("all", &totals))?;
        kit.emit(number(1))?;
        kit.settle().await;
        assert_eq!(kit.dead_letters(&DeadLetterFilter::all()).len(), 10);
        Ok(())
    });
    assert_eq!(seen(&totals).len(), 40);
}

#[test]
fn a_name_that_is_forgotten_while_the_store_fails_is_forgotten_after_that() {
    let store = Slow::store();
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("number", keep("gone", &Seen::default()))?;
        kit.settle().await;
        Ok(())
    });
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.settle().await;
        store.hooks().loses_commit.store(true, Ordering::Relaxed);
        kit.forget("gone");
        kit.settle().await;
        assert!(!store.hooks().loses_commit.load(Ordering::Relaxed));
        assert_eq!(kit.health().findings, [""; 0]);
        Ok(())
    });
}

#[test]
fn a_key_that_goes_on_while_the_store_fails_goes_on_after_that() {
    let (store, totals, is_broken) = (Slow::store(), Seen::default(), Arc::new(AtomicBool::new(true)));
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        let is_broken_now = Arc::clone(&is_broken);
        let total = move |number: Number| {
            assert!(!is_broken_now.load(Ordering::Relaxed), "it is broken");
            Total(number.0)
        };
        let chain = chain().debounce(Duration::from_secs(10)).map(total);
        kit.stage("totals", Stage::keyed(|number: &Number| number.0, chain))?;
        kit.on("typed.total", keep("all", &totals))?;
        kit.emit(Number(1))?;
        kit.advance(Duration::from_mins(1)).await;
        assert_eq!((kit.stages()[0].parked_keys, seen(&totals).len()), (1, 0));
        is_broken.store(false, Ordering::Relaxed);
        store.hooks().loses_commit.store(true, Ordering::Relaxed);
        kit.unpark("totals", None, &1_u64.into());
        kit.settle().await;
        assert!(!store.hooks().loses_commit.load(Ordering::Relaxed));
        assert_eq!((kit.stages()[0].parked_keys, seen(&totals)), (0, vec![1]));
        Ok(())
    });
}

#[cfg(feature = "archive")]
#[test]
fn a_letter_that_a_stage_is_to_take_survives_that_the_store_fails_meanwhile() {
    let (store, totals) = (Slow::store(), Seen::default());
    let stage = |is_broken: bool| {
        let chain = chain().map(move |number: Number| {
            assert!(!is_broken, "it is broken");
            Total(number.0)
        });
        Stage::keyed(|number: &Number| number.0, chain)
    };
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.stage("totals", stage(true))?;
        kit.emit(Number(1))?;
        kit.settle().await;
        assert_eq!(kit.dead_letters(&DeadLetterFilter::all()).len(), 1);
        kit.shutdown(Duration::from_secs(1)).await?;
        let asked =
            millstream::archive::Archive::new(store.clone()).replay(&millstream::Replay::all(), &kit.clock()).await?;
        assert_eq!(asked.replayed, 1);
        Ok(())
    });
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        store.hooks().commits.send_replace(false);
        store.hooks().loses_commit.store(true, Ordering::Relaxed);
        kit.stage("totals", stage(false))?;
        kit.on("typed.total", keep("all", &totals))?;
        drive(&kit).await;
        store.hooks().loses_append.store(true, Ordering::Relaxed);
        assert!(kit.emit(Number(2))?.await.is_err());
        drive(&kit).await;
        store.hooks().commits.send_replace(true);
        drive(&kit).await;
        kit.settle().await;
        assert_eq!(seen(&totals), [1]);
        assert_eq!(kit.dead_letters(&DeadLetterFilter::all()).len(), 0);
        Ok(())
    });
}

#[test]
fn what_was_tried_before_its_subscription_went_is_not_done_again() {
    let (store, go_on) = (Memory::new(), Arc::new(tokio::sync::Notify::new()));
    let handler = |is_stuck: bool| {
        let go_on = Arc::clone(&go_on);
        let handler = move |Json(event): Json, context: Context| {
            let go_on = Arc::clone(&go_on);
            async move {
                if is_stuck {
                    pending::<()>().await;
                }
                if id_of(&event) == 2 {
                    return Ok(Vec::new());
                }
                go_on.notified().await;
                let counts = context.storage("counts");
                let before: u64 = counts.get_json("one").await?.unwrap_or(0);
                counts.put_json("one", &(before + 1)).await?;
                Ok::<_, HandlerError>(vec![Draft::json("out", json!(1)).idempotency_key("one")])
            }
        };
        handler.named("one").concurrency(8)
    };
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", handler(true))?;
        for id in 1..=2 {
            kit.emit(number(id))?;
        }
        drive(&kit).await;
        kit.shutdown(Duration::ZERO).await?;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        let first = kit.on("number", handler(false))?;
        drive(&kit).await;
        kit.off(first);
        kit.on("number", handler(false))?;
        drive(&kit).await;
        for _ in 0..2 {
            go_on.notify_one();
            drive(&kit).await;
        }
        assert_eq!(kit.storage("counts").get_json::<u64>("one").await?, Some(1));
        Ok(())
    });
}

#[test]
fn a_name_that_came_and_went_while_nobody_drove_keeps_its_beginning() {
    let (store, all) = (Memory::new(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        kit.settle().await;
        let first = kit.on("number", keep("one", &all))?;
        kit.emit(number(1))?.await?;
        kit.off(first);
        kit.emit(number(2))?.await?;
        kit.on("number", keep("one", &all))?;
        kit.emit(number(3))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&all), [1, 2, 3]);
}

#[test]
fn a_lost_claim_writes_nothing_of_a_subscription_that_was_taken_back() {
    let (store, go_on) = (Slow::store(), Arc::new(tokio::sync::Notify::new()));
    let handler = || {
        let go_on = Arc::clone(&go_on);
        let handler = move |_: Json, context: Context| {
            let go_on = Arc::clone(&go_on);
            async move {
                go_on.notified().await;
                let counts = context.storage("counts");
                let before: u64 = counts.get_json("one").await?.unwrap_or(0);
                counts.put_json("one", &(before + 1)).await?;
                Ok::<_, HandlerError>(Draft::json("out", json!(1)).idempotency_key("one"))
            }
        };
        handler.named("one")
    };
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        let first = kit.on("number", handler())?;
        kit.emit(number(1))?.await?;
        drive(&kit).await;
        kit.off(first);
        drive(&kit).await;
        store.hooks().hides_outcome.store(true, Ordering::Relaxed);
        go_on.notify_one();
        drive(&kit).await;
        assert!(!store.hooks().hides_outcome.load(Ordering::Relaxed));
        Ok(())
    });
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("number", handler())?;
        go_on.notify_one();
        kit.settle().await;
        assert_eq!(kit.storage("counts").get_json::<u64>("one").await?, Some(1));
        Ok(())
    });
}

#[test]
fn a_claim_that_is_lost_once_is_lost_once() {
    let (store, all) = (Slow::store(), Seen::default());
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("number", keep("all", &all))?;
        kit.settle().await;
        store.hooks().loses_commit.store(true, Ordering::Relaxed);
        store.hooks().commits.send_replace(false);
        kit.emit(number(1))?.await?;
        drive(&kit).await;
        store.hooks().commits.send_replace(true);
        let before = kit.elapsed();
        kit.settle().await;
        assert_eq!(
            (seen(&all), kit.elapsed().saturating_sub(before)),
            (vec![1, 1], Duration::ZERO),
            "the first time at once"
        );
        Ok(())
    });
}
