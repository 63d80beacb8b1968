//! A flood of low events and a few critical ones, with how long each class waited.
//!
//! A producer fills the queue with low events as fast as it can; now and then a critical one is emitted into the same
//! queue. Critical events have a few places of their own, so the flood cannot keep them out, and overtake all that waits.
//!
//! `cargo run --release --example priorities`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use millstream::{Context, Event, Priority, Runtime, State};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "job.thumbnail", priority = "low")]
struct Thumbnail {
    number: u64,
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "job.alarm", priority = "critical")]
struct Alarm {
    number: u64,
}

/// How long events waited, in microseconds, by class.
type Waits = Arc<Mutex<BTreeMap<Priority, Histogram<u64>>>>;

/// What each job does: a little work on this thread.
async fn work(State(waits): State<Waits>, State(clock): State<millstream::Clock>, context: Context) {
    let waited = clock.now().since(context.event().emitted_at());
    let busy = clock.now();
    while clock.now().since(busy) < Duration::from_micros(5) {
        std::hint::spin_loop();
    }
    let mut waits = waits.lock().unwrap_or_else(PoisonError::into_inner);
    let class = waits.entry(context.event().priority()).or_insert_with(new_histogram);
    class.saturating_record(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
}

#[expect(clippy::expect_used, reason = "three digits of a minute in microseconds are possible")]
fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000, 3).expect("the bounds are possible")
}

const FLOOD: u64 = 200_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let waits = Waits::default();
    let clock = millstream::Clock::system();
    let builder = Runtime::builder().queue_size(10_000).reserve(Priority::Critical, 100).clock(clock);
    let runtime = builder.state(Arc::clone(&waits)).state(clock).build()?;
    runtime.on("job.*", work)?;
    // `run` ends with the shutdown at the end of the flood; the first of the two that fails ends both.
    let drive = async { Ok(runtime.run().await?) };
    tokio::try_join!(drive, flood(&runtime))?;
    let stats = runtime.stats();
    println!(
        "{} events, {} handled, {} refused, {} dropped\n",
        stats.events.emitted,
        stats.deliveries.handled,
        stats.events.refused,
        stats.events.dropped.total()
    );
    println!("{}", table(&waits));
    assert_eq!(stats.deliveries.handled, stats.events.emitted);
    Ok(())
}

/// Emits, waiting for room: the queue is always full of low events.
async fn flood(runtime: &Runtime) -> Result<()> {
    for number in 0..FLOOD {
        runtime.emit_wait(Thumbnail { number }).await?;
        if number % 2_000 == 0 {
            runtime.emit(Alarm { number })?;
        }
    }
    runtime.shutdown(Duration::from_mins(1)).await?;
    Ok(())
}

fn table(waits: &Waits) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["class", "events", "p50 ms", "p99 ms", "longest ms"]);
    for (class, waited) in waits.lock().unwrap_or_else(PoisonError::into_inner).iter().rev() {
        #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
        let millis = |micros: u64| format!("{:.2}", micros as f64 / 1_000.0);
        let figures = [
            waited.len().to_string(),
            millis(waited.value_at_quantile(0.5)),
            millis(waited.value_at_quantile(0.99)),
            millis(waited.max()),
        ];
        let figures = figures.map(|figure| Cell::new(figure).set_alignment(CellAlignment::Right));
        table.add_row([Cell::new(class)].into_iter().chain(figures));
    }
    table
}
