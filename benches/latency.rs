//! How long from emit to the start of the handler, idle and loaded, with the median and the 99th percentile.
//!
//! Idle: one event at a time into a runtime that sleeps, from another task of the same thread. Loaded: a producer keeps a
//! thousand events waiting. `cargo bench --bench latency` prints a table, `-- --json` an object a line.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::unwrap_used, reason = "a bench that fails stops")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use hdrhistogram::Histogram;
use millstream::{Clock, Context, Event, Handler, Runtime};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "bench.tick")]
struct Tick {
    number: u64,
}

type Waits = Arc<Mutex<Histogram<u64>>>;

fn runtime(waits: &Waits) -> Runtime {
    let clock = Clock::system();
    let runtime = Runtime::builder().queue_size(1_000).clock(clock).build().unwrap();
    let waits = Arc::clone(waits);
    let handler = move |context: Context| {
        let waited = clock.now().since(context.event().emitted_at());
        waits.lock().unwrap().saturating_record(u64::try_from(waited.as_nanos()).unwrap());
        async {}
    };
    runtime.on("bench.tick", handler.named("clock")).unwrap();
    runtime
}

async fn idle(waits: &Waits) {
    let runtime = runtime(waits);
    let feed = async {
        for number in 0..20_000 {
            runtime.emit(Tick { number }).unwrap();
            runtime.process().await.unwrap();
        }
        runtime.shutdown(Duration::from_secs(10)).await.unwrap();
    };
    tokio::join!(async { runtime.run().await.unwrap() }, feed);
}

async fn loaded(waits: &Waits) {
    let runtime = runtime(waits);
    let feed = async {
        for number in 0..500_000 {
            runtime.emit_wait(Tick { number }).await.unwrap();
        }
        runtime.shutdown(Duration::from_secs(10)).await.unwrap();
    };
    tokio::join!(async { runtime.run().await.unwrap() }, feed);
}

fn main() {
    let json = std::env::args().any(|arg| arg == "--json");
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    if !json {
        println!("{:<16} {:>12} {:>12} {:>10}", "emit_to_start", "p50 µs", "p99 µs", "events");
    }
    for job in ["idle", "loaded"] {
        let waits = Waits::new(Mutex::new(Histogram::new_with_max(60_000_000_000, 3).unwrap()));
        tokio.block_on(async { if job == "idle" { idle(&waits).await } else { loaded(&waits).await } });
        let waits = waits.lock().unwrap();
        let [p50, p99] = [0.5, 0.99].map(|q| waits.value_at_quantile(q));
        if json {
            println!("{}", serde_json::json!({ "job": format!("emit_to_start_{job}"), "p50_ns": p50, "p99_ns": p99 }));
        } else {
            #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
            let micros = |nanos: u64| nanos as f64 / 1e3;
            println!("{job:<16} {:>12.1} {:>12.1} {:>10}", micros(p50), micros(p99), waits.len());
        }
    }
}
