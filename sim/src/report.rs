//! What is shown: a bar while it works, what is wrong as it is found, and the figures in the last line.

use std::{fmt, time::Instant};

use indicatif::{ProgressBar, ProgressStyle};
use millstream_sim::wait::now;
use serde_json::{Value, json};

/// How many violations are printed.
const SHOWN: usize = 20;

/// Shows how far the work is; the bar is on the standard error, and only on a terminal.
#[derive(Debug)]
pub(crate) struct Report {
    bar: ProgressBar,
    begun: Instant,
    seed: u64,
    as_json: bool,
}

impl Report {
    /// Begins.
    pub(crate) fn new(what: &'static str, length: u64, seed: u64, as_json: bool) -> Self {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}");
        let bar = ProgressBar::new(length).with_message(what);
        Self {
            bar: bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())),
            begun: now(),
            seed,
            as_json,
        }
    }

    /// So much more is done.
    pub(crate) fn seen(&self, count: u64) {
        self.bar.inc(count);
    }

    /// Prints what is wrong, and then the figures. Whether nothing is wrong.
    pub(crate) fn end<W: fmt::Display>(self, mut figures: Value, wrong: impl IntoIterator<Item = W>) -> bool {
        self.bar.finish_and_clear();
        let mut count = 0;
        for (index, what) in wrong.into_iter().enumerate() {
            count = index + 1;
            if index < SHOWN {
                println!("wrong: {what}");
            }
        }
        if count > SHOWN {
            println!("and {} more", count - SHOWN);
        }
        let seconds = seconds(self.begun);
        if let Some(figures) = figures.as_object_mut() {
            figures.extend([("seed".to_owned(), json!(self.seed)), ("seconds".to_owned(), json!(seconds))]);
        }
        if self.as_json {
            println!("{figures}");
        } else {
            for (name, figure) in figures.as_object().into_iter().flatten() {
                println!("{name:>16} {figure}");
            }
        }
        count == 0
    }
}

/// How many seconds have passed, to a hundredth.
pub(crate) fn seconds(begun: Instant) -> f64 {
    (begun.elapsed().as_secs_f64() * 100.0).round() / 100.0
}
