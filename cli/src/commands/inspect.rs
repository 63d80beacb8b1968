//! `inspect`: what is in a file, in numbers.

use std::path::Path;

use millstream::{
    Priority,
    archive::LogCount,
    store::{LogStats, PartitionStats, Redb, StoreStats, TableStats},
};
use serde_json::{Value, json};

use crate::{failure::Failure, files, output::Output, words};

pub(crate) async fn run(file: &Path, out: &mut Output) -> Result<(), Failure> {
    let store = files::look(file)?;
    let found = Found { file, stats: store.stats()?, counts: counts(&store, out).await };
    out.item(&found.to_json(), |_| found.to_text())
}

/// What is in the logs, by partition.
pub(super) type Counts = Vec<(u32, Vec<LogCount>)>;

/// Reads all logs, and counts what is in them.
pub(super) async fn counts(store: &Redb, out: &Output) -> Result<Counts, Failure> {
    let spinner = out.spinner("counting");
    let mut counts = Vec::new();
    for partition in store.stats()?.partitions {
        let number = partition.partition.0;
        counts.push((number, files::archive(store, number)?.count().await?));
    }
    spinner.finish_and_clear();
    Ok(counts)
}

/// How many events and how many marks.
pub(super) fn events_and_marks(events: u64, marks: u64) -> String {
    let events = words::count(events, "event", "events");
    if marks == 0 { events } else { format!("{events}, {}", words::count(marks, "mark", "marks")) }
}

struct Found<'a> {
    file: &'a Path,
    stats: StoreStats,
    /// A damaged log cannot be counted, and all else can be told.
    counts: Result<Counts, Failure>,
}

impl Found<'_> {
    fn count(&self, partition: u32, class: Option<Priority>) -> Option<LogCount> {
        let counts = self.counts.as_ref().ok()?;
        let (_, logs) = counts.iter().find(|(number, _)| *number == partition)?;
        logs.iter().find(|log| Some(log.class) == class).copied()
    }

    fn to_json(&self) -> Value {
        let table = |table: &TableStats| json!({"name": table.name, "rows": table.rows, "bytes": table.bytes});
        let partition = |partition: &PartitionStats| {
            json!({
                "partition": partition.partition.0,
                "claims": partition.fence,
                "end": partition.end.0,
                "logs": partition.logs.iter().map(|log| self.log_json(partition.partition.0, log)).collect::<Vec<_>>(),
            })
        };
        json!({
            "command": "inspect",
            "file": self.file.display().to_string(),
            "format": self.stats.format,
            "file_bytes": self.stats.file_bytes,
            "log_bytes": self.stats.log_bytes,
            "tables": self.stats.tables.iter().map(table).collect::<Vec<_>>(),
            "partitions": self.stats.partitions.iter().map(partition).collect::<Vec<_>>(),
        })
    }

    fn log_json(&self, partition: u32, log: &LogStats) -> Value {
        let count = self.count(partition, class(log));
        json!({
            "class": class_name(log),
            "first": log.span.map(|(first, _)| first.0),
            "last": log.span.map(|(_, last)| last.0),
            "chunks": log.chunks,
            "trimmed_before": log.trimmed.0,
            "events": count.map(|count| count.events),
            "marks": count.map(|count| count.marks),
        })
    }

    fn to_text(&self) -> String {
        let StoreStats { format, file_bytes, log_bytes, .. } = self.stats;
        let (file, all, log) = (self.file.display(), words::bytes(file_bytes), words::bytes(log_bytes));
        let mut lines = vec![format!("{file}: format {format}, {all}, of which the log's events {log}")];
        for partition in &self.stats.partitions {
            let (number, end) = (partition.partition.0, partition.end.0);
            let claimed = words::count(partition.fence, "time", "times");
            lines.push(format!("partition {number}: claimed {claimed}, the next place is {end}"));
            lines.extend(partition.logs.iter().map(|log| self.log_line(number, log)));
        }
        for TableStats { name, rows, bytes, .. } in &self.stats.tables {
            let (rows, bytes) = (words::count(*rows, "row", "rows"), words::bytes(*bytes));
            lines.push(format!("table {name:<14} {rows:>14}  {bytes:>12}"));
        }
        if let Err(failure) = &self.counts {
            lines.push(format!("the events cannot be counted: {failure}"));
        }
        lines.join("\n")
    }

    fn log_line(&self, partition: u32, log: &LogStats) -> String {
        let count = self.count(partition, class(log));
        let count = count.map(|count| format!("{}, ", events_and_marks(count.events, count.marks))).unwrap_or_default();
        let span = log.span.map_or_else(
            || "no places".into(),
            |(first, last)| {
                let chunks = words::count(log.chunks, "chunk", "chunks");
                format!("{count}places {} to {} in {chunks}", first.0, last.0)
            },
        );
        format!("  {:<8} {span}, trimmed before {}", class_name(log), log.trimmed.0)
    }
}

fn class(log: &LogStats) -> Option<Priority> {
    Priority::ALL.get(usize::from(log.class.0)).copied()
}

fn class_name(log: &LogStats) -> &'static str {
    class(log).map_or("unknown", Priority::as_str)
}
