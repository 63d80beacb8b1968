//! Where two things happen at once in a durable runtime: a commit is on its way while something else begins or ends.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt as _;
use millstream::{
    Builder, Draft, Event, Handler, HandlerError, Json, Retention, Runtime, Stage, chain,
    store::{
        CommitError, Committed, FoundRow, KeyRange, Memory, Op, PartitionId, Reader, Row, Store, StoreError,
        StoreFuture, Table, tables,
    },
    testing::{self, HeldPartition, HookedStore, StoreHooks, TestKit},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{oneshot, watch};

const HOME: PartitionId = PartitionId(0);

type Landing = Result<Committed, CommitError>;
type Seams = HookedStore<Stalls>;

/// A store that keeps what is handed over on its way, and what was read from whoever asked, for as long as a test wants.
#[derive(Default)]
struct Stalls {
    inner: Memory,
    commits: Mutex<OnWay>,
    /// Whether those who append are told later what became of it.
    holds_appends: watch::Sender<bool>,
    /// The table whose rows are read at once and told once this is another one.
    stalled: watch::Sender<Option<Table>>,
    /// The table of which the next reading fails, by keys or of all rows.
    fails: Mutex<Option<Table>>,
    /// Whether nobody knows what becomes of the next thing that is appended, which lands.
    hides_append: AtomicBool,
}

/// Commits that were handed over.
#[derive(Default)]
struct OnWay {
    is_held: bool,
    waiting: VecDeque<HandedOver>,
    /// The most that were on their way at once.
    most: usize,
}

struct HandedOver {
    held: HeldPartition,
    batch: Vec<Op>,
    done: oneshot::Sender<Landing>,
}

impl Stalls {
    fn store() -> Seams {
        let stalls = Self::default();
        HookedStore::new(stalls.inner.clone(), stalls)
    }

    fn hold_commits(&self) {
        self.commits.lock().unwrap().is_held = true;
    }

    /// All that is on its way lands, and so does what is handed over from now on.
    fn land(&self) {
        self.commits.lock().unwrap().is_held = false;
        while self.land_one() {}
    }

    /// The first that is on its way lands, if there is one.
    fn land_one(&self) -> bool {
        let next = self.commits.lock().unwrap().waiting.pop_front();
        let Some(HandedOver { held, batch, done }) = next else { return false };
        let _ = done.send(now(held.commit(batch)));
        true
    }

    /// What is on its way never lands, as where the process ends.
    fn crash(&self) {
        *self.commits.lock().unwrap() = OnWay::default();
    }

    fn on_way(&self) -> usize {
        self.commits.lock().unwrap().waiting.len()
    }

    fn rows(&self, table: Table) -> Vec<Row> {
        now(self.inner.reader(HOME).scan(table, KeyRange::all(), usize::MAX)).unwrap()
    }

    fn write(&self, batch: Vec<Op>) {
        now(async { self.inner.claim(HOME).await.unwrap().partition.commit(batch).await }).unwrap();
    }

    fn fault(&self, table: Table) -> Option<StoreError> {
        self.fails.lock().unwrap().take_if(|fails| *fails == table)?;
        Some(StoreError::io("reading", std::io::Error::other("a fault")))
    }

    /// What was read is told once its table is not stalled.
    fn told<'a, T: Send + 'a>(&'a self, table: Table, read: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        let mut stalled = self.stalled.subscribe();
        Box::pin(async move {
            let read = read.await;
            drop(stalled.wait_for(|stalled| *stalled != Some(table)).await);
            read
        })
    }
}

impl StoreHooks for Stalls {
    fn append(&self, store: &Arc<dyn Store>, partition: PartitionId, batch: Vec<Op>) -> StoreFuture<'static, Landing> {
        let (append, mut held) = (store.append(partition, batch), self.holds_appends.subscribe());
        let is_hidden = self.hides_append.swap(false, Ordering::Relaxed);
        Box::pin(async move {
            let landing = append.await;
            drop(held.wait_for(|held| !*held).await);
            if is_hidden { Err(CommitError::unknown(std::io::Error::other("nobody knows"))) } else { landing }
        })
    }

    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Landing> {
        let mut commits = self.commits.lock().unwrap();
        if !commits.is_held {
            return held.commit(batch);
        }
        let (done, landing) = oneshot::channel();
        commits.waiting.push_back(HandedOver { held: held.clone(), batch, done });
        commits.most = commits.most.max(commits.waiting.len());
        Box::pin(async move { landing.await.unwrap() })
    }

    /// What is on its way may land after that.
    fn release(&self, _: &HeldPartition) -> StoreFuture<'static, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn get<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        keys: &'a [Bytes],
    ) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        match self.fault(table) {
            Some(fault) => Box::pin(async { Err(fault) }),
            None => self.told(table, reader.get(table, keys)),
        }
    }

    fn scan<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'a, Result<Vec<Row>, StoreError>> {
        self.told(table, reader.scan(table, range, limit))
    }

    fn scan_each<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'a, Result<Vec<FoundRow>, StoreError>> {
        match self.fault(table) {
            Some(fault) => Box::pin(async { Err(fault) }),
            None => self.told(table, reader.scan_each(table, range, limit)),
        }
    }
}

