//! A delayed event whose commit was lost and has landed is new to the books when it is due, and takes no other's place.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use millstream::{
    Draft, Envelope, Handler, Json, Runtime, Stage, chain,
    store::{CommitError, Committed, Memory, Op, StoreFuture, Table, tables},
    testing::{self, HeldPartition, HookedStore, StoreHooks, TestKit},
};
use serde_json::json;

/// Loses the next commit that has a step.
struct LosesOne {
    has: fn(&Op) -> bool,
    lands: bool,
    is_armed: AtomicBool,
}

impl LosesOne {
    fn store(has: fn(&Op) -> bool, lands: bool) -> HookedStore<Self> {
        HookedStore::new(Memory::new(), Self { has, lands, is_armed: AtomicBool::new(false) })
    }
}

impl StoreHooks for LosesOne {
    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        if !batch.iter().any(self.has) || !self.is_armed.swap(false, Relaxed) {
            return held.commit(batch);
        }
        let landing = self.lands.then(|| held.commit(batch));
        held.lose();
        Box::pin(async {
            if let Some(landing) = landing {
                landing.await?;
            }
            Err(CommitError::unknown(std::io::Error::other("nobody knows")))
        })
    }
}

fn is_delayed(op: &Op) -> bool {
    matches!(op, Op::Put { table, .. } if *table == tables::DELAYED)
}

/// Emits an event that makes a delayed one, whose commit is lost and has landed; lets it come, beside another one that stays.
fn comes_once(store: &HookedStore<LosesOne>, subscribe: impl Fn(&TestKit) -> testing::Outcome) {
    testing::run(Runtime::builder().store(store.clone()), async |kit: TestKit| {
        subscribe(&kit)?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let note = move |Json(id): Json| {
            noted.lock().unwrap().push(id);
            async {}
        };
        kit.on("late", note.named("note"))?;
        kit.emit(Draft::json("late", json!(2)).delay(Duration::from_hours(9)))?.await?;
        kit.settle().await;
        store.hooks().is_armed.store(true, Relaxed);
        kit.emit(Draft::json("number", json!(1)))?.await?;
        kit.settle().await;
        assert!(!store.hooks().is_armed.load(Relaxed), "a commit is lost");
        kit.advance(Duration::from_hours(2)).await;
        assert_eq!((seen.lock().unwrap().clone(), kit.stats().events.delayed), (vec![json!(1)], 1));
        kit.advance(Duration::from_hours(9)).await;
        assert_eq!((seen.lock().unwrap().len(), kit.stats().events.delayed), (2, 0));
        Ok(())
    });
}

fn late(number: &serde_json::Value) -> Draft {
    Draft::json("late", number.clone()).delay(Duration::from_hours(1))
}

#[test]
fn one_of_an_outcome_that_a_commit_may_refuse_comes_once_and_the_books_balance() {
    let handler = async |Json(number): Json| late(&number).idempotency_key("one");
    comes_once(&LosesOne::store(is_delayed, true), |kit| {
        kit.on("number", handler.named("delay"))?;
        Ok(())
    });
}

fn stages(kit: &TestKit, names: &[&'static str]) -> testing::Outcome {
    for &name in names {
        let output = move |event: Arc<Envelope>| {
            let number = event.data().to_json().unwrap();
            if name == "first" { late(&number) } else { Draft::json("other", number) }
        };
        kit.stage(name, Stage::new(chain().map(output)).pattern("number"))?;
    }
    Ok(())
}

#[test]
fn one_of_a_stage_whose_epoch_nobody_knows_of_comes_once_and_the_books_balance() {
    comes_once(&LosesOne::store(is_delayed, true), |kit| stages(kit, &["first"]));
}

#[test]
fn one_of_a_stage_that_landed_right_before_the_partition_was_lost_comes_once_and_the_books_balance() {
    let is_second = |op: &Op| matches!(op, Op::Put { table: Table("stage"), key, .. } if &key[..] == b"second\0");
    comes_once(&LosesOne::store(is_second, false), |kit| stages(kit, &["first", "second"]));
}
