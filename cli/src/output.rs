//! What is said: lines for people, or one JSON object a line for programs.

use std::{
    io::{self, BufWriter, Stdout, Write as _},
    path::Path,
};

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;

/// Standard output, and the bars on standard error.
pub(crate) struct Output {
    stdout: BufWriter<Stdout>,
    is_json: bool,
    is_quiet: bool,
}

impl Output {
    pub(crate) fn new(is_json: bool, is_quiet: bool) -> Self {
        Self { stdout: BufWriter::new(io::stdout()), is_json, is_quiet }
    }

    /// One thing: an object with `--json`, else what `text` says of it.
    pub(crate) fn item<T: Serialize>(&mut self, item: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let line = if self.is_json { to_json(item)? } else { text(item) };
        self.line(&line)
    }

    /// The last line.
    pub(crate) fn done<T: Serialize>(&mut self, summary: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        if self.is_quiet && !self.is_json { Ok(()) } else { self.item(summary, text) }
    }

    /// The same on standard error, where standard output is the events themselves.
    pub(crate) fn aside<T: Serialize>(&self, summary: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        if self.is_quiet && !self.is_json {
            return Ok(());
        }
        let line = if self.is_json { to_json(summary)? } else { text(summary) };
        writeln!(io::stderr(), "{line}").map_err(|error| failed(&error))
    }

    /// A line as it is.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.stdout, "{line}").map_err(|error| failed(&error))
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(|error| failed(&error))
    }

    /// A failure, for programs.
    pub(crate) fn fail(&mut self, failure: &Failure) -> Result<(), Failure> {
        if self.is_json {
            self.line(&json!({ "error": failure }).to_string())?;
        }
        self.flush()
    }

    /// A bar for long work; none where nobody looks.
    pub(crate) fn bar(&self, what: &'static str) -> ProgressBar {
        if self.is_json || self.is_quiet {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}");
        let bar = ProgressBar::new(0).with_message(what).with_finish(ProgressFinish::AndClear);
        style.map_or(bar.clone(), |style| bar.with_style(style))
    }

    /// A sign of life for work whose length nobody knows.
    pub(crate) fn spinner(&self, what: &'static str) -> ProgressBar {
        if self.is_json || self.is_quiet {
            return ProgressBar::hidden();
        }
        let spinner = ProgressBar::new_spinner().with_message(what).with_finish(ProgressFinish::AndClear);
        spinner.enable_steady_tick(std::time::Duration::from_millis(120));
        spinner
    }
}

fn to_json(item: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(item).map_err(|error| Failure::new("corrupt", format!("data that is no JSON: {error}")))
}

fn failed(error: &io::Error) -> Failure {
    Failure::io(Path::new("standard output"), error)
}