/// What a store in memory does is done at once.
fn now<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().unwrap()
}

fn on(store: &Seams) -> Builder {
    Runtime::builder().store(store.clone())
}

type Seen = Arc<Mutex<Vec<u64>>>;

fn number(id: u64) -> Draft {
    Draft::json("number", json!(id))
}

fn keep(name: &'static str, seen: &Seen) -> impl Handler<(Json,)> + use<> {
    let seen = Arc::clone(seen);
    let handler = move |Json(event): Json| {
        let seen = Arc::clone(&seen);
        async move { seen.lock().unwrap().push(event.as_u64().unwrap()) }
    };
    handler.named(name)
}

fn seen(seen: &Seen) -> Vec<u64> {
    seen.lock().unwrap().clone()
}

/// Drives for a while.
async fn drive(kit: &TestKit) {
    drop(tokio::time::timeout(Duration::from_secs(1), kit.runtime().process()).await);
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "sale", key = "shop")]
struct Sale {
    shop: u32,
    cents: u64,
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "total")]
struct Total(u64);

fn totals() -> Stage<Sale, impl millstream::operators::durable::Durable<Sale, Out = Total, State: Send> + Send + 'static>
{
    let chain = chain().scan(0, |sum: &mut u64, sale: Sale| *sum += sale.cents);
    Stage::keyed(|sale: &Sale| sale.shop, chain.map(Total)).epoch(EPOCH)
}

/// As many events as a stage looks at in one step, so that the next one is read when these are handed over.
const EPOCH: usize = 1_024;

#[test]
fn what_a_stage_handed_over_before_it_was_parked_is_seen_when_it_lands() {
    let (store, totalled) = (Stalls::store(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        kit.stage("totals", totals())?;
        kit.emit(Sale { shop: 2, cents: 1 })?.await?;
        kit.settle().await;
        Ok(())
    });
    let states = Table("stage_state");
    let (key, _) = store.hooks().rows(states).remove(0);
    store.hooks().write(vec![Op::Put { table: states, key, value: Bytes::from_static(b"\xff\xff\xff") }]);
    testing::run(on(&store), async |kit: TestKit| {
        kit.stage("totals", totals())?;
        kit.on("total", keep("keep", &totalled))?;
        kit.settle().await;
        store.hooks().hold_commits();
        for shop in std::iter::repeat_n(1, EPOCH).chain([2]) {
            kit.emit(Sale { shop, cents: 1 })?.await?;
        }
        drive(&kit).await;
        assert!(kit.stages()[0].parked.is_some() && store.hooks().on_way() > 0);
        store.hooks().land();
        drive(&kit).await;
        assert_eq!(seen(&totalled), (1..=EPOCH as u64).collect::<Vec<_>>());
        assert!(kit.stages()[0].parked.is_some());
        let events = kit.stats().events;
        assert_eq!((events.routed, events.emitted), (2 * EPOCH as u64 + 1, 2 * EPOCH as u64 + 1));
        Ok(())
    });
}

