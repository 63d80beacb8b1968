//! Tools on a store whose rows are damaged, keys among them.
#![cfg(feature = "archive")]
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use std::sync::Mutex;

use bytes::Bytes;
use millstream::{
    DeadLetterFilter, Draft, Handler, HandlerError, Json, Runtime,
    archive::{Archive, ArchiveError},
    store::{FoundRow, KeyRange, Memory, Reader, Row, StoreError, StoreFuture, Table, tables},
    testing::{self, HookedStore, StoreHooks, TestKit},
};
use serde_json::json;

/// Whoever scans dead letters finds a row under another key than the one under which it lies, as where a bit of it has flipped.
struct Astray {
    from: Bytes,
    to: Mutex<Bytes>,
}

impl StoreHooks for Astray {
    fn scan_each<'a>(
        &'a self,
        reader: &'a dyn Reader,
        table: Table,
        range: KeyRange,
        limit: usize,
    ) -> StoreFuture<'a, Result<Vec<FoundRow>, StoreError>> {
        Box::pin(async move {
            let damaged = |(key, value): Row| {
                if table == tables::DEAD && key == self.from {
                    let what = "the checksum of a row is wrong".to_owned();
                    return (self.to.lock().unwrap().clone(), Err(StoreError::Corrupt { what }));
                }
                (key, Ok(value))
            };
            Ok(reader.scan(table, range, limit).await?.into_iter().map(damaged).collect())
        })
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

fn key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// A store with two letters, of which the first is damaged and is found under a key.
fn store(found: Bytes) -> HookedStore<Astray> {
    let inner = Memory::new();
    testing::run(Runtime::builder().store(inner.clone()), async |kit: TestKit| {
        kit.on("number", (async |_: Json| Err::<(), _>(HandlerError::permanent("no"))).named("strict"))?;
        for id in 0..2 {
            kit.emit(Draft::json("number", json!(id)))?;
        }
        kit.settle().await;
        Ok(())
    });
    HookedStore::new(inner, Astray { from: key(1), to: Mutex::new(found) })
}

#[test]
fn a_damaged_letter_is_named_as_far_as_its_key_allows() {
    for (found, number) in [(key(1), Some(1)), (key(1 << 63), Some(1 << 63)), (Bytes::from_static(b"\0\0\0"), None)] {
        let store = store(found);
        let letters = block_on(Archive::new(store).dead_letters(&DeadLetterFilter::all())).unwrap();
        assert_eq!(letters.letters.iter().map(|letter| letter.number).collect::<Vec<_>>(), [2]);
        assert_eq!(
            letters.damaged.iter().map(|row| (row.number, row.what.is_empty())).collect::<Vec<_>>(),
            [(number, false)]
        );
    }
}

#[test]
fn a_damaged_letter_goes_where_it_is_named_alone_and_one_that_stays_is_an_error() {
    let store = store(key(1));
    block_on(async {
        let archive = Archive::new(store.clone());
        for filter in
            [DeadLetterFilter::all().subscription("other"), DeadLetterFilter::all().numbers([1]).subscription("strict")]
        {
            assert!(archive.purge(&filter).await.unwrap().damaged.is_empty());
        }
        // Its key is not what it seems, so that nobody can find it.
        *store.hooks().to.lock().unwrap() = key(5);
        let error = archive.purge(&DeadLetterFilter::all().numbers([5])).await.unwrap_err();
        assert!(matches!(error, ArchiveError::Store(StoreError::Corrupt { .. })), "{error}");
        *store.hooks().to.lock().unwrap() = key(1);
        let gone = archive.purge(&DeadLetterFilter::all().numbers([1])).await.unwrap();
        assert_eq!((gone.letters.len(), gone.damaged.len()), (0, 1));
        let left = archive.dead_letters(&DeadLetterFilter::all()).await.unwrap();
        assert_eq!((left.letters.len(), left.damaged.len()), (1, 0));
    });
}
