//! Whatever is done in whatever order, the books balance at every step, and nothing stays behind.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use futures::FutureExt;
use millstream::{
    CancellationToken, Context, DeadLetterFilter, Draft, Envelope, Event, EventBook, EventStream, Flow, Handler,
    HandlerError, Json, Key, Overflow, Priority, Quota, Replay, Retry, Runtime, Share, SubscriptionId, Tenant,
    testing::{self, TestKit},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

const MILLISECOND: Duration = Duration::from_millis(1);
const CAPACITY: usize = 12;

/// The keys that are being handled in a subscription that is ordered by them.
#[derive(Clone, Default)]
struct Keys(Arc<Mutex<HashSet<OwnKey>>>);

type OwnKey = (Option<Tenant>, Key);

/// A key while it is handled.
struct Busy(Keys, Option<OwnKey>);

impl Keys {
    fn begin(&self, event: &Envelope) -> Busy {
        let key = event.key().map(|key| (event.tenant().cloned(), key.clone()));
        if let Some(key) = &key {
            assert!(self.0.lock().unwrap().insert(key.clone()), "two of one key at once");
        }
        Busy(self.clone(), key)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(key) = &self.1 {
            self.0.0.lock().unwrap().remove(key);
        }
    }
}

/// Does what others do from outside.
fn act(random: u32, runtime: &Runtime, context: &Context) {
    match random % 8 {
        0 => drop(runtime.emit(event(random / 8))),
        1 => drop(runtime.replay(&Replay::all().limit(2))),
        2 => drop(runtime.purge(&DeadLetterFilter::all().key(random / 8 % 3))),
        3 => drop(context.emit(event(random / 8))),
        4 => drop(runtime.emit_wait(event(random / 8)).now_or_never()),
        5 => assert!(runtime.process().now_or_never().is_some_and(|processed| processed.is_err())),
        _ => {}
    }
}

/// One of a few behaviours, until all of them succeed at once.
async fn behave(random: u32, is_mended: bool, busy: Option<Busy>) -> Result<Vec<Draft>, HandlerError> {
    let _busy = busy;
    if is_mended {
        return Ok(Vec::new());
    }
    match random % 10 {
        0 => Err(HandlerError::permanent("never")),
        1 | 2 => Err(HandlerError::transient("not now")),
        #[expect(clippy::panic, reason = "a handler that does it on purpose")]
        3 => panic!("on purpose"),
        4 => {
            tokio::time::sleep(MILLISECOND * (random / 10 % 50)).await;
            Ok(Vec::new())
        }
        5 => {
            tokio::time::sleep(MILLISECOND * 5).await;
            Err(HandlerError::transient("later"))
        }
        6 => std::future::pending().await,
        7 => Ok(vec![event(random / 10)]),
        _ => Ok(Vec::new()),
    }
}

fn event(random: u32) -> Draft {
    let name = ["a", "b", "c"][random as usize % 3];
    let mut rng = Rng::with_seed(random.into());
    let mut draft = Draft::json(name, json!(random)).priority(Priority::ALL[rng.usize(0..4)]);
    if rng.bool() {
        draft = draft.key(rng.u8(0..3));
    }
    if rng.bool() {
        draft = draft.tenant(["t", "u"][rng.usize(0..2)]);
    }
    if rng.u8(0..6) == 0 {
        draft = draft.delay(MILLISECOND * rng.u32(0..30));
    }
    draft
}

#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "b")]
struct Answer;

struct Churn {
    rng: Rng,
    kit: TestKit,
    tokens: Vec<CancellationToken>,
    streams: Vec<Flow<EventStream<Json>>>,
    ids: Vec<SubscriptionId>,
    is_mended: Arc<AtomicBool>,
}

impl Churn {
    fn subscribe(&mut self) {
        let (rng, is_mended) = (&mut self.rng, Arc::clone(&self.is_mended));
        let random = Mutex::new(rng.fork());
        let (kind, keys, runtime) = (rng.u8(0..4), Keys::default(), self.kit.runtime().clone());
        let handler = move |event: Arc<Envelope>, context: Context| {
            let (random, other) = {
                let mut rng = random.lock().unwrap();
                (rng.u32(..), rng.u32(..))
            };
            let busy = (kind > 0).then(|| keys.begin(&event));
            let is_mended = is_mended.load(Ordering::Relaxed);
            if !is_mended {
                act(other, &runtime, &context);
            }
            behave(random, is_mended, busy)
        };
        let share = [Share::Refuse, Share::DropOldest, Share::DeadLetter][rng.usize(0..3)];
        let handler = handler.when_saturated(share).concurrency(rng.usize(1..4)).timeout(MILLISECOND * rng.u32(5..40));
        let handler = handler.retry(Retry::fixed(MILLISECOND * rng.u32(0..9)).attempts(rng.u32(1..4)));
        let pattern = ["a", "b", "c", "*"][rng.usize(0..4)];
        let subscribed = match kind {
            0 => self.kit.on(pattern, handler),
            1 => self.kit.on(pattern, handler.ordered_by_key()),
            2 => self.kit.on(pattern, handler.ordered_by_key().halt_key_on_dead()),
            _ => self.kit.on(pattern, handler.strict_key_order().halt_key_on_dead()),
        };
        self.ids.push(subscribed.unwrap());
    }

    fn token(&mut self) -> CancellationToken {
        if self.tokens.is_empty() || self.rng.u8(0..4) == 0 {
            self.tokens.push(CancellationToken::new());
        }
        self.tokens[self.rng.usize(0..self.tokens.len())].clone()
    }

    async fn step(&mut self) {
        match self.rng.u8(0..27) {
            0 => self.subscribe(),
            1 if !self.ids.is_empty() => {
                let id = self.ids.swap_remove(self.rng.usize(0..self.ids.len()));
                assert!(self.kit.off(id));
            }
            2 => {
                let replay = Replay::all().limit(self.rng.usize(0..4));
                let fast = replay.clone().rate(200.try_into().unwrap());
                self.kit.replay(if self.rng.bool() { &replay } else { &fast });
            }
            3 => drop(self.kit.purge(&DeadLetterFilter::all().key(self.rng.u8(0..3)))),
            4 => {
                let token = self.token();
                self.kit.cancel(&token);
            }
            5 => self.token().cancel(),
            6..9 => {
                let token = self.token();
                drop(self.kit.emit(event(self.rng.u32(..)).cancelled_by(&token)));
            }
            9..12 => drop(self.kit.emit_wait(event(self.rng.u32(..))).now_or_never()),
            12..20 => drop(self.kit.emit(event(self.rng.u32(..)))),
            20 => drop(self.kit.emit_all((0..5).map(|_| event(self.rng.u32(..))).collect::<Vec<_>>())),
            21 => drop(self.kit.process().now_or_never()),
            22 => self.streams.push(self.kit.stream("*")),
            23 => drop((!self.streams.is_empty()).then(|| self.streams.swap_remove(0))),
            24 => {
                let question = event(self.rng.u32(..));
                let asked = self.kit.request::<Answer>(question, MILLISECOND * 10);
                let (_, processed) = tokio::join!(asked, tokio::time::timeout(MILLISECOND * 5, self.kit.process()));
                drop(processed);
            }
            _ => self.kit.advance(MILLISECOND * self.rng.u32(0..20)).await,
        }
        self.kit.assert_balanced();
        let stats = self.kit.stats();
        assert!(stats.deliveries.open() < 10_000 && stats.held < 10_000);
    }

    /// Mends all, and lets all go on.
    async fn finish(&mut self) {
        self.is_mended.store(true, Ordering::Relaxed);
        self.kit.advance(Duration::from_secs(5)).await;
        self.kit.purge(&DeadLetterFilter::all());
        self.kit.settle().await;
        self.kit.advance(Duration::from_secs(5)).await;
        self.kit.purge(&DeadLetterFilter::all());
        self.kit.settle().await;
        let stats = self.kit.stats();
        assert_eq!(
            (stats.deliveries.open(), stats.held, stats.events.queued, stats.events.delayed),
            (0, 0, 0, 0),
            "{stats:?}"
        );
        for tenant in ["t", "u"] {
            for n in 0..4 {
                self.kit.emit(Draft::json("free", json!(n)).tenant(tenant)).unwrap();
            }
        }
        self.kit.settle().await;
        self.kit.clear();
        self.streams.clear();
        let told: Vec<_> = self.kit.describe().subscriptions;
        assert!(told.is_empty());
    }
}

fn churn(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let overflow = [Overflow::Refuse, Overflow::DropOldest, Overflow::DropNewest][rng.usize(0..3)];
    let quota = Quota::new().queue(4).concurrency(2).retries(3).dead_letters(6);
    let builder = Runtime::builder()
        .queue_size(CAPACITY)
        .batch_size(rng.usize(1..5))
        .overflow(overflow)
        .dead_letter_size(rng.usize(1..12))
        .max_event_depth(5);
    let builder = if rng.bool() { builder.tenant_quota(quota) } else { builder };
    testing::run(builder, async |kit| {
        let is_mended = Arc::new(AtomicBool::new(false));
        let mut churn = Churn { rng, kit, tokens: Vec::new(), streams: Vec::new(), ids: Vec::new(), is_mended };
        (0..3).for_each(|_| churn.subscribe());
        for _ in 0..150 {
            churn.step().await;
        }
        if churn.rng.bool() {
            churn.finish().await;
            return Ok(());
        }
        // Or all ends in the midst of it.
        let before = churn.kit.stats();
        churn.kit.shutdown(MILLISECOND * churn.rng.u32(0..20)).await?;
        let stats = churn.kit.stats();
        let EventBook { queued, delayed, parked, .. } = stats.events;
        assert_eq!((stats.deliveries.open(), stats.held, queued, delayed), (0, 0, 0, 0), "{stats:?}");
        assert!(parked >= before.events.parked && churn.kit.describe().subscriptions.is_empty());
        Ok(())
    });
}

/// Whether anything panicked that should not, handlers included.
static IS_WRONG: AtomicBool = AtomicBool::new(false);

#[test]
fn whatever_is_done_the_books_balance_and_nothing_stays_behind() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_expected = info.payload().downcast_ref::<&str>().is_some_and(|text| *text == "on purpose");
        if !is_expected {
            IS_WRONG.store(true, Ordering::Relaxed);
            hook(info);
        }
    }));
    let (first, count) = (read("CHURN_SEED", 0), read("CHURN_COUNT", 200));
    for seed in first..first + count {
        let outcome = std::panic::catch_unwind(|| churn(seed));
        assert!(outcome.is_ok() && !IS_WRONG.load(Ordering::Relaxed), "seed {seed}");
    }
}

