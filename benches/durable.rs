//! A durable runtime: emits by number of emitters until they are on disk, and until they are handled; what a backlog costs;
//! what ten times too much costs.
//!
//! `cargo bench --bench durable` prints a table, `-- --json` an object a line; `--job emit|backlog|overload` takes a part of
//! it, `--emitters N` and `--added MICROS` a part of the first. `MILLSTREAM_BENCH` names the folder for the files, which is the current one otherwise. `SQLite` and a hand-written log do
//! the same work in `cargo run --release --manifest-path benches/store_peers/Cargo.toml`. Memory is read from `/proc` (Linux).
#![expect(clippy::unwrap_used, reason = "a bench that fails stops")]
#![allow(unreachable_pub, reason = "modules are shared with another program")]

#[path = "store/engine.rs"]
mod engine;
#[path = "store/harness.rs"]
mod harness;
#[path = "store/ours.rs"]
mod ours;

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use engine::{Engine, Placed};
use harness::{Table, each_round, emit, flush_micros, memory_kib, now, only};
use millstream::{Handler as _, Runtime, store::Redb};
use tokio::sync::Semaphore;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap()
}

fn emits(table: &Table, folder: &Path) {
    for (job, handles) in [("emit", false), ("handle", true)] {
        each_round(job, |job, emitters, _| {
            let path = folder.join("engine");
            let engine = Engine::open(&path, handles);
            table.emitted(job, "millstream", emitters, &emit(&engine, emitters, 1));
            drop(engine);
            std::fs::remove_file(path).unwrap();
        });
    }
}

fn runtime(path: &Path) -> Runtime {
    Runtime::builder().queue_size(10_000).store(Redb::open(path).unwrap()).build().unwrap()
}

/// A process of its own: so many events wait in a file for a subscription.
async fn fill(path: &Path, count: usize) {
    let runtime = runtime(path);
    runtime.on("order.placed", (|_: Placed| async {}).named("late")).unwrap();
    let pool = harness::events(1_000);
    for begin in (0..count).step_by(pool.len()) {
        let events = pool[..pool.len().min(count - begin)].iter().map(|event| Placed::new(event.clone()));
        for receipt in runtime.emit_all(events).unwrap() {
            receipt.await.unwrap();
        }
    }
}

/// A process of its own: handles what waits. Prints when its first event was handled, and what memory it took.
async fn drain(path: &Path, count: u64) {
    let begin = now();
    let first = Arc::new(std::sync::OnceLock::<(Instant, Option<u64>)>::new());
    let handled = Arc::new(AtomicU64::new(0));
    let runtime = runtime(path);
    let (seen, number) = (Arc::clone(&first), Arc::clone(&handled));
    let late = move |_: Placed| {
        seen.get_or_init(|| (now(), memory_kib("VmRSS")));
        number.fetch_add(1, Ordering::Relaxed);
        async {}
    };
    runtime.on("order.placed", late.named("late")).unwrap();
    runtime.process().await.unwrap();
    let elapsed = begin.elapsed();
    assert_eq!(handled.load(Ordering::Relaxed), count, "each event is handled once");
    let (at, resident) = *first.get().unwrap();
    let job = format!("backlog of {count}");
    let table = Table::of_child();
    let figures = [
        ("first_handled_micros", Some(micros(at.duration_since(begin)))),
        ("resident_kib_at_first", resident),
        ("most_resident_kib", memory_kib("VmHWM")),
        ("events_per_s", Some(harness::rate(count, elapsed))),
    ];
    for (name, figure) in figures {
        table.figure(&job, "millstream", name, figure.unwrap_or_default());
    }
}

fn child(what: &str, path: &Path, count: u64) {
    let json = std::env::args().any(|arg| arg == "--json");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(what).arg(path).arg(count.to_string()).args(json.then_some("--json"));
    assert!(command.status().unwrap().success(), "{what} ends well");
}

fn backlog(folder: &Path) {
    for count in [1_000, 100_000, 1_000_000] {
        let path = folder.join("backlog");
        child("--fill", &path, count);
        child("--drain", &path, count);
        std::fs::remove_file(path).unwrap();
    }
}

/// Emits whatever the disk takes, while the handler may have a tenth of that.
async fn overload(table: &Table, folder: &Path) {
    const EMITS: u64 = 1_000_000;
    const OVERLOAD: u64 = 10;
    let runtime = Arc::new(runtime(&folder.join("overload")));
    let permits = Arc::new(Semaphore::new(0));
    let (allowed, handled) = (Arc::clone(&permits), Arc::new(AtomicU64::new(0)));
    let number = Arc::clone(&handled);
    let slow = move |_: Placed| {
        let (allowed, number) = (Arc::clone(&allowed), Arc::clone(&number));
        async move {
            allowed.acquire().await.unwrap().forget();
            number.fetch_add(1, Ordering::Relaxed);
        }
    };
    runtime.on("order.placed", slow.named("slow").timeout(Duration::from_hours(1))).unwrap();
    let (mut driver, driven) = (tokio::task::JoinSet::new(), Arc::clone(&runtime));
    driver.spawn(async move { driven.run().await.unwrap() });
    let pool = harness::events(1_000);
    let mut resident = Vec::new();
    for begin in (0..EMITS).step_by(pool.len()) {
        for receipt in runtime.emit_all(pool.iter().map(|event| Placed::new(event.clone()))).unwrap() {
            receipt.await.unwrap();
        }
        permits.add_permits(pool.len() / usize::try_from(OVERLOAD).unwrap());
        let emitted = begin + 1_000;
        if emitted.is_multiple_of(EMITS / 10) {
            let job = format!("overload, {emitted} emits");
            resident.push(memory_kib("VmRSS").unwrap_or_default());
            table.figure(&job, "millstream", "resident_kib", resident[resident.len() - 1]);
        }
    }
    permits.add_permits(usize::try_from(EMITS).unwrap());
    runtime.process().await.unwrap();
    assert_eq!(handled.load(Ordering::Relaxed), EMITS, "each event is handled once");
    runtime.shutdown(Duration::from_secs(10)).await.unwrap();
    driver.join_all().await;
    // By half of them the store's cache is full.
    let (full, later) = resident.split_at(resident.len() / 2);
    let (bound, most) = (full[full.len() - 1], later.iter().copied().max().unwrap());
    assert!(most * 5 <= bound * 6, "memory grew from {bound} to {most} KiB, by more than a fifth: {resident:?}");
}

fn main() {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, what, path, count, ..] = &arguments[..]
        && (what == "--fill" || what == "--drain")
    {
        let (path, count): (_, u64) = (Path::new(path), count.parse().unwrap());
        return match &**what {
            "--fill" => tokio.block_on(fill(path, usize::try_from(count).unwrap())),
            _ => tokio.block_on(drain(path, count)),
        };
    }
    let folder = tempfile::tempdir_in(std::env::var_os("MILLSTREAM_BENCH").unwrap_or_else(|| ".".into())).unwrap();
    let table = Table::new("A durable runtime; events of 200 bytes, 3 s a line.");
    table.figure("flush", "disk", "micros", flush_micros(folder.path()).unwrap());
    table.head();
    let job = only("--job");
    let is_wanted = |name| job.as_ref().is_none_or(|job| job == name);
    if is_wanted("emit") {
        emits(&table, folder.path());
    }
    if is_wanted("backlog") {
        backlog(folder.path());
    }
    if is_wanted("overload") {
        tokio.block_on(overload(&table, folder.path()));
    }
}