#[test]
fn a_delayed_event_whose_row_is_read_while_it_goes_is_emitted_once() {
    let (store, all) = (Stalls::store(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("all", &all))?;
        store.hooks().holds_appends.send_replace(true);
        drop(kit.emit(number(1).delay(Duration::from_hours(1)))?);
        // It is found in the store before the pump is told of it.
        drive(&kit).await;
        store.hooks().hold_commits();
        tokio::time::sleep(Duration::from_hours(1)).await;
        drive(&kit).await;
        assert!(store.hooks().on_way() > 0, "it is on its way to the log");
        store.hooks().stalled.send_replace(Some(tables::DELAYED));
        store.hooks().holds_appends.send_replace(false);
        drive(&kit).await;
        store.hooks().land();
        drive(&kit).await;
        store.hooks().stalled.send_replace(None);
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&all), [1]);
}

#[test]
fn a_name_that_is_forgotten_while_it_is_opened_is_forgotten_where_it_cannot_be_opened() {
    let (store, all) = (Stalls::store(), Seen::default());
    let fail = || {
        let handler = |Json(_): Json| async { Err::<(), _>(HandlerError::transient("closed")) };
        handler
            .named("all")
            .retry(millstream::Retry::fixed(Duration::from_hours(1)))
            .ordered_by_key()
            .halt_key_on_dead()
    };
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", fail())?;
        kit.emit(number(1).key("k"))?.await?;
        drive(&kit).await;
        kit.shutdown(Duration::ZERO).await?;
        Ok(())
    });
    let (key, _) = store.hooks().rows(tables::FAILED).remove(0);
    store.hooks().write(vec![Op::Put {
        table: tables::FAILED,
        key,
        value: Bytes::from_static(b"\xff\xff\xff\xff\xff"),
    }]);
    testing::run(on(&store), async |kit: TestKit| {
        drive(&kit).await;
        store.hooks().stalled.send_replace(Some(tables::FAILED));
        kit.on("number", keep("all", &all).ordered_by_key().halt_key_on_dead())?;
        drive(&kit).await;
        kit.forget("all");
        drive(&kit).await;
        store.hooks().stalled.send_replace(None);
        kit.settle().await;
        kit.emit(number(2))?.await?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&all), [2], "it begins anew");
    assert!(store.hooks().rows(tables::FAILED).is_empty());
}

#[test]
fn a_name_that_is_subscribed_while_it_is_forgotten_keeps_its_new_beginning_over_a_crash() {
    let (store, all, again) = (Stalls::store(), Seen::default(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        let id = kit.on("number", keep("all", &all))?;
        kit.settle().await;
        kit.off(id);
        kit.settle().await;
        store.hooks().stalled.send_replace(Some(tables::FAILED));
        kit.forget("all");
        drive(&kit).await;
        kit.on("number", keep("all", &all))?;
        store.hooks().hold_commits();
        kit.emit(number(1))?.await?;
        store.hooks().stalled.send_replace(None);
        drive(&kit).await;
        // The process ends when the old name is forgotten and the new one is not written.
        assert!(store.hooks().land_one());
        Ok(())
    });
    store.hooks().crash();
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("all", &again))?;
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&again), [1]);
}

#[test]
fn a_stage_that_is_given_while_its_name_is_forgotten_begins_anew_after_that() {
    let (store, totalled) = (Stalls::store(), Seen::default());
    let sale = |cents| Sale { shop: 1, cents };
    testing::run(on(&store), async |kit: TestKit| {
        kit.stage("totals", totals())?;
        kit.emit(sale(100))?.await?;
        kit.settle().await;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("total", keep("keep", &totalled))?;
        kit.settle().await;
        store.hooks().stalled.send_replace(Some(Table("stage_turn")));
        kit.forget("totals");
        drive(&kit).await;
        kit.stage("totals", totals())?;
        kit.emit(sale(1))?.await?;
        drive(&kit).await;
        store.hooks().stalled.send_replace(None);
        kit.settle().await;
        kit.emit(sale(2))?.await?;
        kit.settle().await;
        assert!(kit.health().findings.is_empty(), "{:?}", kit.health());
        Ok(())
    });
    assert_eq!(seen(&totalled), [1, 3]);
}

