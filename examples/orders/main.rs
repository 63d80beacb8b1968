//! A durable order flow that is killed half-way and started again: handlers, a keyed stage with a timer, dead letters that
//! are replayed, and totals that come out right.
//!
//! ```text
//! order.placed -> charge (retries; some cards are declined) -> order.paid -> ledger (writes with its outcome)
//!                                                                        \-> statements (a stage: a debounce per customer)
//! ```
//! `cargo run --release --example orders`. The program starts itself as a child, kills it, and starts it again.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that shows what it does, and whose driver it awaits"
)]

mod flow;

use std::{
    env,
    error::Error,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use self::flow::{CUSTOMERS, ORDERS, cents_of};

type Outcome = Result<(), Box<dyn Error>>;

/// How many orders the first process has charged when it is killed.
const KILLED_AFTER: usize = 150;

#[tokio::main]
async fn main() -> Outcome {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--child", path, life] => flow::live(Path::new(path), life == "second").await,
        [] => watch(),
        _ => Err("usage: orders; it takes no arguments".into()),
    }
}

fn child(path: &Path, life: &str) -> std::io::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("--child").arg(path).arg(life).stdout(Stdio::piped()).spawn()
}

/// Starts the flow, kills it half-way, starts it again, and checks what came of it.
fn watch() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("orders.redb");
    println!("{ORDERS} orders of {CUSTOMERS} customers; the first process is killed after {KILLED_AFTER} charges");
    let mut first = child(&path, "first")?;
    let lines = BufReader::new(first.stdout.take().ok_or("the child has no output")?).lines();
    let charged = lines.map_while(Result::ok).filter(|line| line.starts_with("charged")).take(KILLED_AFTER).count();
    first.kill()?;
    first.wait()?;
    println!("killed, with {charged} charges seen; the second process goes on where the file says");
    let second = child(&path, "second")?.wait_with_output()?;
    let report = String::from_utf8(second.stdout)?;
    let last = report.lines().last().unwrap_or_default();
    println!("{last}");
    check(&serde_json::from_str(last)?)
}

/// Each order is paid once, whatever was done twice, and each customer's total is exact.
fn check(report: &serde_json::Value) -> Outcome {
    let expected: Vec<u64> = (0..CUSTOMERS)
        .map(|customer| (0..ORDERS).filter(|id| id % CUSTOMERS == customer).map(cents_of).sum())
        .collect();
    let totals: Vec<u64> = serde_json::from_value(report["totals"].clone())?;
    if totals != expected {
        return Err(format!("the totals are {totals:?}, expected were {expected:?}").into());
    }
    if report["paid"] != ORDERS || report["statements"] != CUSTOMERS || report["dead_letters"] != 0 {
        return Err(format!("something is missing or doubled: {report}").into());
    }
    println!("all {ORDERS} orders are paid once, and the totals of all {CUSTOMERS} customers are exact");
    Ok(())
}
