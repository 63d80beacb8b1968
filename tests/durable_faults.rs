//! A durable runtime over a store that fails in every way that its contract allows, and that is cut off again and again.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use millstream::{
    Context, Draft, Event, EventId, Handler, HandlerError, Priority, ProcessError, Replay, Retry, Runtime, Start,
    store::{
        Claim, Class, CommitError, Committed, Memory, Op, PartitionId, Reader, Seq, Store, StoreError, StoreFuture,
        Wanted,
    },
    testing::{self, FaultyStore, HeldPartition, HookedStore, Probe, StoreHooks, TestKit},
};
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "order.placed", key = "user")]
struct OrderPlaced {
    id: u64,
    user: u64,
}

#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "order.billed")]
struct OrderBilled {
    id: u64,
}

/// What the handlers saw, over all lives of the runtime.
#[derive(Default)]
struct Book {
    /// Orders by user, in the order in which they ended well.
    billed: BTreeMap<u64, Vec<u64>>,
    seen: BTreeSet<u64>,
    effects: BTreeMap<u64, BTreeSet<String>>,
    attempts: BTreeMap<u64, u32>,
}

type Shared = Arc<Mutex<Book>>;

/// Fails each third order twice, and each eleventh for good.
fn bill(book: &Shared) -> impl Handler<(OrderPlaced, Context)> + use<> {
    let book = Arc::clone(book);
    let handler = move |order: OrderPlaced, context: Context| {
        let book = Arc::clone(&book);
        async move {
            let mut book = book.lock().unwrap();
            book.effects.entry(order.id).or_default().insert(context.effect_key("bill"));
            *book.attempts.entry(order.id).or_default() += 1;
            if order.id % 11 == 5 {
                return Err(HandlerError::permanent("no such card"));
            }
            if order.id.is_multiple_of(3) && context.attempt() < 3 {
                return Err(HandlerError::transient("the bank is closed"));
            }
            book.billed.entry(order.user).or_default().push(order.id);
            let late = order.id.is_multiple_of(5);
            let billed = Draft::new(OrderBilled { id: order.id });
            Ok(if late { billed.delay(Duration::from_secs(90)) } else { billed })
        }
    };
    handler.named("bill").ordered_by_key().concurrency(4).retry(Retry::fixed(Duration::from_secs(7)).attempts(3))
}

fn archive(book: &Shared) -> impl Handler<(OrderBilled,)> + use<> {
    let book = Arc::clone(book);
    let handler = move |order: OrderBilled| {
        let book = Arc::clone(&book);
        async move {
            book.lock().unwrap().seen.insert(order.id);
        }
    };
    handler.named("archive").starting_at(Start::Earliest)
}