fn read(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn drivers_emitters_and_subscribers_that_come_and_go_on_many_threads_leave_nothing_behind() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    tokio.block_on(async {
        for round in 0..read("CHURN_ROUNDS", 20) {
            let ended = tokio::time::timeout(Duration::from_secs(30), many_threads(round)).await;
            assert!(ended.is_ok(), "round {round}: somebody waits for ever");
        }
    });
}

async fn many_threads(round: u64) {
    let runtime = Runtime::builder().queue_size(8).batch_size(3).build().unwrap();
    let handled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&handled);
    let handler = move |event: Arc<Envelope>| {
        let count = Arc::clone(&count);
        async move {
            if event.id().as_u128().is_multiple_of(3) {
                tokio::task::yield_now().await;
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    runtime.on("a", handler.concurrency(3)).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..3 {
        let (runtime, mut rng) = (runtime.clone(), Rng::with_seed(round * 100 + number));
        tasks.spawn(async move {
            let mut accepted = 0;
            for n in 0..300 {
                let wait = runtime.emit_wait(Draft::json("a", json!(n)));
                let patience = MILLISECOND * rng.u32(0..3);
                accepted += u64::from(tokio::time::timeout(patience, wait).await.is_ok_and(|emitted| emitted.is_ok()));
            }
            accepted
        });
    }
    for number in 0..2 {
        let (runtime, mut rng) = (runtime.clone(), Rng::with_seed(round * 100 + 50 + number));
        tasks.spawn(async move {
            for _ in 0..100 {
                drop(tokio::time::timeout(MILLISECOND * rng.u32(0..3), runtime.process()).await);
                let id = runtime.on("a.b", || async {}).unwrap();
                runtime.purge(&DeadLetterFilter::all());
                assert!(runtime.off(id));
                tokio::task::yield_now().await;
            }
            0
        });
    }
    let driver = {
        let runtime = runtime.clone();
        async move { runtime.run().await.unwrap() }
    };
    let work = async {
        let accepted: u64 = tasks.join_all().await.into_iter().sum();
        runtime.process().await.unwrap();
        assert_eq!(handled.load(Ordering::Relaxed), accepted);
        let stats = runtime.stats();
        assert_eq!((stats.held, stats.events.queued, stats.deliveries.open()), (0, 0, 0));
        runtime.shutdown(Duration::from_secs(5)).await.unwrap();
    };
    tokio::join!(driver, work);
    assert!(runtime.stats().balances());
}
