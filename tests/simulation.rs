//! A durable runtime through many lives, from one seed: its handlers fail, panic, hang and end the process, its stage panics,
//! the machine's clock jumps between two lives, and its store fails; every second seed's store takes its time as well. What is in
//! the log in the end says whether anything was lost, doubled or out of order.
//!
//! 500 seeds by default. For a long run: `MILLSTREAM_SEEDS=50000 cargo test --release --all-features --test simulation`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use millstream::{
    Clock, DeadLetterFilter, Death, Draft, Envelope, Event, Handler, HandlerError, ProcessError, Retention, Retry,
    Runtime, Stage, Start, Timestamp, chain,
    store::{
        Class, CommitError, Committed, FoundRow, KeyRange, Memory, Op, Page, PartitionId, Reader, Row, Seq, Store,
        StoreError, StoreFuture, Table, Wanted,
    },
    testing::{FaultyStore, HeldPartition, HookedStore, StoreHooks},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
};

const DAY: u64 = 86_400;
const USERS: u64 = 4;
const ORDERS: u64 = 24;
/// The most lives; each culprit takes four to be found out.
const MOST_LIVES: usize = 300;

#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "order", key = "user")]
struct Order {
    id: u64,
    user: u64,
    kind: Kind,
}

/// What becomes of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Fine,
    FailsTwice,
    PanicsOnce,
    HangsOnce,
    Fails,
    Panics,
    Hangs,
    /// Ends the process each time.
    Kills,
}

impl Kind {
    fn of(random: &mut fastrand::Rng) -> Self {
        match random.u8(0..40) {
            0..=2 => Self::FailsTwice,
            3..=5 => Self::PanicsOnce,
            6..=8 => Self::HangsOnce,
            9 => Self::Fails,
            10 => Self::Panics,
            11 => Self::Hangs,
            12 => Self::Kills,
            _ => Self::Fine,
        }
    }

    /// Why it is a dead letter in the end; none where it is not.
    fn death(self) -> Option<Death> {
        match self {
            Self::Fine | Self::FailsTwice | Self::PanicsOnce | Self::HangsOnce => None,
            Self::Fails => Some(Death::Permanent),
            Self::Panics | Self::Hangs => Some(Death::Exhausted),
            Self::Kills => Some(Death::Crashed),
        }
    }
}

/// An order was billed. The stage cannot bear one in nine.
#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "paid", key = "user")]
struct Paid {
    id: u64,
    user: u64,
}

impl Paid {
    fn is_poison(&self) -> bool {
        self.id % 9 == 4
    }
}

/// What a user has paid so far.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[event(name = "total", key = "user")]
struct Total {
    user: u64,
    sum: u64,
}

/// A user has paid nothing for a while.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[event(name = "calm", key = "user")]
struct Calm {
    user: u64,
    last: u64,
}

async fn bill(order: Order, attempt: u32, end: &Notify) -> Result<Paid, HandlerError> {
    let is_first = attempt == 1;
    match order.kind {
        Kind::Kills => {
            end.notify_one();
            std::future::pending::<()>().await;
        }
        Kind::Fails => return Err(HandlerError::permanent("no such card")),
        Kind::FailsTwice if attempt < 3 => return Err(HandlerError::transient("the bank is closed")),
        Kind::Panics => panic!("it always does"),
        Kind::PanicsOnce if is_first => panic!("it does once"),
        Kind::Hangs => std::future::pending().await,
        Kind::HangsOnce if is_first => std::future::pending().await,
        _ => tokio::time::sleep(Duration::from_millis(order.id % 3 * 100)).await,
    }
    Ok(Paid { id: order.id, user: order.user })
}

fn biller(end: &Arc<Notify>) -> impl Handler<(Order, millstream::Context)> + use<> {
    let end = Arc::clone(end);
    let handler = move |order: Order, context: millstream::Context| {
        let end = Arc::clone(&end);
        async move { bill(order, context.attempt(), &end).await }
    };
    let retry = Retry::fixed(Duration::from_secs(40)).attempts(3);
    handler
        .named("bill")
        .starting_at(Start::Earliest)
        .ordered_by_key()
        .concurrency(3)
        .timeout(Duration::from_secs(5))
        .retry(retry)
}

