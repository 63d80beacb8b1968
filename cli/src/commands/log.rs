//! `log`: the events, in their order.

use millstream::{Envelope, archive::LogEntry};
use serde_json::json;

use crate::{args::Log, failure::Failure, files, output::Output, words};

pub(crate) async fn run(args: &Log, partition: u32, out: &mut Output) -> Result<(), Failure> {
    let store = files::look_at(&args.file, args.filter.damaged)?;
    let archive = files::archive(&store, partition)?;
    let mut log = archive.log(args.filter.build());
    let mut events = 0;
    while events < args.limit
        && let Some(entry) = log.next().await?
    {
        out.item(&entry, line)?;
        events += 1;
    }
    let next = log.passed().0;
    out.done(&json!({"command": "log", "events": events, "next": next}), |_| {
        match words::count(events as u64, "event", "events") {
            none if events == 0 => none,
            one if events == 1 => format!("{one}; `--from {next}` goes on behind it"),
            more => format!("{more}; `--from {next}` goes on behind them"),
        }
    })
}

fn line(entry: &LogEntry) -> String {
    format!("{:>8}  {}", entry.place.0, event(&entry.event))
}

/// An event in one line.
pub(super) fn event(event: &Envelope) -> String {
    let mut line = format!("{}  {:<8} {}  {}", words::time(event.time()), event.priority(), event.id(), event.name());
    for (name, value) in
        [("key", event.key().map(millstream::Key::as_str)), ("tenant", event.tenant().map(millstream::Tenant::as_str))]
    {
        line.extend(value.map(|value| format!("  {name}={value}")));
    }
    let data = event.data().to_json().map_or_else(|error| format!("(no JSON: {error})"), |data| data.to_string());
    format!("{line}  {data}")
}
