//! Emitters that each wait for their event to be on disk, and how long they do. Shared with the peers' bench.
#![allow(dead_code, reason = "each program uses a part of it")]
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use hdrhistogram::Histogram;

pub const EVENT: usize = 200;
const EMITTERS: [usize; 4] = [1, 16, 256, 2_048];
/// Microseconds that are added to each flush.
const ADDED: [u64; 3] = [0, 1_000, 5_000];
pub const SECONDS: u64 = 3;

/// What is added to each flush, to see what a slower disk does.
static ADDED_MICROS: AtomicU64 = AtomicU64::new(0);

/// The value of an argument, to look at one part alone.
pub fn only(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(name: &str) -> Option<T> {
    only(name).map(|value| value.parse().expect("`--emitters` and `--added` want a number"))
}

/// A job with each number of emitters on each disk, or on those that `--emitters` and `--added` say; it is told its name, the
/// number, and whether the disk is as it is.
pub fn each_round(job: &str, mut run: impl FnMut(&str, usize, bool)) {
    let (emitters, added): (Option<usize>, Option<u64>) = (number("--emitters"), number("--added"));
    for micros in ADDED.into_iter().filter(|micros| added.is_none_or(|only| only == *micros)) {
        ADDED_MICROS.store(micros, Ordering::Relaxed);
        let name = if micros == 0 { job.to_owned() } else { format!("{job}, flush + {} ms", micros / 1_000) };
        for count in EMITTERS.into_iter().filter(|count| emitters.is_none_or(|only| only == *count)) {
            run(&name, count, micros == 0);
        }
    }
    ADDED_MICROS.store(0, Ordering::Relaxed);
}

pub fn slow_down() {
    let micros = ADDED_MICROS.load(Ordering::Relaxed);
    if micros > 0 {
        #[expect(clippy::disallowed_methods, reason = "it stands for a slow disk")]
        std::thread::sleep(Duration::from_micros(micros));
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Something that takes events and says when they are on disk.
pub trait Contender: Clone + Send + Sync + 'static {
    fn append(&self, event: Bytes) -> impl Future<Output = ()> + Send;

    /// What is done beside those who emit, until it rests.
    fn drive(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// All that it took has been handled, and that is on disk too; at once where nobody handles. Then it stops.
    fn rest(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Events of 200 bytes of JSON, each with an id and numbers of its own.
pub fn events(count: u64) -> Arc<[Bytes]> {
    let mut random = fastrand::Rng::with_seed(42);
    let event = |seq: u64| {
        let mut text = format!(
            "{{\"order_id\":\"{:016x}{:08x}\",\"customer\":{},\"sku\":\"SKU-{:05}\",\"qty\":{},\"price_cents\":{},\"region\":\"{}\",\"seq\":{seq}",
            random.u64(..),
            random.u32(..),
            random.u32(..1_000_000),
            random.u32(..5_000),
            random.u32(..20),
            random.u32(..100_000),
            ["eu-west", "us-east", "ap-south"][random.usize(..3)],
        );
        while text.len() < EVENT {
            write!(text, "{:08x}", random.u32(..)).expect("a string takes all");
        }
        text.truncate(EVENT);
        Bytes::from(text)
    };
    (0..count).map(event).collect()
}

/// What all handlers do: look at the event.
pub fn handle(event: &[u8]) -> bool {
    std::hint::black_box(event).len() == EVENT
}

/// What one run has shown.
pub struct Figures {
    pub events_per_second: u64,
    pub p50_micros: u64,
    pub p99_micros: u64,
}

/// So many emitters, each with one event in flight, for some seconds.
pub fn emit(contender: &impl Contender, emitters: usize, workers: usize) -> Figures {
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_time().build().expect("threads");
    let events = events(4_096);
    let begin = now();
    let end = begin + Duration::from_secs(SECONDS);
    // One for all: a histogram for each emitter would fill the processor's caches with itself.
    let waits = Arc::new(Mutex::new(Histogram::<u64>::new_with_max(60_000_000, 2).expect("the bounds are right")));
    tokio.block_on(async {
        let (mut tasks, driven) = (tokio::task::JoinSet::new(), contender.clone());
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(async move { driven.drive().await });
        for emitter in 0..emitters {
            let (contender, events, waits) = (contender.clone(), Arc::clone(&events), Arc::clone(&waits));
            tasks.spawn(async move {
                let mut at = emitter * 7;
                loop {
                    let start = now();
                    if start >= end {
                        return;
                    }
                    contender.append(events[at % events.len()].clone()).await;
                    at += 1;
                    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                    waits.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
                }
            });
        }
        tasks.join_all().await;
        contender.rest().await;
        driver.join_all().await;
    });
    let elapsed = begin.elapsed();
    let waits = waits.lock().unwrap_or_else(PoisonError::into_inner);
    Figures {
        events_per_second: rate(waits.len(), elapsed),
        p50_micros: waits.value_at_quantile(0.5),
        p99_micros: waits.value_at_quantile(0.99),
    }
}

pub fn rate(count: u64, elapsed: Duration) -> u64 {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(1);
    count.saturating_mul(1_000_000) / micros
}

/// How long the disk takes to flush a page, in microseconds: the median of 200.
pub fn flush_micros(folder: &Path) -> io::Result<u64> {
    let file = File::create(folder.join("flush"))?;
    file.write_all_at(&vec![0; 1 << 20], 0)?;
    file.sync_all()?;
    let mut waits = Vec::with_capacity(200);
    for page in 0..200_u64 {
        file.write_all_at(&[7; 4_096], page % 256 * 4_096)?;
        let begin = now();
        file.sync_data()?;
        waits.push(u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    waits.sort_unstable();
    Ok(waits[100])
}

/// The memory that this process holds now, or the most it ever held (`VmRSS`, `VmHWM`), where the system says so.
pub fn memory_kib(which: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Prints figures as a row, or as an object a line.
pub struct Table {
    pub json: bool,
}

impl Table {
    pub fn new(title: &str) -> Self {
        let table = Self::of_child();
        if !table.json {
            println!("{title}");
        }
        table
    }

    /// Of a process that does a part of another's work.
    pub fn of_child() -> Self {
        Self { json: std::env::args().any(|arg| arg == "--json") }
    }

    pub fn head(&self) {
        if !self.json {
            println!(
                "{:<26} {:<12} {:>8} {:>14} {:>10} {:>10}",
                "job", "contender", "emitters", "events/s", "p50 µs", "p99 µs"
            );
        }
    }

    pub fn emitted(&self, job: &str, contender: &str, emitters: usize, figures: &Figures) {
        let Figures { events_per_second, p50_micros, p99_micros } = figures;
        if self.json {
            println!(
                "{{\"job\":\"{job}\",\"contender\":\"{contender}\",\"emitters\":{emitters},\"events_per_s\":{events_per_second},\"p50_us\":{p50_micros},\"p99_us\":{p99_micros}}}"
            );
        } else {
            println!(
                "{job:<26} {contender:<12} {emitters:>8} {events_per_second:>14} {p50_micros:>10} {p99_micros:>10}"
            );
        }
        io::stdout().flush().ok();
    }

    pub fn figure(&self, job: &str, contender: &str, name: &str, value: u64) {
        if self.json {
            println!("{{\"job\":\"{job}\",\"contender\":\"{contender}\",\"{name}\":{value}}}");
        } else {
            println!("{job:<26} {contender:<12} {name}: {value}");
        }
    }
}