/// A store whose answers take their time, up to so many milliseconds each.
struct Slow {
    random: Mutex<fastrand::Rng>,
    most: u64,
    answers: Mutex<JoinSet<()>>,
}

impl Slow {
    fn pause(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut random = self.random.lock().unwrap();
        let millis = if self.most == 0 || random.u8(0..3) == 0 { 0 } else { random.u64(0..self.most) };
        async move {
            if millis > 0 {
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
        }
    }

    /// What becomes of a batch is told later, to whoever asks anywhere.
    fn told_later(
        &self,
        landing: StoreFuture<'static, Result<Committed, CommitError>>,
    ) -> StoreFuture<'static, Result<Committed, CommitError>> {
        if self.most == 0 {
            return landing;
        }
        let ((tell, told), pause) = (oneshot::channel(), self.pause());
        self.answers.lock().unwrap().spawn(async move {
            pause.await;
            drop(tell.send(landing.await));
        });
        let ended = |_| Err(CommitError::unknown(io::Error::other("the process has ended")));
        Box::pin(async move { told.await.unwrap_or_else(ended) })
    }

    fn read_later<'a, T: Send + 'a>(&self, read: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        let (before, after) = (self.pause(), self.pause());
        Box::pin(async move {
            before.await;
            let read = read.await;
            after.await;
            read
        })
    }
}

impl StoreHooks for Slow {
    fn append(
        &self,
        store: &Arc<dyn Store>,
        partition: PartitionId,
        batch: Vec<Op>,
    ) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.told_later(store.append(partition, batch))
    }

    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        self.told_later(held.commit(batch))
    }

    fn get<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        keys: &'a [Bytes],
    ) -> StoreFuture<'a, Result<Vec<Option<Bytes>>, StoreError>> {
        self.read_later(reader.get(table, keys))
    }

    fn scan<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'a, Result<Vec<Row>, StoreError>> {
        self.read_later(reader.scan(table, range, limit))
    }

    fn scan_each<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'a, Result<Vec<FoundRow>, StoreError>> {
        self.read_later(reader.scan_each(table, range, limit))
    }

    fn read<'a>(
        &'a self,
        reader: &'a dyn Reader,
        class: Class,
        from: Seq,
        max_bytes: usize,
        wanted: &'a Wanted,
    ) -> StoreFuture<'a, Result<Page, StoreError>> {
        self.read_later(reader.read(class, from, max_bytes, wanted))
    }
}

fn runtime(store: impl Store, now: Timestamp, seed: u64, end: &Arc<Notify>) -> Runtime {
    let builder = Runtime::builder().store(store).retention(Retention::All).watchdog(false);
    let runtime = builder.clock(Clock::starting_at(now)).seed(seed).build().unwrap();
    runtime.on("order", biller(end)).unwrap();
    let totals = chain().scan((0, 0), |sum: &mut (u64, u64), paid: Paid| {
        assert!(!paid.is_poison(), "it cannot bear {}", paid.id);
        *sum = (paid.user, sum.1 + paid.id);
    });
    let totals = Stage::keyed(|paid: &Paid| paid.user, totals.map(|(user, sum)| Total { user, sum }));
    runtime.stage("totals", totals.starting_at(Start::Earliest)).unwrap();
    let calm = chain().debounce(Duration::from_mins(10)).map(|paid: Paid| Calm { user: paid.user, last: paid.id });
    let calm = Stage::keyed(|paid: &Paid| paid.user, calm);
    runtime.stage("calm", calm.starting_at(Start::Earliest)).unwrap();
    runtime
}