#[test]
fn no_more_than_three_commits_are_on_their_way_however_much_handlers_return() {
    const EVENTS: u64 = 6;
    let store = Stalls::store();
    testing::run(on(&store).max_event_size(16 << 20), async |kit: TestKit| {
        let handler = |Json(_): Json| async { Draft::json("large", json!("x".repeat(9 << 20))) };
        kit.on("number", handler.named("grow").concurrency(16))?;
        kit.settle().await;
        store.hooks().hold_commits();
        for id in 0..EVENTS {
            kit.emit(number(id))?.await?;
        }
        drive(&kit).await;
        store.hooks().land();
        kit.settle().await;
        let most = store.hooks().commits.lock().unwrap().most;
        assert!((2..=3).contains(&most), "{most}");
        let stats = kit.stats();
        assert_eq!((stats.deliveries.handled, stats.events.emitted), (EVENTS, 2 * EVENTS));
        Ok(())
    });
}

/// Begins and never ends. Whether that is marked in the store, as it is after a process that was not shut down.
fn is_begun_with_care(store: &Seams) -> bool {
    testing::run(on(store), async |kit: TestKit| {
        kit.on("number", (|Json(_): Json| std::future::pending::<()>()).named("hang"))?;
        drive(&kit).await;
        // Whoever drives is told that the store has failed.
        tokio::time::sleep(Duration::from_secs(1)).await;
        drive(&kit).await;
        assert_eq!(kit.stats().deliveries.in_flight, 1);
        Ok(())
    });
    !store.hooks().rows(tables::ATTEMPT).is_empty()
}

/// A process that leaves an event in the log, and is shut down.
fn leave_one(store: &Seams) {
    testing::run(on(store), async |kit: TestKit| {
        kit.on("number", (|Json(_): Json| std::future::pending::<()>()).named("hang"))?;
        kit.emit(number(1))?.await?;
        drive(&kit).await;
        kit.shutdown(Duration::ZERO).await?;
        Ok(())
    });
}

#[test]
fn a_claim_whose_reading_fails_is_no_process_that_was_not_shut_down() {
    let store = Stalls::store();
    leave_one(&store);
    *store.hooks().fails.lock().unwrap() = Some(tables::SUBSCRIPTION);
    assert!(!is_begun_with_care(&store));
    assert!(is_begun_with_care(&store), "that one was not");
}

#[test]
fn a_shutdown_while_the_store_is_claimed_is_one() {
    let store = Stalls::store();
    leave_one(&store);
    testing::run(on(&store), async |kit: TestKit| {
        store.hooks().stalled.send_replace(Some(tables::SUBSCRIPTION));
        drive(&kit).await;
        let go_on = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            store.hooks().stalled.send_replace(None);
        };
        tokio::join!(kit.shutdown(Duration::ZERO), go_on).0?;
        Ok(())
    });
    assert!(!is_begun_with_care(&store));
}

#[test]
fn a_delayed_event_that_landed_though_nobody_knew_takes_nobody_elses_place_in_the_books() {
    let store = Stalls::store();
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("all", &Seen::default()))?;
        kit.settle().await;
        kit.emit(number(1).delay(Duration::from_hours(1)))?.await?;
        store.hooks().hides_append.store(true, Ordering::Relaxed);
        assert!(kit.emit(number(2).delay(Duration::from_mins(1)))?.await.is_err());
        drive(&kit).await;
        kit.advance(Duration::from_mins(2)).await;
        let events = kit.stats().events;
        assert_eq!((events.routed, events.delayed, events.dropped.unsaved), (1, 1, 1), "{events:?}");
        assert_eq!(events.emitted, 3, "one of them comes from the store");
        Ok(())
    });
}

/// What is appended lands late.
struct Late(watch::Sender<bool>);

