//! `inspect`: what is in a file, in numbers.

use std::path::Path;

use millstream::{
    Priority,
    store::{LogStats, StoreStats},
};
use serde_json::{Value, json};

use crate::{failure::Failure, files, output::Output, times};

pub(crate) fn run(file: &Path, out: &mut Output) -> Result<(), Failure> {
    let stats = files::look(file)?.stats()?;
    out.item(&to_json(file, &stats), |_| to_text(file, &stats))
}

fn to_json(file: &Path, stats: &StoreStats) -> Value {
    let table =
        |table: &millstream::store::TableStats| json!({"name": table.name, "rows": table.rows, "bytes": table.bytes});
    let partition = |partition: &millstream::store::PartitionStats| {
        json!({
            "partition": partition.partition.0,
            "claims": partition.fence,
            "end": partition.end.0,
            "logs": partition.logs.iter().map(log_json).collect::<Vec<_>>(),
        })
    };
    json!({
        "command": "inspect",
        "file": file.display().to_string(),
        "format": stats.format,
        "file_bytes": stats.file_bytes,
        "log_bytes": stats.log_bytes,
        "tables": stats.tables.iter().map(table).collect::<Vec<_>>(),
        "partitions": stats.partitions.iter().map(partition).collect::<Vec<_>>(),
    })
}

fn log_json(log: &LogStats) -> Value {
    json!({
        "class": class(log),
        "first": log.span.map(|(first, _)| first.0),
        "last": log.span.map(|(_, last)| last.0),
        "chunks": log.chunks,
        "trimmed_before": log.trimmed.0,
    })
}

fn class(log: &LogStats) -> &'static str {
    Priority::ALL.get(usize::from(log.class.0)).map_or("unknown", |priority| priority.as_str())
}

fn to_text(file: &Path, stats: &StoreStats) -> String {
    let mut lines = vec![format!(
        "{}: format {}, {}, of which the log's events {}",
        file.display(),
        stats.format,
        times::bytes(stats.file_bytes),
        times::bytes(stats.log_bytes)
    )];
    for partition in &stats.partitions {
        lines.push(format!(
            "partition {}: claimed {} times, the next place is {}",
            partition.partition.0, partition.fence, partition.end.0
        ));
        for log in &partition.logs {
            let span = log.span.map_or_else(
                || "no events".into(),
                |(first, last)| format!("places {} to {} in {} chunks", first.0, last.0, log.chunks),
            );
            lines.push(format!("  {:<8} {span}, trimmed before {}", class(log), log.trimmed.0));
        }
    }
    for table in &stats.tables {
        lines.push(format!("table {:<14} {:>10} rows  {:>12}", table.name, table.rows, times::bytes(table.bytes)));
    }
    lines.join("\n")
}
