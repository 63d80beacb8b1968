//! Emit to handled, beside what a team would write without millstream: all contenders in one run, on one core, with the
//! same event and the same trivial async handler.
//!
//! `cargo bench --bench throughput` prints a table, `-- --json` an object a line. `-- --only NAME [TIMES]` runs one
//! contender and prints nothing: it is for a profiler, whose counts repeat where times do not.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench that fails stops")]

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use millstream::{Event, Handler, Runtime, State};
use serde::{Deserialize, Serialize};
use tower::{ServiceBuilder, util::MapRequestLayer};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "bench.tick")]
struct Tick {
    number: u64,
}

type Sum = Arc<AtomicU64>;

/// What every contender runs for each event.
#[expect(clippy::unused_async, reason = "a trivial async handler")]
async fn handle(tick: Tick, sum: &Sum) {
    sum.fetch_add(black_box(tick.number), Ordering::Relaxed);
}

const EVENTS: u64 = 500_000;
const ROUND: u64 = 1_000;
const RUNS: usize = 9;

#[expect(clippy::disallowed_methods, reason = "a bench reads the real clock")]
fn now() -> Instant {
    Instant::now()
}

/// All events in rounds: `emit` takes one, `drain` waits until those of the round are handled.
async fn millstream(sum: &Sum, layers: bool) -> Duration {
    let runtime = Runtime::builder().queue_size(2_000).batch_size(100).state(Arc::clone(sum)).build().unwrap();
    let handler = |tick: Tick, State(sum): State<Sum>| async move { handle(tick, &sum).await };
    if layers {
        let stack = ServiceBuilder::new()
            .concurrency_limit(1_000)
            .layer(MapRequestLayer::new(|delivery: millstream::Delivery| delivery))
            .map_response(|outputs: millstream::Outputs| outputs);
        runtime.on("bench.tick", handler.layer(stack)).unwrap();
    } else {
        runtime.on("bench.tick", handler).unwrap();
    }
    let start = now();
    for round in 0..EVENTS / ROUND {
        for number in 0..ROUND {
            runtime.emit(Tick { number: round * ROUND + number }).unwrap();
        }
        runtime.process().await.unwrap();
    }
    let took = start.elapsed();
    assert_eq!(runtime.stats().deliveries.handled, EVENTS);
    took
}

async fn tokio_mpsc_task(sum: &Sum) -> Duration {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Tick>(2_000);
    let counted = Arc::clone(sum);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Some(tick) = receiver.recv().await {
            handle(tick, &counted).await;
        }
    });
    let start = now();
    for number in 0..EVENTS {
        sender.send(Tick { number }).await.unwrap();
    }
    drop(sender);
    tasks.join_next().await.unwrap().unwrap();
    start.elapsed()
}

async fn tokio_spawn(sum: &Sum) -> Duration {
    let start = now();
    let mut tasks = tokio::task::JoinSet::new();
    for round in 0..EVENTS / ROUND {
        for number in 0..ROUND {
            let sum = Arc::clone(sum);
            let tick = Tick { number: round * ROUND + number };
            tasks.spawn(async move { handle(tick, &sum).await });
        }
        while tasks.join_next().await.is_some() {}
    }
    start.elapsed()
}

async fn vec_loop(sum: &Sum) -> Duration {
    let start = now();
    let mut events = Vec::with_capacity(usize::try_from(ROUND).unwrap());
    for round in 0..EVENTS / ROUND {
        events.extend((0..ROUND).map(|number| Tick { number: round * ROUND + number }));
        for tick in black_box(&mut events).drain(..) {
            handle(tick, sum).await;
        }
    }
    start.elapsed()
}

async fn contend(name: &str, sum: &Sum) -> Duration {
    match name {
        "millstream" => millstream(sum, false).await,
        "millstream_3_layers" => millstream(sum, true).await,
        "tokio_mpsc_task" => tokio_mpsc_task(sum).await,
        "tokio_spawn" => tokio_spawn(sum).await,
        "vec_loop" => vec_loop(sum).await,
        _ => panic!("there is no contender `{name}`"),
    }
}

fn main() {
    let json = std::env::args().any(|arg| arg == "--json");
    let mut only = std::env::args().skip_while(|arg| arg != "--only").skip(1);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    if let Some(name) = only.next() {
        for _ in 0..only.next().map_or(1, |times| times.parse().unwrap()) {
            tokio.block_on(contend(&name, &Sum::default()));
        }
        return;
    }
    let names = ["millstream", "tokio_mpsc_task", "tokio_spawn", "vec_loop", "millstream_3_layers"];
    let mut times = vec![Vec::new(); names.len()];
    let sum = Sum::default();
    // The contenders take turns, so that a machine whose speed drifts treats them alike.
    for run in 0..=RUNS {
        for (name, times) in names.iter().zip(&mut times) {
            let took = tokio.block_on(contend(name, &sum));
            if run > 0 {
                times.push(took);
            }
        }
    }
    report(&names, &mut times, json);
}

#[expect(clippy::cast_precision_loss, reason = "a figure to read")]
fn report(names: &[&str], times: &mut [Vec<Duration>], json: bool) {
    let medians: Vec<f64> = times
        .iter_mut()
        .map(|times| {
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64()
        })
        .collect();
    if !json {
        println!("{:<22} {:>14} {:>10} {:>22}", "emit_to_handled", "events/s", "ns/event", "times millstream's time");
    }
    for (name, median) in names.iter().zip(&medians) {
        let per_second = EVENTS as f64 / median;
        if json {
            println!(
                "{}",
                serde_json::json!({ "job": "emit_to_handled", "contender": name, "events_per_s": per_second.round() })
            );
        } else {
            println!("{name:<22} {per_second:>14.0} {:>10.1} {:>22.2}", 1e9 / per_second, median / medians[0]);
        }
    }
}
