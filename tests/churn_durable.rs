//! Durable subscriptions that come, go and change their name over a store that fails, from one life of a runtime to the next:
//! nothing is lost, what handlers return is written once, and keys keep their order.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::TryStreamExt;
use millstream::{
    Draft, Handler, HandlerError, Json, Priority, Retention, Retry, Runtime, SubscriptionId,
    store::Memory,
    testing::{self, FaultyStore, TestKit},
};
use serde_json::json;

/// How often a runtime is opened. The last time nothing fails.
const LIVES: u64 = 5;
/// One call of the store in so many fails.
const FAULTS: u32 = 12;

/// What was accepted: key and class. And in which order each subscription was through with what, for the first time.
#[derive(Default)]
struct Book {
    accepted: BTreeMap<u64, (Option<&'static str>, Priority)>,
    handled: HashMap<&'static str, Vec<u64>>,
    attempts: u64,
}

type Shared = Arc<Mutex<Book>>;

/// One life of the runtime.
struct Life<'a> {
    kit: &'a TestKit,
    number: u64,
    seed: u64,
    random: &'a mut fastrand::Rng,
    last: &'a mut u64,
    book: &'a Shared,
}

impl Life<'_> {
    fn is_calm(&self) -> bool {
        self.number + 1 == LIVES
    }

    /// Takes its time, fails, and returns an event, with an idempotency key or without.
    fn handler(&self, name: &'static str) -> impl Handler<(Json,)> + use<> {
        let (book, seed, is_calm) = (Arc::clone(self.book), self.seed, self.is_calm());
        let handler = move |Json(event): Json| {
            let book = Arc::clone(&book);
            async move {
                let id = event.as_u64().unwrap();
                let attempts = {
                    let mut book = book.lock().unwrap();
                    book.attempts += 1;
                    book.attempts
                };
                let mut random = fastrand::Rng::with_seed(seed ^ (id << 20) ^ attempts);
                if !is_calm && random.u8(..) < 64 {
                    tokio::time::sleep(Duration::from_millis(random.u64(1..3_000))).await;
                }
                if !is_calm && random.u8(..) < 64 {
                    return Err(HandlerError::transient("closed"));
                }
                let mut book = book.lock().unwrap();
                let handled = book.handled.entry(name).or_default();
                if !handled.contains(&id) {
                    handled.push(id);
                }
                let out = Draft::json("out", json!([name, id]));
                Ok(if random.bool() { out.idempotency_key(format!("{name} {id}")) } else { out })
            }
        };
        let retry = Retry::fixed(Duration::from_millis(700)).attempts(1_000);
        handler.named(name).concurrency(5).timeout(Duration::from_mins(1)).retry(retry)
    }

    /// Its name changes in the third life.
    fn strict(&self) -> SubscriptionId {
        let handler = self.handler("strict").strict_key_order();
        let handler = if self.number < 2 { handler.named("former") } else { handler.was("former") };
        self.kit.on("number", handler).unwrap()
    }

    fn keyed(&self) -> SubscriptionId {
        self.kit.on("number", self.handler("keyed").ordered_by_key()).unwrap()
    }

    async fn drive(&self, millis: u64) {
        let driven = tokio::time::timeout(Duration::from_millis(millis), self.kit.runtime().process());
        drop(driven.await);
    }

    /// Emits until it is acknowledged.
    async fn emit(&mut self) {
        let id = *self.last;
        *self.last += 1;
        let (key, class) = ([Some("a"), Some("b"), None][self.random.usize(..3)], self.random.usize(..4));
        let mut draft = Draft::json("number", json!(id)).priority(Priority::ALL[class]).idempotency_key(id.to_string());
        if let Some(key) = key {
            draft = draft.key(key);
        }
        if self.random.u8(..) < 50 {
            draft = draft.delay(Duration::from_millis(self.random.u64(1..4_000)));
        }
        for _ in 0..50 {
            if let Ok(receipt) = self.kit.emit(draft.clone())
                && receipt.await.is_ok()
            {
                self.book.lock().unwrap().accepted.insert(id, (key, Priority::ALL[class]));
                return;
            }
            self.drive(100).await;
        }
    }

    async fn live(&mut self) {
        let (mut strict, mut keyed) = (self.strict(), self.keyed());
        let steps = if self.is_calm() { 0 } else { self.random.u32(5..60) };
        for _ in 0..steps {
            match self.random.u8(..12) {
                0..=6 => self.emit().await,
                7..=9 => {
                    let millis = self.random.u64(1..2_000);
                    self.drive(millis).await;
                }
                10 => {
                    self.kit.off(strict);
                    if self.random.bool() {
                        self.drive(50).await;
                    }
                    strict = self.strict();
                }
                _ => {
                    self.kit.off(keyed);
                    keyed = self.keyed();
                }
            }
        }
        if self.is_calm() {
            self.kit.advance(Duration::from_mins(1)).await;
            self.kit.settle().await;
        } else if self.random.bool() {
            let grace = Duration::from_millis(self.random.u64(..500));
            drop(self.kit.shutdown(grace).await);
        }
    }

    /// What the log has of a name, in its order.
    async fn log(&self, name: &str) -> Vec<serde_json::Value> {
        let events: Vec<_> = self.kit.history(name).unwrap().events().try_collect().await.unwrap();
        events.iter().map(|event| event.data().to_json().unwrap()).collect()
    }

    async fn check(&self) {
        let (numbers, out) = (self.log("number").await, self.log("out").await);
        let (book, seed) = (self.book.lock().unwrap(), self.seed);
        for name in ["strict", "keyed"] {
            let handled = book.handled.get(name).cloned().unwrap_or_default();
            let missing: Vec<_> = book.accepted.keys().filter(|id| !handled.contains(id)).collect();
            assert_eq!(missing, [&0; 0], "seed {seed}, {name}");
            let mut last = HashMap::new();
            for id in &handled {
                let written = out.iter().filter(|out| **out == json!([name, id])).count();
                assert_eq!(written, 1, "seed {seed}, {name}: what came of {id}");
                let Some((Some(key), class)) = book.accepted.get(id) else { continue };
                let class = (name == "keyed").then_some(*class);
                let place = numbers.iter().position(|number| *number == json!(id));
                let before = last.insert((key, class), place);
                assert!(before < Some(place), "seed {seed}, {name}: {id} of key {key} is out of order in {handled:?}");
            }
        }
    }
}

fn churn(seed: u64) {
    let (inner, book, mut last) = (Memory::new(), Shared::default(), 0);
    let mut random = fastrand::Rng::with_seed(seed);
    for number in 0..LIVES {
        let faults = if number + 1 == LIVES { 0 } else { FAULTS };
        let store = FaultyStore::new(inner.clone(), seed * LIVES + number).one_in(faults);
        let builder = Runtime::builder().store(store).retention(Retention::All);
        let (random, last, book) = (&mut random, &mut last, &book);
        testing::run(builder, async move |kit: TestKit| {
            let mut life = Life { kit: &kit, number, seed, random, last, book };
            life.live().await;
            if life.is_calm() {
                life.check().await;
            }
            Ok(())
        });
    }
}

/// `SEEDS=1..9000` for a long run.
#[test]
fn subscriptions_that_come_and_go_over_a_store_that_fails_lose_nothing_and_write_nothing_twice() {
    let seeds = std::env::var("SEEDS").ok();
    let seeds = seeds.and_then(|seeds| seeds.split_once("..").map(|(a, b)| a.parse().unwrap()..b.parse().unwrap()));
    seeds.unwrap_or(1..60).for_each(churn);
}
