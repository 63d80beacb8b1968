//! What is printed.

use comfy_table::{Cell, CellAlignment, Table, presets};
use millstream::{Timestamp, operators::buffer::Windowed};
use serde::Serialize;

use crate::replay::Summary;

/// The figures; serialised, they are the last line of `--json`.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) quakes: usize,
    /// Behind the newest that came before them.
    pub(crate) out_of_order: usize,
    pub(crate) longest_delay_hours: f64,
    pub(crate) lateness_hours: u64,
    pub(crate) window_hours: u64,
    pub(crate) windows: usize,
    pub(crate) on_time: u64,
    pub(crate) late: usize,
    pub(crate) dropped: u64,
    /// How many orders of arrival gave the same windows.
    pub(crate) equal_orders: usize,
}

/// How many quakes are late, by how long the watermark waits for them.
pub(crate) fn by_lateness(rows: &[(u64, usize, usize)]) -> Table {
    let mut table = plain_table(&["waits for", "windows", "late"]);
    for (hours, windows, late) in rows {
        table.add_row([right(format!("{hours} h")), right(windows), right(late)]);
    }
    table
}

pub(crate) fn by_window(windows: &[Windowed<Summary>]) -> Table {
    /// Beyond them it is no longer read.
    const ROWS: usize = 24;
    let mut table = plain_table(&["from (UTC)", "quakes", "longest quiet", "strongest", "place"]);
    for Windowed { start, item, .. } in windows.iter().take(ROWS) {
        let minutes = item.quiet_seconds / 60;
        let figures = [item.quakes.to_string(), format!("{minutes} min"), format!("{:.1}", item.magnitude)];
        let cells = std::iter::once(Cell::new(date(*start))).chain(figures.map(right));
        table.add_row(cells.chain([Cell::new(&item.place)]));
    }
    if let Some(more) = windows.len().checked_sub(ROWS).filter(|more| *more > 0) {
        table.add_row([format!("and {more} more")]);
    }
    table
}

fn date(at: Timestamp) -> String {
    let date = jiff::Timestamp::from_second(at.as_secs().cast_signed());
    date.map_or_else(|_| format!("{at:?}"), |date| date.strftime("%Y-%m-%d %H:%M").to_string())
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn plain_table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}
