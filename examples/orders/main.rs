//! A durable order flow that is killed half-way and started again: handlers, a keyed stage with a timer, dead letters that
//! are replayed, and totals that come out right.
//!
//! ```text
//! order.placed -> charge (retries; some cards are declined) -> order.paid -> ledger (writes with its outcome)
//!                                                                        \-> statements (a stage: a debounce per customer)
//! ```
//! `cargo run --release --example orders`. The program starts itself as a child, kills it, and starts it again.
#![expect(clippy::print_stdout, reason = "a program that shows what it does")]

mod flow;

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use self::flow::{CUSTOMERS, ORDERS, cents_of};

/// Kills a durable flow of orders half-way, starts it again, and shows that each order is paid once.
#[derive(Parser)]
struct Arguments {
    /// Works on this file, as one of the two processes.
    #[arg(long, value_name = "PATH", hide = true)]
    child: Option<PathBuf>,
    /// Goes on where another process was killed.
    #[arg(long, requires = "child", hide = true)]
    second: bool,
}

/// How many orders the first process has charged when it is killed.
const KILLED_AFTER: usize = 150;

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments { child: Some(path), second } => flow::live(&path, second).await,
        Arguments { child: None, .. } => watch(),
    }
}

fn child(path: &Path, is_second: bool) -> Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("--child").arg(path).args(is_second.then_some("--second"));
    command.stdout(Stdio::piped()).spawn().context("the program cannot start itself")
}

/// Starts the flow, kills it half-way, starts it again, and checks what came of it.
fn watch() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("orders.redb");
    println!("{ORDERS} orders of {CUSTOMERS} customers; the first process is killed after {KILLED_AFTER} charges");
    let mut first = child(&path, false)?;
    let lines = BufReader::new(first.stdout.take().context("the child has no output")?).lines();
    let charged = lines.map_while(Result::ok).filter(|line| line.starts_with("charged")).take(KILLED_AFTER).count();
    first.kill()?;
    let status = first.wait()?;
    ensure!(charged == KILLED_AFTER, "the first process ended before it was killed, after {charged} charges: {status}");
    println!("killed, with {charged} charges seen; the second process goes on where the file says");
    let second = child(&path, true)?.wait_with_output()?;
    ensure!(second.status.success(), "the second process has failed: {}", second.status);
    let report = String::from_utf8(second.stdout)?;
    let last = report.lines().last().unwrap_or_default();
    println!("{last}");
    check(&serde_json::from_str(last)?)
}

/// Each order is paid once, whatever was done twice, and each customer's total is exact.
fn check(report: &serde_json::Value) -> Result<()> {
    let expected: Vec<u64> = (0..CUSTOMERS)
        .map(|customer| (0..ORDERS).filter(|id| id % CUSTOMERS == customer).map(cents_of).sum())
        .collect();
    let totals: Vec<u64> = serde_json::from_value(report["totals"].clone())?;
    ensure!(totals == expected, "the totals are {totals:?}, expected were {expected:?}");
    let is_whole = report["paid"] == ORDERS && report["statements"] == CUSTOMERS && report["dead_letters"] == 0;
    ensure!(is_whole, "something is missing or doubled: {report}");
    println!("all {ORDERS} orders are paid once, and the totals of all {CUSTOMERS} customers are exact");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    #[test]
    fn it_says_what_it_is_and_takes_nothing_from_whoever_runs_it() {
        Arguments::command().debug_assert();
        let said = |arguments: &[&str]| Arguments::try_parse_from(arguments).map(drop).map_err(|error| error.kind());
        assert_eq!(said(&["orders"]), Ok(()));
        assert_eq!(said(&["orders", "--help"]), Err(ErrorKind::DisplayHelp));
        assert_eq!(said(&["orders", "other"]), Err(ErrorKind::UnknownArgument));
        let help = Arguments::command().render_help().to_string();
        assert!(help.contains("Kills a durable flow") && !help.contains("--child"), "{help}");
    }
}
