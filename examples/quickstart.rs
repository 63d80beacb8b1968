//! The README's first minute: two handlers, one event, both books balanced.
//!
//! `cargo run --release --example quickstart`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use anyhow::Result;
use millstream::{Event, Handler, Retry, Runtime};
use serde::{Deserialize, Serialize};

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "order.placed", key = "id")]
struct OrderPlaced {
    id: u64,
}

#[derive(Event, Clone, Serialize, Deserialize)]
struct StockReserved {
    order: u64,
}

async fn reserve(order: OrderPlaced) -> Result<StockReserved, std::io::Error> {
    Ok(StockReserved { order: order.id })
}

#[tokio::main]
async fn main() -> Result<()> {
    let runtime = Runtime::builder().build()?;
    runtime.on("order.placed", reserve.retry(Retry::exponential()))?;
    runtime.on("stock.*", |stock: StockReserved| async move { println!("reserved order {}", stock.order) })?;
    runtime.emit(OrderPlaced { id: 7 })?;
    let report = runtime.process().await?;
    println!("{} handled, {} dead letters", report.handled, report.dead);
    assert_eq!((report.handled, report.dead), (2, 0));
    print!("{}", runtime.describe().to_mermaid());
    Ok(())
}
