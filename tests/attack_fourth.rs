//! What a fourth attack on a durable runtime has found: each test fails without the mend that came with it.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use millstream::{
    Builder, Context, DeadLetterFilter, Draft, Event, Handler, HandlerError, Json, OnError, Replay, Runtime, Stage,
    StageError, chain,
    store::{CommitError, Committed, Memory, Op, Store, StoreFuture, tables},
    testing::{self, HeldPartition, HookedStore, StoreHooks, TestKit},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

type Seen = Arc<Mutex<Vec<u64>>>;

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lands,
    /// Nothing of it is there, and nobody knows.
    Lost,
    /// It lands once the gate is open.
    Waits,
    /// It is refused, for something that it depends on is damaged.
    Refused,
}

type Choose = Box<dyn FnMut(&[Op]) -> Fate + Send>;

/// Commits have the fate that a plan says.
struct Plan {
    plan: Mutex<Choose>,
    gate: watch::Sender<bool>,
}

impl Plan {
    fn store() -> HookedStore<Self> {
        let plan = Self { plan: Mutex::new(Box::new(|_| Fate::Lands)), gate: watch::Sender::new(true) };
        HookedStore::new(Memory::new(), plan)
    }

    fn set(&self, plan: impl FnMut(&[Op]) -> Fate + Send + 'static) {
        *self.plan.lock().unwrap() = Box::new(plan);
    }

    /// The next commits have these fates.
    fn next(&self, fates: impl IntoIterator<Item = Fate>) {
        let mut fates: VecDeque<_> = fates.into_iter().collect();
        self.set(move |_| fates.pop_front().unwrap_or(Fate::Lands));
    }
}

impl StoreHooks for Plan {
    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let fate = if held.is_lost() { Fate::Lost } else { (self.plan.lock().unwrap())(&batch) };
        match fate {
            Fate::Lost => {
                held.lose();
                Box::pin(async { Err(CommitError::unknown(std::io::Error::other("it is lost"))) })
            }
            Fate::Refused => Box::pin(async { Err(CommitError::Corrupt { what: "a row".to_owned() }) }),
            Fate::Lands => held.commit(batch),
            Fate::Waits => {
                let (committed, mut gate) = (held.commit(batch), self.gate.subscribe());
                Box::pin(async move {
                    drop(gate.wait_for(|open| *open).await);
                    committed.await
                })
            }
        }
    }
}

fn on(store: &(impl Store + Clone)) -> Builder {
    Runtime::builder().store(store.clone())
}

fn number(id: u64) -> Draft {
    Draft::json("number", json!(id))
}

/// An event of 900 KB.
fn large(id: u64) -> Draft {
    Draft::json("number", json!({"id": id, "text": "x".repeat(900_000)}))
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

fn die(name: &'static str) -> impl Handler<(Json,)> {
    (|_: Json| async { Err::<(), _>(HandlerError::permanent("no")) }).named(name)
}

/// Drives for a while in which no retry is due.
async fn drive(kit: &TestKit) {
    drop(tokio::time::timeout(Duration::from_secs(1), kit.runtime().process()).await);
}

fn seen(seen: &Seen) -> Vec<u64> {
    seen.lock().unwrap().clone()
}

#[test]
fn whoever_writes_again_and_again_to_a_store_that_fails_twice_is_answered() {
    let store = Plan::store();
    testing::run(on(&store), async |kit: TestKit| {
        let storage = kit.storage("n");
        storage.put("k", "0").await?;
        store.hooks().next([Fate::Lost, Fate::Lost]);
        for value in ["1", "2"] {
            assert!(storage.put("k", value).await.is_err());
        }
        let third = tokio::time::timeout(Duration::from_hours(1), storage.put("k", "3"));
        assert!(third.await.is_ok());
        assert!(kit.elapsed() < Duration::from_mins(1), "it waited for {:?}", kit.elapsed());
        assert_eq!(storage.get("k").await?.as_deref(), Some(&b"3"[..]));
        Ok(())
    });
}

#[test]
fn a_crash_while_a_name_with_many_letters_changes_forgets_neither_name() {
    let (store, new) = (Plan::store(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", die("old"))?;
        for id in 0..20 {
            kit.emit(large(id))?.await?;
        }
        kit.settle().await;
        assert_eq!(kit.stats().deliveries.dead, 20);
        kit.shutdown(Duration::from_secs(1)).await?;
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        for id in 20..23 {
            kit.emit(number(id))?.await?;
        }
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        // The process dies when the name that was is gone.
        let mut is_dead = false;
        store.hooks().set(move |batch| {
            let goes = |op: &Op| matches!(op, Op::Delete { table: tables::SUBSCRIPTION, .. });
            let fate = if is_dead { Fate::Lost } else { Fate::Lands };
            is_dead |= batch.iter().any(goes);
            fate
        });
        kit.on("number", keep("new", &Seen::default()).was("old"))?;
        drive(&kit).await;
        kit.shutdown(Duration::ZERO).await?;
        Ok(())
    });
    store.hooks().next([]);
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", keep("new", &new).was("old"))?;
        kit.settle().await;
        let letters = kit.dead_letters(&DeadLetterFilter::all().subscription("new"));
        assert_eq!(letters.len(), 20, "they followed the name");
        Ok(())
    });
    assert_eq!(seen(&new), [20, 21, 22]);
}

