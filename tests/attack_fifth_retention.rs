//! What a fifth attack on retention has found: each test fails without the mend that came with it.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::time::Duration;

use futures::TryStreamExt;
use millstream::{
    Draft, Handler, Json, Retention, Runtime,
    store::Redb,
    testing::{self, Probe, TestKit},
};
use serde_json::json;

fn reader() -> impl Handler<(Json,)> {
    Probe::<Json>::new().handler().named("reader")
}

/// Numbers, some each second.
async fn emit(kit: &TestKit, numbers: std::ops::Range<u32>) {
    for batch in numbers.collect::<Vec<_>>().chunks(10) {
        for number in batch {
            kit.emit(Draft::json("number", json!(number))).unwrap();
        }
        kit.settle().await;
        kit.advance(Duration::from_secs(1)).await;
    }
}

async fn kept(kit: &TestKit) -> Vec<u64> {
    let events: Vec<_> = kit.runtime().history("number").unwrap().events().try_collect().await.unwrap();
    events.iter().map(|event| event.data().to_json().unwrap().as_u64().unwrap()).collect()
}

#[test]
fn an_age_is_kept_over_a_restart_however_little_was_trimmed_before() {
    let folder = tempfile::tempdir().unwrap();
    let _clock = testing::hold_clock();
    let store = Redb::open(folder.path().join("log.redb")).unwrap();
    let builder = || Runtime::builder().store(store.clone()).retention(Retention::Age(Duration::from_secs(10)));
    testing::run(builder(), async |kit: TestKit| {
        kit.on("number", reader())?;
        emit(&kit, 0..1_150).await;
        let first = kept(&kit).await[0];
        assert!(first > 0 && first < 1_024, "some is trimmed, and little: {first}");
        Ok(())
    });
    testing::run(builder(), async |kit: TestKit| {
        kit.on("number", reader())?;
        emit(&kit, 1_150..3_500).await;
        let kept = kept(&kit).await;
        assert!(kept.len() < 1_500, "{} events are kept, from {:?} on", kept.len(), kept.first());
        Ok(())
    });
}
