//! What came of it, for people and for programs.

use std::{collections::BTreeMap, fmt::Write as _};

use comfy_table::{Cell, CellAlignment, Table, presets};
use millstream::{DeadLetter, ShutdownReport, Stats, SubscriptionDescription};
use serde::Serialize;

use crate::handlers::Summary;

/// The figures; serialised, they are the last line of `--json`.
#[derive(Serialize)]
pub(crate) struct Report {
    received: usize,
    emitted: u64,
    handled: u64,
    invalid: usize,
    retried: u64,
    dead_letters: usize,
    pub(crate) replayed: usize,
    dropped: u64,
    by_type: BTreeMap<String, usize>,
    #[serde(skip)]
    letters: Vec<DeadLetter>,
    #[serde(skip)]
    subscriptions: Vec<SubscriptionDescription>,
    #[serde(skip)]
    left: usize,
}

impl Report {
    pub(crate) fn new(received: usize) -> Self {
        Self {
            received,
            emitted: 0,
            handled: 0,
            invalid: 0,
            retried: 0,
            dead_letters: 0,
            replayed: 0,
            dropped: 0,
            by_type: BTreeMap::new(),
            letters: Vec::new(),
            subscriptions: Vec::new(),
            left: 0,
        }
    }

    pub(crate) fn count(&mut self, webhook: &str, payloads: usize) {
        *self.by_type.entry(webhook.to_owned()).or_default() += payloads;
    }

    /// The dead letters before the replay.
    pub(crate) fn keep_dead_letters(&mut self, letters: Vec<DeadLetter>) {
        let is_invalid = |letter: &&DeadLetter| letter.subscription.as_deref() == Some("validate");
        self.invalid = letters.iter().filter(is_invalid).count();
        self.dead_letters = letters.len();
        self.letters = letters;
    }

    pub(crate) fn keep_subscriptions(&mut self, subscriptions: Vec<SubscriptionDescription>) {
        self.subscriptions = subscriptions;
    }

    pub(crate) fn finish(&mut self, stats: &Stats, left: &ShutdownReport) {
        self.emitted = stats.events.emitted;
        self.handled = stats.deliveries.handled;
        self.retried = stats.deliveries.retried;
        self.dropped = stats.events.dropped.total() + stats.deliveries.dropped;
        self.left = left.parked.len() + left.abandoned.len();
    }

    pub(crate) fn readable(&self, summary: &Summary) -> String {
        let mut text = String::new();
        let Self { received, emitted, handled, invalid, retried, dead_letters, replayed, dropped, left, .. } = self;
        let types = self.by_type.len();
        let lines = [
            format!(
                "{received} payloads of {types} types: {emitted} events, {handled} deliveries handled, {retried} retries"
            ),
            format!("{invalid} payloads broke their schema; {dead_letters} dead letters, {replayed} of them replayed"),
            format!("{dropped} dropped, {left} left over\n"),
        ];
        text.push_str(&lines.join("\n"));
        _ = writeln!(text, "{}\n\n{}", self.table_of_subscriptions(summary), self.table_of_letters());
        text
    }

    fn table_of_subscriptions(&self, summary: &Summary) -> Table {
        let mut table = plain_table(&["subscription", "deliveries", "handled", "died", "retries"]);
        let right = |count| Cell::new(count).set_alignment(CellAlignment::Right);
        for SubscriptionDescription { name, book, .. } in &self.subscriptions {
            let row = [book.created, book.handled, book.dead, book.retried].map(right);
            table.add_row([Cell::new(name)].into_iter().chain(row));
        }
        for (handler, count) in summary.by_handler() {
            table.add_row([Cell::new(format!("the summary has of {handler}")), right(count)]);
        }
        table
    }

    fn table_of_letters(&self) -> Table {
        let mut table = plain_table(&["dead letter", "subscription", "reason"]);
        for letter in self.letters.iter().take(20) {
            let subscription = letter.subscription.clone().unwrap_or_default();
            table.add_row([letter.event.name().to_string(), subscription, shortened(&letter.reason())]);
        }
        if let Some(more) = self.letters.len().checked_sub(20).filter(|more| *more > 0) {
            table.add_row([format!("and {more} more"), String::new(), String::new()]);
        }
        table
    }
}

fn plain_table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}

fn shortened(reason: &str) -> String {
    let short: String = reason.chars().take(90).collect();
    if short.len() < reason.len() { format!("{short}…") } else { short }
}
