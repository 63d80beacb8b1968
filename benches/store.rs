//! The store in one file: durable appends by number of emitters, beside a hand-written log with group commit; reading;
//! opening after a kill; bytes written an event.
//!
//! `cargo bench --bench store` prints a table, `-- --json` an object a line; `--job append|read|open`, `--emitters N`
//! and `--added MICROS` take a part of it. `MILLSTREAM_BENCH` names the folder for the files, which is the current one otherwise. The figures go with the disk: its own flush
//! time is printed first, and all is done again with 1 ms and 5 ms added to each flush. `SQLite` is beside both in
//! `cargo run --release --manifest-path benches/store_peers/Cargo.toml`.
#![expect(clippy::unwrap_used, reason = "a bench that fails stops")]
#![allow(unreachable_pub, reason = "modules are shared with another program")]

#[path = "store/harness.rs"]
mod harness;
#[path = "store/log.rs"]
mod log;
#[path = "store/ours.rs"]
mod ours;

use std::{path::Path, process::Command, sync::atomic::Ordering};

use harness::{Table, each_round, emit, events, flush_micros, now, only, rate};
use log::HandWritten;
use millstream::store::{Class, Op, PartitionId, Redb, Seq, Store as _, Wanted};
use ours::{Ours, WRITTEN};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HOME: PartitionId = PartitionId(0);
const NOTES: Class = Class(1);

fn appends(table: &Table, folder: &Path) {
    each_round("append", |job, emitters, is_plain| {
        let path = folder.join("ours");
        let ours = Ours::open(&path);
        let before = WRITTEN.load(Ordering::Relaxed);
        let figures = emit(&ours, emitters, 1);
        table.emitted(job, "millstream", emitters, &figures);
        if is_plain {
            let written = WRITTEN.load(Ordering::Relaxed) - before;
            let events = figures.events_per_second * harness::SECONDS;
            let job = format!("{job}, {emitters} emitters");
            table.figure(&job, "millstream", "bytes_written_an_event", written / events);
        }
        drop(ours);
        std::fs::remove_file(path).unwrap();
        let path = folder.join("log");
        let (log, writer) = HandWritten::open(&path, false);
        table.emitted(job, "hand-written", emitters, &emit(&log, emitters, 1));
        log.close();
        writer.join().unwrap();
        std::fs::remove_file(path).unwrap();
    });
}

/// Fills a store with so many events, in large batches.
async fn fill(ours: &Ours, count: usize) {
    let pool = events(4_096);
    for begin in (0..count).step_by(4_000) {
        let records = (begin..count.min(begin + 4_000)).map(|at| ours.record(pool[at % pool.len()].clone()));
        let batch = vec![Op::Append { class: NOTES, records: records.collect() }];
        ours.store.append(HOME, batch).await.unwrap();
    }
}

async fn read(table: &Table, folder: &Path) {
    const COUNT: usize = 2_000_000;
    let ours = Ours::open(&folder.join("read"));
    fill(&ours, COUNT).await;
    let reader = ours.store.reader(HOME);
    for job in ["read, first time", "read, again"] {
        let (mut from, mut count, mut bytes, begin) = (Seq(0), 0_u64, 0_u64, now());
        loop {
            let page = reader.read(NOTES, from, 1 << 20, &Wanted::default()).await.unwrap();
            count += page.records.len() as u64;
            bytes += page.records.iter().map(|record| record.bytes.len() as u64).sum::<u64>();
            from = page.next;
            if page.is_end {
                break;
            }
        }
        assert_eq!((count, bytes), (COUNT as u64, COUNT as u64 * 200));
        table.figure(job, "millstream", "events_per_s", rate(count, begin.elapsed()));
    }
}

/// A process of its own that fills a file and then waits to be killed.
async fn fill_and_wait(path: &Path) -> ! {
    let ours = Ours::over(Redb::open(path).unwrap());
    let mut left = std::fs::metadata(path).unwrap().len();
    while left < 1_000_000_000 {
        fill(&ours, 400_000).await;
        left = ours.store.stats().unwrap().log_bytes;
    }
    std::fs::write(path.with_extension("full"), "").unwrap();
    loop {
        fill(&ours, 4_000).await;
    }
}

fn open_after_kill(table: &Table, folder: &Path) {
    let path = folder.join("killed");
    let mut child = Command::new(std::env::current_exe().unwrap()).arg("--fill").arg(&path).spawn().unwrap();
    while !path.with_extension("full").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it fills until it is killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    let begin = now();
    let store = Redb::open(&path).unwrap();
    let opened = begin.elapsed();
    drop(store);
    table.figure("open after kill", "millstream", "file_bytes", length);
    table.figure("open after kill", "millstream", "micros", u64::try_from(opened.as_micros()).unwrap());
}

fn main() {
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut args = std::env::args();
    if args.any(|arg| arg == "--fill") {
        tokio.block_on(fill_and_wait(Path::new(&args.next().unwrap())));
    }
    let folder = tempfile::tempdir_in(std::env::var_os("MILLSTREAM_BENCH").unwrap_or_else(|| ".".into())).unwrap();
    let table = Table::new("The store in one file; events of 200 bytes, 3 s a line.");
    table.figure("flush", "disk", "micros", flush_micros(folder.path()).unwrap());
    table.head();
    let job = only("--job");
    let is_wanted = |name| job.as_ref().is_none_or(|job| job == name);
    if is_wanted("append") {
        appends(&table, folder.path());
    }
    if is_wanted("read") {
        tokio.block_on(read(&table, folder.path()));
    }
    if is_wanted("open") {
        open_after_kill(&table, folder.path());
    }
}