#[test]
fn no_two_subscriptions_have_the_effect_keys_of_one() {
    let (store, keys) = (Memory::new(), Arc::new(Mutex::new(Vec::new())));
    let note = |name: &'static str| {
        let keys = Arc::clone(&keys);
        let handler = move |context: Context| {
            let keys = Arc::clone(&keys);
            async move { keys.lock().unwrap().push((name, context.effect_key("mail"))) }
        };
        handler.named(name)
    };
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", note("old"))?;
        kit.settle().await;
        kit.shutdown(Duration::ZERO).await?;
        Ok(())
    });
    for _ in 0..2 {
        testing::run(on(&store), async |kit: TestKit| {
            kit.on("number", note("new").was("old"))?;
            kit.settle().await;
            kit.on("number", note("old"))?;
            kit.emit(number(1))?.await?;
            kit.settle().await;
            Ok(())
        });
        let keys = std::mem::take(&mut *keys.lock().unwrap());
        assert_eq!(keys.len(), 2);
        assert_ne!(keys[0].1, keys[1].1, "the outside takes {} for {}", keys[1].0, keys[0].0);
    }
}

#[test]
fn a_halted_key_stops_no_other_though_there_was_no_room_to_write_who_waits_behind_it() {
    let (store, all) = (Plan::store(), Seen::default());
    let go_on = Arc::new(tokio::sync::Notify::new());
    testing::run(on(&store).queue_size(20_000), async |kit: TestKit| {
        let (noted, held) = (Arc::clone(&all), Arc::clone(&go_on));
        let handler = move |Json(event): Json| {
            let (noted, held) = (Arc::clone(&noted), Arc::clone(&held));
            async move {
                if id_of(&event) == 0 {
                    held.notified().await;
                    return Err(HandlerError::permanent("no"));
                }
                noted.lock().unwrap().push(id_of(&event));
                Ok(())
            }
        };
        kit.on("number", handler.named("one").ordered_by_key().halt_key_on_dead())?;
        let once = |_: Json| async { Draft::json("done", json!(1)).idempotency_key("once") };
        kit.on("once", once.named("once"))?;
        for id in 0..40 {
            kit.emit(large(id).key("k"))?.await?;
        }
        drive(&kit).await;
        store.hooks().gate.send_replace(false);
        store.hooks().set(|batch| {
            let waits = batch.iter().any(|op| matches!(op, Op::PutNew { table: tables::ONCE, .. }));
            if waits { Fate::Waits } else { Fate::Lands }
        });
        kit.emit(Draft::json("once", json!(1)))?.await?;
        drive(&kit).await;
        go_on.notify_one();
        drive(&kit).await;
        store.hooks().gate.send_replace(true);
        drive(&kit).await;
        for id in 100..2_000 {
            kit.emit(number(id).key("k"))?;
        }
        kit.emit(number(99).key("other"))?.await?;
        let driven = tokio::time::timeout(Duration::from_mins(1), kit.runtime().process()).await;
        assert!(driven.is_ok(), "{:?}", kit.stats().deliveries);
        assert_eq!(seen(&all), [99]);
        kit.purge(&DeadLetterFilter::all());
        kit.settle().await;
        Ok(())
    });
    let rest: Vec<_> = [99].into_iter().chain(1..40).chain(100..2_000).collect();
    assert_eq!(seen(&all), rest);
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "number")]
struct Number(u64);

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "total")]
struct Total(u64);

