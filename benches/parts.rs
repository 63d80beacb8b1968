//! The parts of the engine, one by one: `cargo bench --bench parts`.
#![expect(clippy::unwrap_used, reason = "a bench that fails stops")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream::{Draft, Event, Handler, Pattern, Runtime};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "bench.tick", key = "number")]
struct Tick {
    number: u64,
}

const ROUND: u64 = 1_000;

fn runtime() -> Runtime {
    Runtime::builder().queue_size(4_000).build().unwrap()
}

/// Emits a round of events and handles them.
fn round(tokio: &tokio::runtime::Runtime, runtime: &Runtime, draft: impl Fn(u64) -> Draft) {
    for number in 0..ROUND {
        runtime.emit(draft(number)).unwrap();
    }
    tokio.block_on(runtime.process()).unwrap();
}

fn deliveries(criterion: &mut Criterion) {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut group = criterion.benchmark_group("emit_to_handled");
    group.throughput(Throughput::Elements(ROUND));
    for fan_out in [1, 4, 16] {
        let runtime = runtime();
        for _ in 0..fan_out {
            runtime.on("bench.tick", |_: Tick| async {}).unwrap();
        }
        group.bench_function(BenchmarkId::new("fan_out", fan_out), |bench| {
            bench.iter(|| round(&tokio, &runtime, |number| Draft::new(Tick { number })));
        });
    }
    let mut job = |name: &str, runtime: &Runtime, draft: &dyn Fn(u64) -> Draft| {
        group.bench_function(name, |bench| bench.iter(|| round(&tokio, runtime, draft)));
    };
    let typed = |number| Draft::new(Tick { number });
    let ordered = runtime();
    ordered.on("bench.tick", (|_: Tick| async {}).ordered_by_key()).unwrap();
    job("ordered_by_key", &ordered, &typed);
    let waiting = runtime();
    waiting.on("bench.tick", |_: Tick| tokio::task::yield_now()).unwrap();
    job("parked_once", &waiting, &typed);
    let returning = runtime();
    returning.on("bench.tick", |_: Tick| async { Draft::json("bench.tock", json!(1)) }).unwrap();
    returning.on("bench.tock", || async {}).unwrap();
    job("returns_an_event", &returning, &typed);
    let converting = runtime();
    converting.on("bench.tick", |_: Tick| async {}).unwrap();
    job("json_to_typed", &converting, &|number| Draft::json("bench.tick", json!({ "number": number })));
    group.finish();
}

fn patterns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pattern");
    for (name, pattern) in [("literal", "order.line.added"), ("token", "order.*.added"), ("rest", "order.>")] {
        let pattern: Pattern = pattern.parse().unwrap();
        group.bench_function(name, |bench| bench.iter(|| std::hint::black_box(&pattern).matches("order.line.added")));
    }
    group.finish();
}

criterion_group!(benches, deliveries, patterns);
criterion_main!(benches);
