//! Durable events: the store in one file, a runtime on it, a hand-written log and SQLite (write-ahead log, synchronous FULL),
//! each with group commit, in one run. `append` is until an event is on disk; `handle` goes on until a handler has had all
//! events and that is on disk too.
//!
//! `cargo run --release --manifest-path benches/store_peers/Cargo.toml` prints a table, `-- --json` an object a line;
//! `--job append|handle`, `--emitters N` and `--added MICROS` take a part of it.
//! `MILLSTREAM_BENCH` names the folder for the files. What is added to a flush is added to SQLite's commits, each of which
//! flushes once.
#![allow(unreachable_pub, reason = "modules are shared with another program")]

#[path = "../../store/engine.rs"]
mod engine;
#[path = "../../store/harness.rs"]
mod harness;
#[path = "../../store/log.rs"]
mod log;
#[path = "../../store/ours.rs"]
mod ours;
mod sqlite;

use std::path::Path;

use engine::Engine;
use harness::{Table, each_round, emit, flush_micros, only};
use log::HandWritten;
use ours::Ours;
use sqlite::Sqlite;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn round(table: &Table, job: &str, emitters: usize, handles: bool, folder: &Path) {
    if !handles {
        let ours = Ours::open(&folder.join("ours"));
        table.emitted(job, "store", emitters, &emit(&ours, emitters, 1));
    }
    let engine = Engine::open(&folder.join("engine"), handles);
    table.emitted(job, "millstream", emitters, &emit(&engine, emitters, 1));
    drop(engine);
    let (log, writer) = HandWritten::open(&folder.join("log"), handles);
    table.emitted(job, "hand-written", emitters, &emit(&log, emitters, 1));
    log.close();
    writer.join().expect("the writer ends well");
    let (sqlite, writer) = Sqlite::open(&folder.join("sqlite"), handles);
    table.emitted(job, "sqlite", emitters, &emit(&sqlite, emitters, 1));
    sqlite.close();
    writer.join().expect("the writer ends well");
}

fn main() {
    let root = std::env::var_os("MILLSTREAM_BENCH").unwrap_or_else(|| ".".into());
    let folder = tempfile::tempdir_in(&root).expect("a folder");
    let table = Table::new("Durable events of 200 bytes, 3 s a line: until they are on disk, and until they are handled.");
    table.figure("flush", "disk", "micros", flush_micros(folder.path()).expect("a disk"));
    table.head();
    let job = only("--job");
    for (name, handles) in [("append", false), ("handle", true)] {
        if job.as_ref().is_some_and(|job| job != name) {
            continue;
        }
        each_round(name, |job, emitters, _| {
            let folder = tempfile::tempdir_in(&root).expect("a folder");
            round(&table, job, emitters, handles, folder.path());
        });
    }
}
