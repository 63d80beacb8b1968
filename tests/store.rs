//! Every store keeps the contract of the trait.

use std::sync::atomic::{AtomicU64, Ordering};

use millstream::{
    store::{Memory, Redb},
    testing::{FaultyStore, HookedStore, StoreHooks, store_conformance},
};

#[tokio::test]
async fn the_store_in_memory_keeps_the_contract() {
    store_conformance(async || Memory::new()).await;
}

#[tokio::test]
async fn the_store_in_a_file_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let files = AtomicU64::new(0);
    let make = async || Redb::open(folder.path().join(files.fetch_add(1, Ordering::Relaxed).to_string())).unwrap();
    store_conformance(make).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_on_a_backend_keeps_the_contract() {
    let make = async || Redb::builder().open_on(redb::backends::InMemoryBackend::new()).unwrap();
    store_conformance(make).await;
}

#[tokio::test]
async fn a_store_that_fails_as_it_may_keeps_the_contract() {
    for one_in in [3, 8, 40] {
        let seed = AtomicU64::new(0);
        let make = async || FaultyStore::new(Memory::new(), seed.fetch_add(1, Ordering::Relaxed)).one_in(one_in);
        for _ in 0..5 {
            store_conformance(make).await;
        }
    }
}

/// Leaves all as it is.
struct Through;

impl StoreHooks for Through {}

#[tokio::test]
async fn a_store_whose_hooks_do_nothing_keeps_the_contract() {
    store_conformance(async || HookedStore::new(Memory::new(), Through)).await;
}