/// Else what a stage gave up would be replayed by the subscription, and be gone.
#[test]
fn a_stage_and_a_subscription_share_no_name() {
    testing::run(on(&Memory::new()), async |kit: TestKit| {
        let stage = || Stage::new(chain().map(|number: Number| Total(number.0)));
        kit.stage("stage", stage())?;
        kit.on("other", keep("handler", &Seen::default()))?;
        assert!(matches!(kit.on("other", die("stage")), Err(OnError::NameOfStage { name }) if name == "stage"));
        let refused = kit.stage("handler", stage());
        assert!(matches!(refused, Err(StageError::NameOfSubscription { name }) if name == "handler"));
        Ok(())
    });
}

/// Its letter is out of the dead letters then, and its key was taken for one that goes on.
#[test]
fn a_halted_head_that_is_replayed_before_its_subscription_is_open_goes_first() {
    let (store, all) = (Memory::new(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        kit.on("number", die("one").ordered_by_key().halt_key_on_dead())?;
        for id in 1..=3 {
            kit.emit(number(id).key("k"))?.await?;
        }
        kit.settle().await;
        assert_eq!(kit.stats().deliveries.parked, 2);
        Ok(())
    });
    testing::run(on(&store), async |kit: TestKit| {
        kit.settle().await;
        kit.on("number", keep("one", &all).ordered_by_key().halt_key_on_dead())?;
        assert_eq!(kit.replay(&Replay::all()).replayed, 1);
        kit.settle().await;
        Ok(())
    });
    assert_eq!(seen(&all), [1, 2, 3]);
}

/// Whether a batch has an outcome with this idempotency key.
fn has_once(batch: &[Op], once: &[u8]) -> bool {
    batch.iter().any(|op| matches!(op, Op::PutNew { table: tables::ONCE, key, .. } if key.ends_with(once)))
}

#[test]
fn an_outcome_that_the_store_cannot_take_fails_alone() {
    let (store, out) = (Plan::store(), Seen::default());
    testing::run(on(&store), async |kit: TestKit| {
        let outcome = |Json(event): Json| async move {
            let id = id_of(&event);
            let key = if id == 3 { "damaged".to_owned() } else { format!("sound {id}") };
            Draft::json("out", json!(id)).idempotency_key(key)
        };
        kit.on("number", outcome.named("one").concurrency(64))?;
        kit.on("out", keep("out", &out))?;
        kit.settle().await;
        store.hooks().set(|batch| if has_once(batch, b"damaged") { Fate::Refused } else { Fate::Lands });
        kit.emit_all((0..20).map(number))?;
        kit.settle().await;
        let letters = kit.dead_letters(&DeadLetterFilter::all());
        let dead: Vec<_> = letters.iter().map(|letter| id_of(&letter.event.data().to_json().unwrap())).collect();
        assert_eq!(dead, [3]);
        Ok(())
    });
    let mut out = seen(&out);
    out.sort_unstable();
    assert_eq!(out, (0..20).filter(|id| *id != 3).collect::<Vec<_>>());
}

#[test]
fn a_write_from_outside_that_the_store_cannot_take_is_an_error() {
    let store = Plan::store();
    testing::run(on(&store), async |kit: TestKit| {
        let outcome = |context: Context| async move {
            context.storage("n").put("k", "inside").await?;
            Ok::<_, HandlerError>(Draft::json("out", json!(1)).idempotency_key("once"))
        };
        kit.on("number", outcome.named("one"))?;
        kit.settle().await;
        store.hooks().gate.send_replace(false);
        store.hooks().set(|batch| {
            let is_ours = |op: &Op| matches!(op, Op::Put { value, .. } if value == "outside");
            match batch {
                _ if has_once(batch, b"once") => Fate::Waits,
                _ if batch.iter().any(is_ours) => Fate::Refused,
                _ => Fate::Lands,
            }
        });
        kit.emit(number(1))?.await?;
        drive(&kit).await;
        let storage = kit.storage("n");
        let open = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            store.hooks().gate.send_replace(true);
        };
        let (written, ()) = tokio::join!(storage.put("k", "outside"), open);
        let there = storage.get("k").await?;
        assert!(written.is_err() && there.as_deref() == Some(b"inside"), "{written:?}, {there:?}");
        Ok(())
    });
}