/// Drives until all is done, however often the store fails.
async fn finish(kit: &TestKit) {
    for _ in 0..10_000 {
        match kit.runtime().process().await {
            Ok(report) if report.next_deadline.is_none() => return,
            Ok(report) => tokio::time::sleep_until(kit.clock().instant_of(report.next_deadline.unwrap())).await,
            Err(ProcessError::Store { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("it does not come to an end: {:?}", kit.stats());
}

/// Every record of a name in the log, and how often each is there.
async fn log_of(store: &Memory, name: &str) -> BTreeMap<u64, usize> {
    let reader: Box<dyn Reader> = store.reader(PartitionId(0));
    let mut found = BTreeMap::new();
    for class in 0..4 {
        let mut from = Seq(0);
        loop {
            let page = match reader.read(Class(class), from, 1 << 20, &Wanted::default()).await {
                Err(StoreError::Trimmed { first }) => panic!("nothing is to be trimmed below {first:?}"),
                page => page.unwrap(),
            };
            for record in page.records.iter().filter(|record| &*record.name == name) {
                let event = millstream::Envelope::from_record(&record.bytes).unwrap();
                *found.entry(event.data().to_json().unwrap()["id"].as_u64().unwrap()).or_default() += 1;
            }
            from = page.next;
            if page.is_end {
                break;
            }
        }
    }
    found
}

/// Emits orders, cuts the runtime off where `cut` says, and goes on with the next one on the same store.
fn live(store: &Memory, faults: u32, seed: u64, lives: u64, orders: u64) -> (Shared, BTreeMap<u64, EventId>) {
    let (book, taken) = (Shared::default(), Arc::new(Mutex::new(BTreeMap::new())));
    for life in 0..lives {
        let faulty = FaultyStore::new(store.clone(), seed * 1_000 + life).one_in(faults);
        let is_last = life + 1 == lives;
        let (book, accepted) = (Arc::clone(&book), Arc::clone(&taken));
        let builder = Runtime::builder().store(faulty.clone()).retention(millstream::Retention::All).seed(seed + life);
        testing::run(builder, async move |kit: TestKit| {
            kit.on("order.placed", bill(&book))?;
            kit.on("order.billed", archive(&book))?;
            let mut random = fastrand::Rng::with_seed(seed * 31 + life);
            for number in 0..orders {
                let id = life * orders + number;
                let class = Priority::ALL[random.usize(0..4)];
                // One class for a user: between classes there is no order.
                let user = class as u64 * 10 + random.u64(0..3);
                let draft = Draft::new(OrderPlaced { id, user }).priority(class).idempotency_key(id.to_string());
                emit(&kit, &draft, id, &accepted).await;
                if random.u8(0..4) == 0 {
                    let patience = Duration::from_millis(random.u64(0..20_000));
                    drop(tokio::time::timeout(patience, kit.runtime().process()).await);
                }
            }
            if is_last {
                let _quiet = faulty.one_in(0);
                finish(&kit).await;
                kit.assert_balanced();
            }
            Ok(())
        });
    }
    let accepted = taken.lock().unwrap().clone();
    (book, accepted)
}

/// Emits until the store says that it has it, with one idempotency key.
async fn emit(kit: &TestKit, draft: &Draft, id: u64, accepted: &Mutex<BTreeMap<u64, EventId>>) {
    for _ in 0..1_000 {
        if let Ok(receipt) = kit.emit(draft.clone())
            && let Ok(event) = receipt.await
        {
            accepted.lock().unwrap().insert(id, event);
            return;
        }
        drop(tokio::time::timeout(Duration::from_millis(200), kit.runtime().process()).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the store never took {id}: {:?} {:?} {:?}", kit.health(), kit.emit(draft.clone()), kit.stats());
}

async fn check(store: &Memory, book: &Shared, accepted: &BTreeMap<u64, EventId>, what: &str) {
    let placed = log_of(store, "order.placed").await;
    assert!(
        accepted.keys().all(|id| placed.get(id) == Some(&1)),
        "{what}: each accepted order is there once: {placed:?}"
    );
    let billed = log_of(store, "order.billed").await;
    let book = book.lock().unwrap();
    for id in accepted.keys() {
        let dies = id % 11 == 5;
        assert_eq!(
            billed.get(id).copied().unwrap_or_default(),
            usize::from(!dies),
            "{what}: order {id} is billed once"
        );
        assert_eq!(book.seen.contains(id), !dies, "{what}: order {id} is archived");
        assert_eq!(book.effects[id].len(), 1, "{what}: the key of an effect is the same each time");
    }
    for (user, orders) in &book.billed {
        // What is done again after a cut repeats what came before; the first times are in order.
        let mut first: Vec<_> = Vec::new();
        for id in orders {
            if !first.contains(id) {
                first.push(*id);
            }
        }
        assert!(first.is_sorted(), "{what}: user {user}: {first:?} of {orders:?}");
    }
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order_whatever_the_store_does() {
    let seeds = std::env::var("MILLSTREAM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let store = Memory::new();
        let (book, accepted) = live(&store, 6 + u32::try_from(seed % 20).unwrap(), seed, 3, 12);
        assert_eq!(accepted.len(), 36);
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(check(
            &store,
            &book,
            &accepted,
            &format!("seed {seed}"),
        ));
    }
}

/// Tells late: what the store was given is in it, and can be read, before anybody is told.
struct Late;

impl StoreHooks for Late {
    fn append(
        &self,
        store: &Arc<dyn Store>,
        partition: PartitionId,
        batch: Vec<Op>,
    ) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let answer = store.append(partition, batch).now_or_never().unwrap();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            answer
        })
    }

    fn claim(&self, store: &Arc<dyn Store>, partition: PartitionId) -> StoreFuture<'static, Result<Claim, StoreError>> {
        let answer = store.claim(partition).now_or_never().unwrap();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            answer
        })
    }
}

#[test]
fn what_was_read_before_it_was_told_is_handled_once() {
    let store = Memory::new();
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        kit.on("order.placed", (async |_: OrderPlaced| ()).named("bill"))?;
        kit.settle().await;
        Ok(())
    });
    testing::run(Runtime::builder().store(HookedStore::new(store, Late)), async |kit: TestKit| {
        let orders = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&orders);
        let bill = move |order: OrderPlaced| {
            let seen = Arc::clone(&seen);
            async move {
                seen.lock().unwrap().push(order.id);
                // Nothing is committed before the second one is told.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        kit.on("order.placed", bill.named("bill"))?;
        kit.emit(OrderPlaced { id: 1, user: 1 })?.await?;
        let late = async {
            // While the partition is being claimed.
            tokio::time::sleep(Duration::from_millis(2)).await;
            kit.emit(OrderPlaced { id: 2, user: 1 })?.await?;
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        let (_, emitted) = tokio::join!(tokio::time::timeout(Duration::from_secs(1), kit.runtime().run()), late);
        emitted?;
        kit.settle().await;
        assert_eq!(*orders.lock().unwrap(), [1, 2]);
        Ok(())
    });
}

/// Makes dead letters of two orders, and replays them while the store fails; the second is due later.
fn replay_while_the_store_fails(store: &Memory) {
    let faulty = FaultyStore::new(store.clone(), 1).one_in(0);
    testing::run(Runtime::builder().store(faulty.clone()), async move |kit: TestKit| {
        kit.on("order.placed", (async |_: OrderPlaced| Err::<(), _>(HandlerError::permanent("no"))).named("bill"))?;
        for id in 0..2 {
            kit.emit(OrderPlaced { id, user: id })?.await?;
        }
        kit.settle().await;
        // Nobody can write that they are not dead any more.
        let failing = faulty.clone().one_in(1);
        let emitted = kit.emit(OrderPlaced { id: 2, user: 2 })?.await;
        assert!(emitted.is_err());
        let replay = Replay::all().rate(1.try_into()?);
        let replayed = kit.replay(&replay);
        drop(tokio::time::timeout(Duration::from_millis(10), kit.runtime().run()).await);
        assert_eq!((replayed.replayed, kit.replay(&replay).replayed), (0, 0));
        let _quiet = failing.one_in(0);
        drop(tokio::time::timeout(Duration::from_secs(20), kit.runtime().run()).await);
        assert_eq!(kit.replay(&replay).replayed, 2);
        drop(tokio::time::timeout(Duration::from_millis(10), kit.runtime().run()).await);
        Ok(())
    });
}

#[test]
fn a_dead_letter_that_is_replayed_while_the_store_fails_is_not_lost() {
    let store = Memory::new();
    replay_while_the_store_fails(&store);
    testing::run(Runtime::builder().store(store), async |kit: TestKit| {
        let orders = Probe::<OrderPlaced>::new();
        kit.on("order.placed", orders.handler().named("bill"))?;
        kit.settle().await;
        let dead = kit.replay(&Replay::all()).replayed;
        kit.settle().await;
        let mut handled: Vec<_> = orders.received().iter().map(|order| order.id).filter(|id| *id < 2).collect();
        handled.sort_unstable();
        assert_eq!((handled, dead), (vec![0, 1], 1), "one had failed again, the other was on its way");
        Ok(())
    });
}

#[test]
fn a_runtime_that_is_cut_off_again_and_again_does_all_of_it() {
    for seed in 0..40 {
        let store = Memory::new();
        let (book, accepted) = live(&store, 0, seed, 6, 10);
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(check(
            &store,
            &book,
            &accepted,
            &format!("seed {seed}"),
        ));
    }
}

#[test]
fn what_may_not_have_reached_the_store_is_a_finding_for_five_minutes_and_counts_for_good() {
    let seen = Arc::new(Mutex::new(BTreeMap::<u64, usize>::new()));
    let faulty = FaultyStore::new(Memory::new(), 7).one_in(0);
    testing::run(Runtime::builder().store(faulty.clone()), async |kit: TestKit| {
        let is_said = |kit: &TestKit| {
            kit.health().findings.iter().any(|finding| finding.contains("not known to be in the store"))
        };
        let bill =
            |order: OrderPlaced| async move { Draft::new(OrderBilled { id: order.id }).delay(Duration::from_hours(1)) };
        kit.on("order.placed", bill.named("bill"))?;
        let count = Arc::clone(&seen);
        let archive = move |order: OrderBilled| {
            *count.lock().unwrap().entry(order.id).or_default() += 1;
            async {}
        };
        kit.on("order.billed", archive.named("archive"))?;
        let mut id = 0;
        while kit.stats().events.dropped.unsaved == 0 {
            id += 1;
            kit.emit(OrderPlaced { id, user: 1 })?.await?;
            let _faults = faulty.clone().one_in(2);
            drop(tokio::time::timeout(Duration::from_millis(1), kit.runtime().process()).await);
            let _none = faulty.clone().one_in(0);
            while kit.runtime().process().await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let unsaved = kit.stats().events.dropped.unsaved;
        assert!(is_said(&kit), "{:?}", kit.health());
        kit.advance(Duration::from_mins(4)).await;
        assert!(is_said(&kit), "{:?}", kit.health());
        kit.advance(Duration::from_mins(2)).await;
        assert!(kit.health().findings.is_empty(), "{:?}", kit.health());
        assert_eq!(kit.stats().events.dropped.unsaved, unsaved);
        finish(&kit).await;
        assert_eq!(*seen.lock().unwrap(), (1..=id).map(|id| (id, 1)).collect());
        kit.assert_balanced();
        Ok(())
    });
}

/// Claims land and commits do not, while it is off.
#[derive(Default)]
struct Switch {
    is_off: AtomicBool,
}

impl StoreHooks for Switch {
    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        if held.is_lost() || self.is_off.load(Ordering::Relaxed) {
            held.lose();
            return Box::pin(async { Err(CommitError::unknown(std::io::Error::other("no"))) });
        }
        held.commit(batch)
    }
}

#[test]
fn no_handler_is_begun_again_and_again_while_nothing_can_be_written() {
    let store = HookedStore::new(Memory::new(), Switch::default());
    testing::run(Runtime::builder().store(store.clone()), async |kit| {
        let probe = Probe::<OrderPlaced>::new();
        kit.on("order.placed", probe.handler().named("bill"))?;
        kit.emit(Draft::new(OrderPlaced { id: 1, user: 1 }))?.await?;
        kit.process().await?;
        kit.emit(Draft::new(OrderPlaced { id: 2, user: 1 }))?.await?;
        store.hooks().is_off.store(true, Ordering::Relaxed);
        for _ in 0..1_000 {
            drop(kit.runtime().process().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let in_vain = probe.attempts() - 1;
        assert!((1..=3).contains(&in_vain), "it was begun {in_vain} times in vain");
        assert!(kit.stats().events.dropped.unsaved <= 3);
        store.hooks().is_off.store(false, Ordering::Relaxed);
        finish(&kit).await;
        assert_eq!(probe.attempts(), 2 + in_vain, "and once more when it can be");
        kit.assert_balanced();
        Ok(())
    });
}