/// Drives until nothing is left to do, however often the store fails.
async fn finish(runtime: &Runtime) {
    for _ in 0..10_000 {
        match runtime.process().await {
            Ok(report) if report.next_deadline.is_none() => return,
            Ok(report) => {
                tokio::time::sleep_until(runtime.clock().instant_of(report.next_deadline.unwrap())).await;
            }
            Err(ProcessError::Store { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("it does not come to an end: {:?}", runtime.stats());
}

/// What was asked for, over all lives.
#[derive(Default)]
struct Asked {
    next: u64,
    orders: BTreeMap<u64, Order>,
    accepted: BTreeSet<u64>,
}

impl Asked {
    async fn emit(&mut self, runtime: &Runtime, random: &mut fastrand::Rng) {
        let order = Order { id: self.next, user: random.u64(0..USERS), kind: Kind::of(random) };
        self.next += 1;
        self.orders.insert(order.id, order.clone());
        let id = order.id;
        // Where the store has failed, it is told once somebody drives.
        let patience = Duration::from_mins(1);
        if let Ok(receipt) = runtime.emit(Draft::new(order))
            && let Ok(Ok(_)) = tokio::time::timeout(patience, receipt.into_future()).await
        {
            self.accepted.insert(id);
        }
    }
}

/// One process: it emits, works, and ends one way or another. Whether all is done.
async fn live(runtime: &Runtime, asked: &Mutex<Asked>, random: &mut fastrand::Rng) -> bool {
    let is_quiet = asked.lock().unwrap().next >= ORDERS;
    if is_quiet {
        finish(runtime).await;
        return true;
    }
    for _ in 0..random.u64(1..ORDERS) {
        let mut mine = std::mem::take(&mut *asked.lock().unwrap());
        mine.emit(runtime, random).await;
        *asked.lock().unwrap() = mine;
        if random.u8(0..3) == 0 {
            let patience = Duration::from_millis(random.u64(0..30_000));
            drop(tokio::time::timeout(patience, runtime.process()).await);
        }
    }
    if random.bool() {
        drop(runtime.shutdown(Duration::from_millis(random.u64(0..20_000))).await);
    }
    false
}

/// All lives of one seed.
fn simulate(seed: u64) -> (Memory, Asked, usize) {
    let (store, asked) = (Memory::new(), Mutex::new(Asked::default()));
    let mut random = fastrand::Rng::with_seed(seed);
    for life in 1..=MOST_LIVES {
        // The machine's clock may go back by two days, or ahead.
        let now = Timestamp::from_secs(20_000 * DAY + random.u64(0..4 * DAY));
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let is_done = tokio.block_on(async {
            let end = Arc::new(Notify::new());
            let rate = if asked.lock().unwrap().next >= ORDERS { 0 } else { 40 };
            let faulty = FaultyStore::new(store.clone(), random.u64(..)).one_in(rate);
            let most = if seed.is_multiple_of(2) { 0 } else { random.u64(1..100) };
            let own = Mutex::new(fastrand::Rng::with_seed(random.u64(..)));
            let slow = Slow { random: own, most, answers: Mutex::default() };
            let runtime = runtime(HookedStore::new(faulty, slow), now, random.u64(..), &end);
            tokio::select! {
                biased;
                () = end.notified() => false,
                is_done = live(&runtime, &asked, &mut random) => is_done,
            }
        });
        if is_done {
            return (store, asked.into_inner().unwrap(), life);
        }
    }
    panic!("seed {seed}: it is not done after {MOST_LIVES} lives");
}

/// The events of a type, in the order of the log: all are of normal urgency.
async fn log_of<E: Event + DeserializeOwned>(store: &Memory) -> Vec<E> {
    let (reader, mut found, mut from) = (store.reader(PartitionId(0)), Vec::new(), Seq(0));
    loop {
        let page = match reader.read(Class(2), from, 1 << 20, &Wanted::default()).await {
            Err(StoreError::Trimmed { first }) => panic!("nothing is to be trimmed below {first:?}"),
            page => page.unwrap(),
        };
        let mine = page.records.iter().filter(|record| &*record.name == E::NAME);
        found.extend(mine.map(|record| {
            let event = Envelope::from_record(&record.bytes).unwrap();
            serde_json::from_value(event.data().to_json().unwrap()).unwrap()
        }));
        from = page.next;
        if page.is_end {
            return found;
        }
    }
}

/// The dead letters of a name, with why: what a runtime that does nothing else finds.
async fn letters(store: &Memory, name: &str) -> BTreeMap<u64, Death> {
    let runtime = Runtime::builder().store(store.clone()).watchdog(false).build().unwrap();
    runtime.process().await.unwrap();
    let letters = runtime.dead_letters(&DeadLetterFilter::all().subscription(name));
    let id = |event: &Envelope| event.data().to_json().unwrap()["id"].as_u64().unwrap();
    let found: BTreeMap<_, _> = letters.iter().map(|letter| (id(&letter.event), letter.death)).collect();
    assert_eq!(found.len(), letters.len(), "each is dead once");
    found
}

async fn check(store: &Memory, asked: &Asked, seed: u64) {
    let orders = log_of::<Order>(store).await;
    let in_log: BTreeSet<u64> = orders.iter().map(|order| order.id).collect();
    assert_eq!(in_log.len(), orders.len(), "seed {seed}: each order is there once");
    assert!(in_log.is_superset(&asked.accepted), "seed {seed}: {in_log:?} of {:?}", asked.accepted);
    let paid = log_of::<Paid>(store).await;
    let dead = letters(store, "bill").await;
    let alive = orders.iter().filter(|order| order.kind.death().is_none()).map(|order| order.id);
    assert_eq!(sorted(paid.iter().map(|paid| paid.id)), sorted(alive), "seed {seed}: each is billed once");
    let died = orders.iter().filter_map(|order| Some((order.id, order.kind.death()?)));
    assert_eq!(dead, died.collect::<BTreeMap<_, _>>(), "seed {seed}");
    for user in 0..USERS {
        let placed = orders.iter().filter(|order| order.user == user && order.kind.death().is_none());
        let billed = paid.iter().filter(|paid| paid.user == user);
        let (placed, billed): (Vec<_>, Vec<_>) = (placed.map(|o| o.id).collect(), billed.map(|p| p.id).collect());
        assert_eq!(placed, billed, "seed {seed}: user {user} is billed in order");
    }
    check_stages(store, &paid, seed).await;
}

async fn check_stages(store: &Memory, paid: &[Paid], seed: u64) {
    let poison: BTreeMap<_, _> = paid.iter().filter(|p| p.is_poison()).map(|p| (p.id, Death::Permanent)).collect();
    assert_eq!(letters(store, "totals").await, poison, "seed {seed}: what the stage could not bear is dead");
    let (totals, calm) = (log_of::<Total>(store).await, log_of::<Calm>(store).await);
    for user in 0..USERS {
        let mine: Vec<_> = paid.iter().filter(|paid| paid.user == user).collect();
        let borne = mine.iter().filter(|paid| !paid.is_poison());
        let sums = borne.scan(0, |sum, paid| {
            *sum += paid.id;
            Some(Total { user, sum: *sum })
        });
        let told: Vec<_> = totals.iter().filter(|total| total.user == user).cloned().collect();
        assert_eq!(told, sums.collect::<Vec<_>>(), "seed {seed}: user {user}'s totals are told once each");
        let calm: Vec<_> = calm.iter().filter(|calm| calm.user == user).map(|calm| calm.last).collect();
        assert_eq!(calm.last(), mine.last().map(|paid| &paid.id), "seed {seed}: user {user} is calm in the end");
        assert_eq!(calm.iter().collect::<BTreeSet<_>>().len(), calm.len(), "seed {seed}: and each time once");
    }
}

fn sorted(ids: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids
}

fn seeds() -> u64 {
    std::env::var("MILLSTREAM_SEEDS").map_or(500, |seeds| seeds.parse().unwrap())
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order_through_panics_hangs_crashes_faults_and_leaps_of_the_clock() {
    let hook = std::panic::take_hook();
    // What panics on purpose need not be read.
    std::panic::set_hook(Box::new(move |info| {
        let is_ours = info.location().is_some_and(|place| place.file().ends_with("simulation.rs"));
        let text = info.payload_as_str().unwrap_or_default();
        if !(is_ours && (text.starts_with("it ") && !text.contains("seed"))) {
            hook(info);
        }
    }));
    let (mut lives, mut orders) = (0, 0);
    for seed in 0..seeds() {
        let (store, asked, count) = simulate(seed);
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        tokio.block_on(check(&store, &asked, seed));
        (lives, orders) = (lives + count, orders + asked.accepted.len());
    }
    println!("{} seeds, {lives} lives, {orders} orders accepted, 0 violations", seeds());
}
