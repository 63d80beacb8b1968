//! Whatever is done in whatever order, the books balance at every step, and nothing stays behind.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use futures::FutureExt;
use millstream::{
    CancellationToken, DeadLetterFilter, Draft, Handler, HandlerError, Overflow, Priority, Quota, Replay, Retry,
    Runtime, Share, SubscriptionId,
    testing::{self, TestKit},
};
use serde_json::json;

const MILLISECOND: Duration = Duration::from_millis(1);
const CAPACITY: usize = 12;

/// One of a few behaviours, until all of them succeed at once.
async fn behave(random: u32, is_mended: bool) -> Result<Vec<Draft>, HandlerError> {
    if is_mended {
        return Ok(Vec::new());
    }
    match random % 10 {
        0 => Err(HandlerError::permanent("never")),
        1 | 2 => Err(HandlerError::transient("not now")),
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

struct Churn {
    rng: Rng,
    kit: TestKit,
    tokens: Vec<CancellationToken>,
    ids: Vec<SubscriptionId>,
    is_mended: Arc<AtomicBool>,
}

impl Churn {
    fn subscribe(&mut self) {
        let (rng, is_mended) = (&mut self.rng, Arc::clone(&self.is_mended));
        let random = std::sync::Mutex::new(rng.fork());
        let handler = move || behave(random.lock().unwrap().u32(..), is_mended.load(Ordering::Relaxed));
        let share = [Share::Refuse, Share::DropOldest, Share::DeadLetter][rng.usize(0..3)];
        let handler = handler.when_saturated(share).concurrency(rng.usize(1..4)).timeout(MILLISECOND * rng.u32(5..40));
        let handler = handler.retry(Retry::fixed(MILLISECOND * rng.u32(0..9)).attempts(rng.u32(1..4)));
        let pattern = ["a", "b", "c", "*"][rng.usize(0..4)];
        let subscribed = match rng.u8(0..4) {
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
        match self.rng.u8(0..24) {
            0 => self.subscribe(),
            1 if !self.ids.is_empty() => {
                let id = self.ids.swap_remove(self.rng.usize(0..self.ids.len()));
                assert!(self.kit.off(id));
            }
            2 => {
                let replay = Replay::all().limit(self.rng.usize(0..4));
                let fast = replay.clone().rate(200.try_into().unwrap());
                drop(self.kit.replay(if self.rng.bool() { &replay } else { &fast }));
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
        assert_eq!((stats.deliveries.open(), stats.held, stats.events.queued, stats.events.delayed), (0, 0, 0, 0), "{stats:?}");
        for tenant in ["t", "u"] {
            for n in 0..4 {
                self.kit.emit(Draft::json("free", json!(n)).tenant(tenant)).unwrap();
            }
        }
        self.kit.settle().await;
        self.kit.clear();
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
        let mut churn = Churn { rng, kit, tokens: Vec::new(), ids: Vec::new(), is_mended };
        (0..3).for_each(|_| churn.subscribe());
        for _ in 0..150 {
            churn.step().await;
        }
        churn.finish().await;
        Ok(())
    });
}

#[test]
fn whatever_is_done_the_books_balance_and_nothing_stays_behind() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_expected = info.payload().downcast_ref::<&str>().is_some_and(|text| *text == "on purpose");
        if !is_expected {
            hook(info);
        }
    }));
    let (first, count) = (read("CHURN_SEED", 0), read("CHURN_COUNT", 200));
    for seed in first..first + count {
        let outcome = std::panic::catch_unwind(|| churn(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

fn read(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
