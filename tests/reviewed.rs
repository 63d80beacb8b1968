//! What a review of durable runtimes found: streams, shutdown, quotas and pages where two things happen at once.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use millstream::{
    Builder, Context, Draft, Envelope, Event, Expect, Handler, Quota, Replay, Retention, Runtime, Stage, Start,
    StorageError, chain,
    store::{
        Claim, Class, CommitError, Committed, Memory, Op, Page, PartitionId, Reader, Seq, Store, StoreError,
        StoreFuture, Wanted, tables,
    },
    testing::{self, HeldPartition, HookedStore, StoreHooks, TestKit},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "sale", key = "shop")]
struct Sale {
    shop: String,
    cents: i64,
}

#[derive(Event, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[event(name = "total")]
struct Total {
    cents: i64,
}

fn sale(cents: i64) -> Sale {
    Sale { shop: "Kornhaus".into(), cents }
}

fn durable() -> Builder {
    Runtime::builder().store(Memory::new())
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Does what can be done without time passing, but for a millisecond.
async fn drive(kit: &TestKit) {
    let _ = tokio::time::timeout(ms(1), kit.process()).await;
}

type Landing = Result<Committed, CommitError>;
type Chooses = fn(&Op) -> bool;

/// A store that does what a test says.
#[derive(Default)]
struct Hooks {
    /// Whether what is appended waits.
    holds_appends: watch::Sender<bool>,
    /// Whether what is committed waits.
    holds_commits: watch::Sender<bool>,
    /// Whether a claim waits.
    holds_claims: watch::Sender<bool>,
    /// Whether a claim fails.
    fails_claims: AtomicBool,
    /// Whether pages are read later.
    holds_pages: watch::Sender<bool>,
    /// Nobody knows what became of a batch for which this says so; it is kept.
    hides: Mutex<Option<Chooses>>,
    /// Whether what is kept waits.
    holds_hidden: watch::Sender<bool>,
    /// What was kept lands before the next claim.
    late: Mutex<Vec<(HeldPartition, Vec<Op>)>>,
    /// Whether what was kept never lands.
    forgets: AtomicBool,
}

type Hooked = HookedStore<Hooks>;

fn hooked() -> Hooked {
    HookedStore::new(Memory::new(), Hooks::default())
}

async fn released(held: &watch::Sender<bool>) {
    let mut held = held.subscribe();
    drop(held.wait_for(|held| !*held).await);
}

impl StoreHooks for Hooks {
    fn append(&self, store: &Arc<dyn Store>, partition: PartitionId, batch: Vec<Op>) -> StoreFuture<'static, Landing> {
        let (store, held) = (Arc::clone(store), self.holds_appends.clone());
        Box::pin(async move {
            released(&held).await;
            store.append(partition, batch).await
        })
    }

    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Landing> {
        let hides = *self.hides.lock().unwrap();
        let is_hidden = hides.is_some_and(|hides| batch.iter().any(hides));
        let (held, waits) = (held.clone(), self.holds_commits.clone());
        if is_hidden {
            let waits = self.holds_hidden.clone();
            *self.hides.lock().unwrap() = None;
            self.late.lock().unwrap().push((held.clone(), batch));
            return Box::pin(async move {
                released(&waits).await;
                Err(CommitError::unknown(std::io::Error::other("nobody knows")))
            });
        }
        Box::pin(async move {
            released(&waits).await;
            held.commit(batch).await
        })
    }

    fn claim(&self, store: &Arc<dyn Store>, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        if self.fails_claims.load(Relaxed) {
            return Box::pin(async { Err(StoreError::io("claiming", std::io::Error::other("it is away"))) });
        }
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        let (store, waits, forgets) = (Arc::clone(store), self.holds_claims.clone(), self.forgets.load(Relaxed));
        Box::pin(async move {
            released(&waits).await;
            for (held, batch) in late {
                if !forgets {
                    held.commit(batch).await.unwrap();
                }
                held.lose();
            }
            store.claim(partition).await
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
        Box::pin(async move {
            released(&self.holds_pages).await;
            reader.read(class, from, max_bytes, wanted).await
        })
    }
}

#[test]
fn what_a_stream_of_a_durable_runtime_cannot_read_is_a_dead_letter_and_others_get_what_follows() {
    testing::run(durable(), async |kit| {
        let mut sales = kit.stream::<Sale>("sale");
        kit.on("sale", (async |_: Arc<Envelope>| {}).named("all"))?;
        kit.settle().await;
        kit.emit_all([Draft::json("sale", "no sale".into()), Draft::new(sale(1))])?;
        kit.settle().await;
        let meter = sales.head().meter();
        assert_eq!((meter.items(), meter.unreadable(), meter.dropped()), (1, 1, 0));
        assert_eq!(sales.next().await, Some(sale(1)));
        let letter = kit.assert_one_dead_letter();
        assert_eq!(letter.subscription.as_deref(), Some(meter.name()));
        let book = kit.stats().deliveries;
        assert_eq!((book.created, book.handled, book.dead), (4, 3, 1));

        // Replayed, it is none the better, and nobody waits for it.
        assert_eq!(kit.replay(&Replay::all()).replayed, 1);
        kit.settle().await;
        kit.assert_one_dead_letter();
        assert_eq!(meter.unreadable(), 2);
        Ok(())
    });
}

#[test]
fn a_stream_of_a_durable_runtime_gets_what_a_stage_emits_in_order_and_once() {
    testing::run(durable(), async |kit| {
        kit.stage("totals", Stage::new(chain().map(|sale: Sale| Total { cents: sale.cents })))?;
        let sums = kit.stream::<Total>("total");
        let all = kit.stream::<Arc<Envelope>>(">");
        for cents in 0..5 {
            kit.emit(sale(cents))?;
            kit.emit(sale(cents + 10))?;
            kit.settle().await;
        }
        assert_eq!((sums.head().meter().items(), all.head().meter().items()), (10, 20));
        kit.shutdown(Duration::ZERO).await?;
        let seen: Vec<_> = sums.map(|total| total.cents).collect().await;
        assert_eq!(seen, [0, 10, 1, 11, 2, 12, 3, 13, 4, 14]);
        let ids: std::collections::BTreeSet<_> = all.map(|event| event.id()).collect().await;
        assert_eq!(ids.len(), 20);
        Ok(())
    });
}

#[test]
fn a_stream_of_a_durable_runtime_gets_events_of_a_tenant_whose_handlers_have_a_quota() {
    let builder = durable().quota_of("t", Quota::new().concurrency(1));
    testing::run(builder, async |kit| {
        let sales = kit.stream::<Sale>("sale");
        kit.settle().await;
        kit.emit(Draft::new(sale(1)).tenant("t"))?;
        kit.settle().await;
        assert_eq!(sales.head().meter().items(), 1);
        Ok(())
    });
}

#[test]
fn a_stream_of_a_durable_runtime_gets_what_was_emitted_before_anybody_drove_and_nothing_of_before() {
    let store = Memory::new();
    testing::run(Runtime::builder().store(store.clone()), async |kit| {
        kit.emit(sale(1))?;
        kit.settle().await;
        kit.shutdown(Duration::ZERO).await?;
        Ok(())
    });
    testing::run(Runtime::builder().store(store), async |kit| {
        let early = kit.stream::<Sale>("sale");
        kit.emit(sale(2))?;
        kit.settle().await;
        let late = kit.stream::<Sale>("sale");
        kit.emit(sale(3))?;
        kit.settle().await;
        kit.shutdown(Duration::ZERO).await?;
        let cents = async |stream: millstream::Flow<millstream::EventStream<Sale>>| {
            stream.map(|sale| sale.cents).collect::<Vec<_>>().await
        };
        assert_eq!((cents(early).await, cents(late).await), (vec![2, 3], vec![3]));
        Ok(())
    });
}

#[test]
fn a_stream_of_a_durable_runtime_gets_what_landed_while_the_partition_was_lost() {
    let store = hooked();
    testing::run(Runtime::builder().store(store.clone()), async |kit| {
        kit.on("sale", (async |_: Arc<Envelope>| {}).named("all"))?;
        let sales = kit.stream::<Sale>("sale");
        kit.settle().await;
        store.hooks().holds_hidden.send_replace(true);
        *store.hooks().hides.lock().unwrap() = Some(|op| matches!(op, Op::Put { table: tables::CURSOR, .. }));
        kit.emit(sale(1))?;
        drive(&kit).await;
        // It is in the log, and before anybody is told of it the partition is lost.
        kit.emit(sale(2))?.await?;
        store.hooks().holds_hidden.send_replace(false);
        kit.settle().await;
        kit.emit(sale(3))?;
        kit.settle().await;
        kit.shutdown(Duration::ZERO).await?;
        assert_eq!(sales.map(|sale| sale.cents).collect::<Vec<_>>().await, [1, 2, 3]);
        Ok(())
    });
}

#[test]
fn a_shutdown_whose_grace_is_over_waits_for_a_write_to_the_storage_no_longer() {
    let store = hooked();
    testing::run(Runtime::builder().store(store.clone()), async |kit| {
        kit.settle().await;
        store.hooks().holds_commits.send_replace(true);
        let runtime = kit.runtime().clone();
        let storage = runtime.storage("n");
        // The write is polled first, and has the dispatcher.
        let both = async { tokio::join!(biased; storage.put("k", "v"), kit.shutdown(Duration::ZERO)) };
        let (put, report) = tokio::time::timeout(Duration::from_secs(10), both).await?;
        report?;
        assert!(matches!(put, Err(StorageError::Unknown { .. })));
        store.hooks().holds_commits.send_replace(false);
        Ok(())
    });
}

#[test]
fn a_shutdown_whose_grace_is_over_waits_for_events_on_their_way_to_the_store() {
    let store = hooked();
    testing::run(Runtime::builder().store(store.clone()), async |kit| {
        kit.settle().await;
        store.hooks().holds_appends.send_replace(true);
        let first = kit.emit(sale(1))?;
        // It waits in the queue until the first has landed, and is handed back.
        let second = kit.emit(sale(2))?;
        let shutdown = kit.shutdown(Duration::ZERO);
        tokio::pin!(shutdown);
        assert!(tokio::time::timeout(ms(100), &mut shutdown).await.is_err(), "what was accepted is on its way");
        store.hooks().holds_appends.send_replace(false);
        let report = shutdown.await?;
        assert!(first.await.is_ok() && second.await.is_err());
        assert_eq!(report.parked.iter().map(|event| event.decode::<Sale>().unwrap()).collect::<Vec<_>>(), [sale(2)]);
        assert_eq!(kit.stats().events.queued, 0);
        Ok(())
    });
}

#[test]
fn a_page_that_was_being_read_when_a_subscription_was_taken_back_is_not_delivered() {
    let store = hooked();
    let large = || Draft::json("large", "x".repeat(200 << 10).into());
    testing::run(Runtime::builder().store(store.clone()), async |kit| {
        kit.emit_all([large(), large()])?;
        kit.settle().await;
        kit.shutdown(Duration::ZERO).await?;
        Ok(())
    });
    testing::run(Runtime::builder().store(store.clone()), async |kit| {
        let (begun, go) = (Arc::new(AtomicU64::new(0)), watch::Sender::new(false));
        let (seen, hooks, waits) = (Arc::clone(&begun), store.clone(), go.clone());
        let handler = move |_: Arc<Envelope>| {
            if seen.fetch_add(1, Relaxed) == 0 {
                hooks.hooks().holds_pages.send_replace(true);
            }
            let mut waits = waits.subscribe();
            async move { drop(waits.wait_for(|go| *go).await) }
        };
        let id = kit.on("large", handler.named("slow").starting_at(Start::Earliest))?;
        drive(&kit).await;
        assert_eq!(begun.load(Relaxed), 1, "the second is on a page of its own");
        kit.off(id);
        drive(&kit).await;
        store.hooks().holds_pages.send_replace(false);
        drive(&kit).await;
        go.send_replace(true);
        kit.settle().await;
        assert_eq!(begun.load(Relaxed), 1);
        Ok(())
    });
}

#[test]
fn what_is_put_on_a_condition_while_nobody_holds_the_partition_is_checked_once_somebody_does() {
    let store = hooked();
    testing::run(Runtime::builder().store(store.clone()), async |kit| {
        let handler = async |context: Context| context.storage("n").put("row", "a handler's").await;
        kit.on("sale", handler.named("writer"))?;
        kit.settle().await;
        store.hooks().holds_claims.send_replace(true);
        *store.hooks().hides.lock().unwrap() = Some(|op| matches!(op, Op::Put { table: tables::STORAGE, .. }));
        kit.emit(sale(1))?.await?;
        drive(&kit).await;
        let runtime = kit.runtime().clone();
        let storage = runtime.storage("n");
        let put = storage.put_if("row", Expect::Absent, "another's");
        tokio::pin!(put);
        assert!(tokio::time::timeout(ms(1), &mut put).await.is_err(), "nobody holds the partition");
        store.hooks().holds_claims.send_replace(false);
        assert!(!put.await?, "what the handler wrote has landed");
        kit.settle().await;
        assert_eq!(kit.storage("n").get("row").await?.as_deref(), Some(&b"a handler's"[..]));
        assert_eq!(kit.stats().deliveries.handled, 1, "its commit is in the store: it is not handled again");
        Ok(())
    });
}

#[test]
fn delayed_events_of_a_durable_runtime_wait_on_disk_whatever_limits_there_are_for_memory() {
    let builder = durable().delayed_size(2).quota_of("t", Quota::new().delayed(1));
    testing::run(builder, async |kit| {
        let handled = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&handled);
        let count = move |_: Arc<Envelope>| {
            seen.fetch_add(1, Relaxed);
            async {}
        };
        kit.on("later", count.named("all"))?;
        let fan_out = async |_: Sale| [1, 2, 3].map(|n| Draft::json("later", n.into()).delay(Duration::from_mins(1)));
        kit.on("sale", fan_out.named("fan out"))?;
        for n in 0..5 {
            kit.emit(Draft::json("later", n.into()).delay(Duration::from_hours(1)).tenant("t"))?.await?;
        }
        kit.emit(sale(1))?;
        kit.settle().await;
        assert_eq!(kit.stats().events.delayed, 8);
        kit.assert_no_dead_letters();
        kit.advance(Duration::from_hours(1)).await;
        assert_eq!(handled.load(Relaxed), 8);
        Ok(())
    });
}

#[test]
fn a_name_that_is_forgotten_and_wanted_anew_begins_anew_though_the_last_of_its_rows_went_in_a_commit_that_was_lost() {
    let store = hooked();
    testing::run(Runtime::builder().store(store.clone()).retention(Retention::All), async |kit| {
        let id = kit.on("sale", (async |_: Sale| {}).named("all"))?;
        kit.emit_all([sale(1), sale(2), sale(3)])?;
        kit.settle().await;
        assert_eq!(kit.stats().deliveries.handled, 3);
        kit.off(id);
        kit.settle().await;

        store.hooks().forgets.store(true, Relaxed);
        *store.hooks().hides.lock().unwrap() = Some(|op| matches!(op, Op::Delete { table: tables::SUBSCRIPTION, .. }));
        store.hooks().holds_hidden.send_replace(true);
        kit.forget("all");
        drive(&kit).await;
        assert_eq!(store.hooks().late.lock().unwrap().len(), 1, "it is on its way");
        kit.on("sale", (async |_: Sale| {}).named("all").starting_at(Start::Earliest))?;
        store.hooks().holds_hidden.send_replace(false);
        kit.settle().await;
        assert_eq!(kit.stats().deliveries.handled, 6, "it begins with the first again");
        Ok(())
    });
}

#[test]
fn what_a_stream_cannot_read_lets_no_more_handlers_of_its_tenant_run() {
    let builder = durable().quota_of("t", Quota::new().concurrency(1));
    testing::run(builder, async |kit| {
        let (running, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (now, highest) = (Arc::clone(&running), Arc::clone(&most));
        let handler = move |_: Arc<Envelope>| {
            let (now, highest) = (Arc::clone(&now), Arc::clone(&highest));
            async move {
                highest.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
                tokio::time::sleep(ms(10)).await;
                now.fetch_sub(1, Relaxed);
            }
        };
        kit.on("sale", handler.named("slow"))?;
        let sales = kit.stream::<Sale>("sale");
        kit.settle().await;
        for n in 0..6 {
            let draft = if n % 2 == 0 { Draft::new(sale(n)) } else { Draft::json("sale", "no sale".into()) };
            kit.emit(draft.tenant("t"))?.await?;
        }
        kit.settle().await;
        assert_eq!((most.load(Relaxed), sales.head().meter().items(), kit.stats().deliveries.dead), (1, 3, 3));
        Ok(())
    });
}

#[test]
fn a_stream_that_is_made_while_others_read_in_the_log_misses_nothing() {
    let store = hooked();
    testing::run(Runtime::builder().store(store.clone()), async |kit| {
        let stage = Stage::new(chain().map(|sale: Sale| Total { cents: sale.cents }));
        kit.stage("totals", stage)?;
        let totals = kit.stream::<Total>("total");
        kit.settle().await;
        kit.emit(sale(1))?.await?;
        store.hooks().holds_pages.send_replace(true);
        drive(&kit).await;
        let late = kit.stream::<Sale>("sale");
        drive(&kit).await;
        kit.emit(sale(2))?.await?;
        drive(&kit).await;
        store.hooks().holds_pages.send_replace(false);
        kit.settle().await;
        assert_eq!((totals.head().meter().items(), late.head().meter().items()), (2, 1));
        Ok(())
    });
}

#[test]
fn what_nobody_waits_for_is_not_written_once_the_store_comes_back_though_another_drove() {
    let store = hooked();
    testing::run(Runtime::builder().store(store.clone()), async |kit| {
        kit.storage("n").put("first", "v").await?;
        store.hooks().fails_claims.store(true, Relaxed);
        // So that the partition is lost.
        *store.hooks().hides.lock().unwrap() = Some(|_| true);
        store.hooks().forgets.store(true, Relaxed);
        let drives = tokio::time::timeout(Duration::from_mins(2), kit.runtime().run());
        let writes = async {
            for n in 0..100 {
                let _ = tokio::time::timeout(ms(200), kit.storage("n").put(n.to_string(), "v")).await;
            }
            store.hooks().fails_claims.store(false, Relaxed);
        };
        let _ = tokio::join!(drives, writes);
        let written = kit.storage("n").scan("", None, 1_000).await?.len();
        assert!(written <= 2, "{written}");
        Ok(())
    });
}

fn deletes_a_mark(op: &Op) -> bool {
    matches!(op, Op::Delete { table: tables::START, .. })
}

/// Forgets a name, and loses the commit with the last of its rows; it is wanted anew before that is known.
async fn forget_and_want(kit: &TestKit, store: &Hooked, name: &str, wanted: impl FnOnce()) {
    drive(kit).await;
    store.hooks().forgets.store(true, Relaxed);
    *store.hooks().hides.lock().unwrap() = Some(deletes_a_mark);
    store.hooks().holds_hidden.send_replace(true);
    kit.forget(name);
    drive(kit).await;
    assert_eq!(store.hooks().late.lock().unwrap().len(), 1, "it is on its way");
    wanted();
    store.hooks().holds_hidden.send_replace(false);
    kit.settle().await;
}

#[test]
fn a_name_that_only_a_mark_made_known_begins_anew_once_it_is_forgotten_though_that_commit_was_lost() {
    let store = hooked();
    let builder = || Runtime::builder().store(store.clone()).retention(Retention::All);
    let all = || (async |_: Sale| {}).named("all");
    testing::run(builder(), async |kit| {
        kit.on("sale", all())?;
        for cents in 0..3 {
            kit.emit(sale(cents))?.await?;
        }
        Ok(())
    });
    testing::run(builder(), async |kit| {
        forget_and_want(&kit, &store, "all", || kit.on("sale", all()).map(|_| ()).unwrap()).await;
        assert_eq!(kit.stats().deliveries.handled, 0, "it begins where the log ended when it was wanted");
        kit.emit(sale(4))?;
        kit.settle().await;
        assert_eq!(kit.stats().deliveries.handled, 1);
        Ok(())
    });
}

#[test]
fn a_stage_that_is_forgotten_and_wanted_anew_begins_anew_though_the_last_of_its_rows_went_in_a_commit_that_was_lost() {
    let store = hooked();
    let builder = || Runtime::builder().store(store.clone()).retention(Retention::All);
    let totals = || Stage::new(chain().map(|sale: Sale| Total { cents: sale.cents }));
    let emitted =
        async |kit: &TestKit| futures::StreamExt::count(kit.runtime().history("total").unwrap().events()).await;
    testing::run(builder(), async |kit| {
        kit.emit(sale(0))?;
        kit.settle().await;
        kit.stage("totals", totals())?;
        kit.emit_all([sale(1), sale(2), sale(3)])?;
        kit.settle().await;
        assert_eq!(emitted(&kit).await, 3);
        Ok(())
    });
    testing::run(builder(), async |kit| {
        forget_and_want(&kit, &store, "totals", || kit.stage("totals", totals()).map(drop).unwrap()).await;
        assert_eq!(emitted(&kit).await, 3, "it begins where the log ended when it was wanted");
        kit.emit(sale(4))?;
        kit.settle().await;
        assert_eq!(emitted(&kit).await, 4);
        Ok(())
    });
}
