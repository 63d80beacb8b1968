//! What is returned again after a loss counts once against its root.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use millstream::{
    Draft, Handler, Json, Runtime,
    store::{CommitError, Committed, Memory, Op, StoreFuture},
    testing::{self, HeldPartition, HookedStore, StoreHooks, TestKit},
};
use serde_json::json;

/// Loses so many commits with events.
struct Loses(AtomicUsize);

impl StoreHooks for Loses {
    fn commit(&self, held: &HeldPartition, batch: Vec<Op>) -> StoreFuture<'static, Result<Committed, CommitError>> {
        let appends = batch.iter().any(|op| matches!(op, Op::Append { .. }));
        if !appends || self.0.load(Relaxed) == 0 {
            return held.commit(batch);
        }
        self.0.fetch_sub(1, Relaxed);
        held.lose();
        Box::pin(async { Err(CommitError::unknown(std::io::Error::other("it is lost"))) })
    }
}

#[test]
fn no_root_is_exhausted_by_what_is_lost_and_returned_again() {
    let store = HookedStore::new(Memory::new(), Loses(AtomicUsize::new(5)));
    testing::run(Runtime::builder().store(store.clone()).max_events_per_root(3), async |kit: TestKit| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        kit.on("number", (async |Json(number): Json| Draft::json("next", number)).named("return"))?;
        let note = move |Json(number): Json| {
            noted.lock().unwrap().push(number);
            async {}
        };
        kit.on("next", note.named("note"))?;
        kit.emit(Draft::json("number", json!(1)))?.await?;
        drop(tokio::time::timeout(Duration::from_mins(1), kit.runtime().run()).await);
        kit.settle().await;
        assert_eq!((store.hooks().0.load(Relaxed), seen.lock().unwrap().clone()), (0, vec![json!(1)]));
        assert_eq!(kit.stats().dead_letters, 0);
        Ok(())
    });
}