impl StoreHooks for Late {
    fn append(&self, store: &Arc<dyn Store>, partition: PartitionId, batch: Vec<Op>) -> StoreFuture<'static, Landing> {
        let (store, mut lands) = (Arc::clone(store), self.0.subscribe());
        Box::pin(async move {
            drop(lands.wait_for(|lands| *lands).await);
            store.append(partition, batch).await
        })
    }
}

#[test]
fn whoever_begins_at_the_end_begins_though_something_was_written_before_that_was_told() {
    let (store, handled) = (HookedStore::new(Memory::new(), Late(watch::Sender::new(false))), Seen::default());
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("number", keep("keep", &handled))?;
        kit.storage("n").put("k", "v").await?;
        store.hooks().0.send_replace(true);
        kit.emit(number(1))?.await?;
        assert_eq!(tokio::time::timeout(Duration::from_mins(1), kit.process()).await??.handled, 1);
        assert_eq!(seen(&handled), [1]);
        Ok(())
    });
}

#[test]
fn nothing_is_trimmed_for_cursors_that_never_landed() {
    let (store, handled) = (Stalls::store(), Seen::default());
    testing::run(on(&store).retention(Retention::Events(2_000)), async |kit: TestKit| {
        kit.on("number", keep("keep", &handled))?;
        kit.emit(Draft::json("late", json!(0)).delay(Duration::from_mins(1)))?.await?;
        kit.process().await?;
        store.hooks().hold_commits();
        let mut ids = 0..8_000;
        for many in [3_000, 3_000, 2_000] {
            for id in ids.by_ref().take(many) {
                kit.emit(number(id).key("more than a page has room for".repeat(4)))?.await?;
            }
            drive(&kit).await;
        }
        assert_eq!((store.hooks().on_way(), seen(&handled).len()), (2, 8_000));
        *store.hooks().fails.lock().unwrap() = Some(tables::DELAYED);
        tokio::time::advance(Duration::from_mins(1)).await;
        // Those that are on their way stay there.
        store.hooks().commits.lock().unwrap().is_held = false;
        kit.settle().await;
        let described = kit.describe();
        assert_eq!(described.subscriptions[0].book.trimmed, 0);
        assert_eq!(seen(&handled).len(), 16_000, "nobody knew that they were handled");
        Ok(())
    });
}

#[test]
fn what_was_tried_and_landed_is_handled_once_though_a_loop_was_stopped_with_it() {
    let store = Stalls::store();
    let handler = |Json(event): Json| {
        let (id, text) = (event.as_u64().unwrap(), "x".repeat(1 << 20));
        let large = Draft::json("large", json!(text));
        let keyed = |key: &str| large.clone().idempotency_key(key.to_owned());
        let drafts = match id {
            // One more than its root may cause.
            1 => vec![keyed("a"), keyed("b")],
            2 => vec![Draft::json("small", json!(2)).idempotency_key("c")],
            _ => vec![large],
        };
        async move { drafts }
    };
    let runtime = || on(&store).max_event_size(2 << 20).max_events_per_root(1);
    testing::run(runtime(), async |kit: TestKit| {
        kit.on("number", handler.named("answer").max_outputs(2))?;
        kit.settle().await;
        store.hooks().hold_commits();
        for ids in [1..=2, 3..=17] {
            for id in ids {
                kit.emit(number(id))?.await?;
            }
            drive(&kit).await;
        }
        assert_eq!((store.hooks().on_way(), kit.stats().deliveries.in_flight), (1, 2), "two are being tried");
        // The trial lands, and then what was handed over for the room of the loop's dead letter.
        for _ in 0..2 {
            store.hooks().land_one();
            drive(&kit).await;
        }
        drop(kit);
        store.hooks().crash();
        Ok(())
    });
    store.hooks().commits.lock().unwrap().is_held = false;
    testing::run(runtime(), async |kit: TestKit| {
        kit.on("number", handler.named("answer").max_outputs(2))?;
        kit.settle().await;
        assert_eq!(kit.stats().deliveries.created, 0);
        Ok(())
    });
}
