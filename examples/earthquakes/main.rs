//! A week of earthquakes, replayed by event time.
//!
//! The USGS revises its records, so the news of most quakes comes after that of later ones, up to days late. Here they
//! come in that order, and are counted by the time at which the ground shook: windows of a day (or an hour), which wait
//! for late news as long as you say. What comes later still is a side output, counted, not lost. And the answer does not
//! depend on the order in which news comes, as long as none is later than that: which is asserted.
//!
//! `cargo run --release --example earthquakes [-- --lateness HOURS] [-- --window HOURS] [-- --input PATH] [-- --json]`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

mod quakes;
mod replay;
mod report;

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Parser;

use crate::{
    quakes::{Quake, delays, in_order, read, shuffled},
    replay::{Outcome, replay},
    report::{Report, by_lateness, by_window},
};

/// Counts earthquakes in windows of event time.
#[derive(Parser)]
struct Arguments {
    /// A feed of the USGS, such as `earthquakes.json` of `vega-datasets`.
    #[arg(long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// How long a window waits for late news.
    #[arg(long, value_name = "HOURS", default_value = "24")]
    lateness: u64,
    /// How long a window is.
    #[arg(long, value_name = "HOURS", default_value = "24")]
    window: NonZeroU64,
    /// Prints one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

const HOUR_MILLIS: u64 = 3_600_000;

fn hours(hours: u64) -> Duration {
    Duration::from_millis(hours.saturating_mul(HOUR_MILLIS))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let quakes = read(arguments.input.as_deref())?;
    let (window, lateness) = (hours(arguments.window.get()), arguments.lateness);
    let delays = delays(&quakes);
    let longest = delays.iter().max().copied().unwrap_or_default();
    println!("{} quakes, {} of them behind others that came before\n", quakes.len(), delays.len());

    let outcome = replayed(&quakes, window, lateness).await?;
    println!(
        "windows of {} h that wait {lateness} h for late news:\n{}\n",
        arguments.window,
        by_window(&outcome.windows)
    );
    println!("how long they wait decides how much is late:\n{}\n", lateness_table(&quakes, window, longest).await?);
    let equal_orders = assert_that_order_does_not_matter(&quakes, window, lateness, longest).await?;
    println!("{equal_orders} orders of arrival, one answer");

    let report = Report {
        quakes: quakes.len(),
        out_of_order: delays.len(),
        longest_delay_hours: Duration::from_millis(longest).as_secs_f64() / 3_600.0,
        lateness_hours: lateness,
        window_hours: arguments.window.get(),
        windows: outcome.windows.len(),
        on_time: outcome.on_time(),
        late: outcome.late.len(),
        dropped: outcome.dropped,
        equal_orders,
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// Replays, and asserts that each quake is in a window or late.
async fn replayed(quakes: &[Quake], window: Duration, lateness: u64) -> Result<Outcome> {
    let outcome = replay(quakes, window, hours(lateness)).await?;
    assert_eq!((outcome.on_time() + outcome.late.len() as u64, outcome.dropped), (quakes.len() as u64, 0));
    assert!(outcome.windows.is_sorted_by_key(|window| window.start));
    Ok(outcome)
}

/// From no patience at all to as much as the latest quake needs.
async fn lateness_table(quakes: &[Quake], window: Duration, longest: u64) -> Result<comfy_table::Table> {
    let needed = longest.div_ceil(HOUR_MILLIS);
    let mut rows = Vec::new();
    for lateness in [0, 1, 6, 24, 72].into_iter().filter(|lateness| *lateness < needed).chain([needed]) {
        let Outcome { windows, late, .. } = replayed(quakes, window, lateness).await?;
        rows.push((lateness, windows.len(), late.len()));
    }
    assert!(rows.is_sorted_by(|(.., more), (.., fewer)| more >= fewer));
    assert_eq!(rows.last().map(|(.., late)| *late), Some(0));
    Ok(by_lateness(&rows))
}

/// Asserts that every order within the lateness gives the windows of the right order, and returns how many were tried.
async fn assert_that_order_does_not_matter(
    quakes: &[Quake],
    window: Duration,
    lateness: u64,
    longest: u64,
) -> Result<usize> {
    // As the quakes came, with all the patience that they need; and mixed as much as the lateness allows.
    let needed = longest.div_ceil(HOUR_MILLIS);
    let mixed = (0..3).map(|seed| (shuffled(quakes, lateness.saturating_mul(HOUR_MILLIS), seed), lateness));
    let orders: Vec<_> = std::iter::once((quakes.to_vec(), needed)).chain(mixed).collect();
    let expected = replayed(&in_order(quakes), window, 0).await?.windows;
    for (arrival, lateness) in &orders {
        let outcome = replayed(arrival, window, *lateness).await?;
        assert!(outcome.late.is_empty());
        assert_eq!(outcome.windows, expected, "an order of arrival within {lateness} h");
    }
    Ok(orders.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_feed_of_few_quakes_or_of_none_is_replayed_to_its_end() {
        let all = read(None).unwrap();
        for quakes in [&all[..0], &all[..1], &all[..2]] {
            let replays = async {
                let longest = delays(quakes).into_iter().max().unwrap_or_default();
                lateness_table(quakes, hours(1), longest).await.unwrap();
                assert_that_order_does_not_matter(quakes, hours(1), 0, longest).await.unwrap()
            };
            assert_eq!(tokio::time::timeout(hours(1), replays).await.unwrap(), 5);
        }
    }
}
