//! A durable operator stage on a file: 200,000 keys, a sum for each, an output for each event.
//!
//! `cargo bench --bench stage --features testing` prints a table; `-- EPOCH` runs epochs of that size alone. Events are
//! appended to the log first and are not in the figures; what is, is reading them, the states, the outputs, the commits.
//! Bytes are those that the store hands to the system, all pages of redb among them.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::unwrap_used, reason = "a bench that fails stops")]

use std::{
    fs::OpenOptions,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use millstream::{__private::Drill, Event, Stage, Timestamp, store::Redb};
use millstream_operators::chain;
use redb::{StorageBackend, backends::FileBackend};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: u64 = 200_000;
const EPOCHS: [usize; 3] = [100, 1_000, 10_000];
const ROUNDS: usize = 3;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "bench.sale")]
struct Sale {
    shop: u64,
    cents: u64,
    note: String,
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "bench.total")]
struct Total {
    shop: u64,
    cents: u64,
    sales: u64,
}

/// A file that counts what is written to it.
#[derive(Debug)]
struct Counted {
    file: FileBackend,
    written: Arc<AtomicU64>,
}

impl StorageBackend for Counted {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.file.write(offset, data)
    }
}

fn sale(shop: u64) -> Sale {
    Sale { shop, cents: fastrand::u64(..10_000), note: "x".repeat(100) }
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the real clock")]
fn now() -> Instant {
    Instant::now()
}

async fn measure(epoch: usize) {
    let folder = tempfile::tempdir().unwrap();
    let file = OpenOptions::new().create_new(true).read(true).write(true).open(folder.path().join("log")).unwrap();
    let written = Arc::new(AtomicU64::new(0));
    let backend = Counted { file: FileBackend::new(file).unwrap(), written: Arc::clone(&written) };
    let store = Redb::builder().open_on(backend).unwrap();
    let totals = chain().scan(Total { shop: 0, cents: 0, sales: 0 }, |total, sale: Sale| {
        total.shop = sale.shop;
        total.cents += sale.cents;
        total.sales += 1;
    });
    let stage = Stage::keyed(|sale: &Sale| sale.shop, totals).epoch(epoch).state_memory(256 << 20);
    let mut drill = Drill::new(store, stage).await.unwrap();
    let at = Timestamp::from_secs(1);
    drill.append((0..KEYS).map(sale), at).await.unwrap();
    drill.run(at).await.unwrap();
    let events = if epoch < 1_000 { 100_000 } else { 400_000 };
    for round in 0..ROUNDS {
        drill.append((0..events).map(|_| sale(fastrand::u64(..KEYS))), at).await.unwrap();
        let before = written.load(Ordering::Relaxed);
        let start = now();
        drill.run(at).await.unwrap();
        let millis = u64::try_from(start.elapsed().as_millis()).unwrap().max(1);
        let bytes = (written.load(Ordering::Relaxed) - before) / events;
        let rate = events * 1_000 / millis;
        println!("epoch {epoch:>6}, round {round}: {rate:>8} events/s, {bytes:>5} bytes written an event");
    }
    println!("    {}", drill.describe());
}

fn main() {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let only: Option<usize> = std::env::args().find_map(|argument| argument.parse().ok());
    for epoch in EPOCHS.into_iter().filter(|epoch| only.is_none_or(|only| only == *epoch)) {
        tokio.block_on(measure(epoch));
    }
}
