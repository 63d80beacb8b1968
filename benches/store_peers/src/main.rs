//! Durable appends: the store in one file, a hand-written log and SQLite (write-ahead log, synchronous FULL), each with
//! group commit, in one run.
//!
//! `cargo run --release --manifest-path benches/store_peers/Cargo.toml` prints a table, `-- --json` an object a line.
//! `MILLSTREAM_BENCH` names the folder for the files. What is added to a flush is added to SQLite's commits, each of which
//! flushes once.
#![allow(unreachable_pub, reason = "modules are shared with another program")]

#[path = "../../store/harness.rs"]
mod harness;
#[path = "../../store/log.rs"]
mod log;
#[path = "../../store/ours.rs"]
mod ours;
mod sqlite;

use std::{path::Path, sync::atomic::Ordering};

use harness::{ADDED_MICROS, EMITTERS, Table, emit, flush_micros};
use log::HandWritten;
use ours::Ours;
use sqlite::Sqlite;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn round(table: &Table, job: &str, emitters: usize, folder: &Path) {
    let ours = Ours::open(&folder.join("ours"));
    table.emitted(job, "millstream", emitters, &emit(&ours, emitters, 1));
    drop(ours);
    let (log, writer) = HandWritten::open(&folder.join("log"));
    table.emitted(job, "hand-written", emitters, &emit(&log, emitters, 1));
    log.close();
    writer.join().expect("the writer ends well");
    let (sqlite, writer) = Sqlite::open(&folder.join("sqlite"));
    table.emitted(job, "sqlite", emitters, &emit(&sqlite, emitters, 1));
    sqlite.close();
    writer.join().expect("the writer ends well");
}

fn main() {
    let root = std::env::var_os("MILLSTREAM_BENCH").unwrap_or_else(|| ".".into());
    let folder = tempfile::tempdir_in(&root).expect("a folder");
    let table = Table::new("Durable appends of events of 200 bytes, 3 s a line.");
    table.figure("flush", "disk", "micros", flush_micros(folder.path()).expect("a disk"));
    table.head();
    for added in [0, 1_000, 5_000] {
        ADDED_MICROS.store(added, Ordering::Relaxed);
        let job = if added == 0 { "append".to_owned() } else { format!("append, flush + {} ms", added / 1_000) };
        for emitters in EMITTERS {
            let folder = tempfile::tempdir_in(&root).expect("a folder");
            round(&table, &job, emitters, folder.path());
        }
    }
}
