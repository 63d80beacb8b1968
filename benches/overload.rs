//! Ten million emits at ten times what the handler can take: what has no room is refused, and memory stays flat.
//!
//! `cargo bench --bench overload` prints a table, `-- --json` an object a line. Memory is read from `/proc` (Linux).
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::unwrap_used, reason = "a bench that fails stops")]

use millstream::{Event, Runtime};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "bench.load", key = "number")]
struct Load {
    number: u64,
    text: String,
}

const EMITS: u64 = 10_000_000;
/// Emits for each event that the runtime has time for.
const OVERLOAD: u64 = 10;
const QUEUE: usize = 10_000;

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
}

async fn overload(json: bool) {
    let runtime = Runtime::builder().queue_size(QUEUE).build().unwrap();
    // It takes as long as the test lets it: a permit for every tenth emit.
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let allowed = std::sync::Arc::clone(&permits);
    runtime
        .on("bench.load", move |load: Load| {
            let allowed = std::sync::Arc::clone(&allowed);
            async move {
                allowed.acquire().await.unwrap().forget();
                drop(load);
            }
        })
        .unwrap();
    let (mut accepted, mut refused) = (0_u64, 0_u64);
    for number in 0..EMITS {
        match runtime.emit(Load { number, text: "x".repeat(200) }) {
            Ok(_) => accepted += 1,
            Err(_) => refused += 1,
        }
        if number % OVERLOAD == 0 {
            permits.add_permits(1);
        }
        if number % 1_000 == 0 {
            // Lets the dispatcher do what it can now; it waits for permits and not for an end.
            drop(tokio::time::timeout(std::time::Duration::ZERO, runtime.process()).await);
        }
        if number % (EMITS / 10) == EMITS / 10 - 1 {
            report(json, number + 1, accepted, refused, &runtime);
        }
    }
    permits.add_permits(2 * QUEUE);
    runtime.process().await.unwrap();
    let stats = runtime.stats();
    assert_eq!((stats.deliveries.handled, stats.held), (accepted, 0));
    assert!(stats.balances() && accepted + refused == EMITS);
}

fn report(json: bool, emits: u64, accepted: u64, refused: u64, runtime: &Runtime) {
    let (resident, held) = (resident_kib(), runtime.stats().held);
    if json {
        let line = serde_json::json!({ "job": "overload", "emits": emits, "accepted": accepted, "refused": refused, "held": held, "resident_kib": resident });
        println!("{line}");
    } else {
        println!("{emits:>10} {accepted:>10} {refused:>10} {held:>8} {:>14}", resident.unwrap_or_default());
    }
}

fn main() {
    let json = std::env::args().any(|arg| arg == "--json");
    if !json {
        println!("{:>10} {:>10} {:>10} {:>8} {:>14}", "emits", "accepted", "refused", "held", "resident KiB");
    }
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio.block_on(overload(json));
}
