//! What a fifth attack on retention has found: each test fails without the mend that came with it.
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use futures::{TryStreamExt, poll};
use millstream::{
    Draft, Handler, Json, Retention, Runtime,
    store::{Class, Memory, Page, Reader, Redb, Seq, StoreError, StoreFuture, Wanted},
    testing::{self, HookedStore, Probe, StoreHooks, TestKit},
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

/// Passes over no more than a few places in one call that looks for an age, and counts such calls.
#[derive(Default)]
struct ShortPages(AtomicU64);

impl ShortPages {
    const PLACES: u64 = 10;
}

impl StoreHooks for ShortPages {
    fn read<'a>(
        &'a self,
        reader: &'a dyn Reader,
        class: Class,
        from: Seq,
        max_bytes: usize,
        wanted: &'a Wanted,
    ) -> StoreFuture<'a, Result<Page, StoreError>> {
        Box::pin(async move {
            let mut page = reader.read(class, from, max_bytes, wanted).await?;
            if wanted.since.is_none() {
                return Ok(page);
            }
            self.0.fetch_add(1, Relaxed);
            let next = Seq(from.0 + Self::PLACES);
            let is_short = page.records.first().map_or(page.next, |record| record.seq) > next;
            if is_short {
                page.records.clear();
                (page.next, page.is_end) = (next, false);
            }
            Ok(page)
        })
    }
}

/// Drives until all is at rest: how many looks there are in one poll at most.
async fn most_looks(kit: &TestKit, store: &HookedStore<ShortPages>) -> u64 {
    let (mut process, mut most) = (pin!(kit.process()), 0);
    loop {
        let before = store.hooks().0.load(Relaxed);
        let is_done = poll!(process.as_mut()).is_ready();
        most = most.max(store.hooks().0.load(Relaxed) - before);
        if is_done {
            return most;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_look_for_an_age_reads_no_more_than_may_go_and_no_more_than_pages_at_a_time() {
    const EVENTS: u64 = 5_000;
    let store = HookedStore::new(Memory::new(), ShortPages::default());
    let builder = Runtime::builder().store(store.clone()).retention(Retention::Age(Duration::from_secs(10)));
    testing::run(builder.queue_size(100_000), async |kit| {
        let away = kit.on("number", reader().named("away"))?;
        kit.settle().await;
        kit.off(away);
        kit.on("number", reader())?;
        kit.emit_all((0..EVENTS).map(|number| Draft::json("number", json!(number))).collect::<Vec<_>>())?;
        kit.settle().await;
        for _ in 0..20 {
            kit.advance(Duration::from_secs(5)).await;
            kit.emit(Draft::json("number", json!(EVENTS)))?;
            kit.settle().await;
        }
        let before = store.hooks().0.load(Relaxed);
        assert!(before < 100, "nothing may go, and it was looked at {before} times");

        kit.forget("away");
        kit.settle().await;
        tokio::time::advance(Duration::from_secs(5)).await;
        kit.emit(Draft::json("number", json!(EVENTS)))?;
        let most = most_looks(&kit, &store).await;
        assert!(most < 50, "{most} in one poll");
        let (pages, looks) = (EVENTS / ShortPages::PLACES, store.hooks().0.load(Relaxed) - before);
        assert!(looks > pages && looks < 8 * pages, "{looks}: each page of four classes is read about once");
        let kept = kept(&kit).await.len();
        assert!(kept < 1_100, "all are aged, and {kept} are kept");
        Ok(())
    });
}
