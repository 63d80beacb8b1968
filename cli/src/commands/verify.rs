//! `verify`: reads every byte, and then whether what was read means anything.

use std::{path::Path, process::ExitCode};

use millstream::{
    archive::{Archive, LogFilter, Row},
    store::{Redb, Verification},
};
use serde_json::json;

use super::{
    inspect::{counts, events_and_marks},
    state::each_row,
};
use crate::{Verdict, failure::Failure, files, output::Output, words};

/// What was read, and what is wrong with it.
#[derive(Default)]
struct Findings {
    /// None where the file does not even open.
    read: Option<Verification>,
    /// Events and marks, where all of them could be read.
    counted: Option<(u64, u64)>,
    /// How, and what.
    wrong: Vec<(&'static str, String)>,
}

pub(crate) async fn run(file: &Path, out: &mut Output) -> Verdict {
    let mut found = Findings::default();
    if let Err(failure) = found.look(file, out).await {
        found.wrong.push(("damaged", failure.into_damaged()?));
    }
    for (how, what) in &found.wrong {
        out.item(&json!({ *how: what }), |_| format!("{how}: {what}"))?;
    }
    let read = found.read.as_ref();
    let summary = json!({
        "command": "verify", "sound": found.wrong.is_empty(), "faults": found.wrong.len(),
        "chunks": read.map(|read| read.chunks), "records": read.map(|read| read.records), "rows": read.map(|read| read.rows),
        "events": found.counted.map(|(events, _)| events), "marks": found.counted.map(|(_, marks)| marks),
    });
    out.done(&summary, |_| found.summary())?;
    Ok(if found.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Findings {
    async fn look(&mut self, file: &Path, out: &Output) -> Result<(), Failure> {
        let store = files::look_unchecked(file)?;
        let bar = out.bar("verifying");
        let read = store.verify(|progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        });
        bar.finish_and_clear();
        let read = self.read.insert(read?);
        self.wrong.extend(read.damaged.iter().map(|what| ("damaged", what.clone())));
        if self.wrong.is_empty() {
            self.wrong.extend(unreadable(&store, out).await?.into_iter().map(|what| ("unreadable", what)));
            let counts = counts(&store, out).await?;
            let logs = || counts.iter().flat_map(|(_, logs)| logs);
            self.counted = Some((logs().map(|log| log.events).sum(), logs().map(|log| log.marks).sum()));
        }
        drop(store);
        if self.wrong.is_empty() { structure(file, out) } else { Ok(()) }
    }

    fn summary(&self) -> String {
        let faults = words::count(self.wrong.len() as u64, "fault", "faults");
        let Some(Verification { chunks, records, rows, .. }) = &self.read else {
            return format!("the file cannot be opened: {faults}; restore a backup");
        };
        let records = match self.counted {
            Some((events, marks)) => events_and_marks(events, marks),
            None => words::count(*records, "record", "records"),
        };
        let (chunks, rows) = (words::count(*chunks, "chunk", "chunks"), words::count(*rows, "row", "rows"));
        let read = format!("{chunks} with {records} and {rows}");
        if self.wrong.is_empty() {
            format!("{read}: all as it was written")
        } else {
            format!("{read}: {faults}; restore a backup, or `export --damaged` what can still be read")
        }
    }
}

/// Fails where the pages are damaged that hold the file together, and hold no row.
fn structure(file: &Path, out: &Output) -> Result<(), Failure> {
    let spinner = out.spinner("checking the structure");
    let opened = files::look_checked(file);
    spinner.finish_and_clear();
    opened.map(drop)
}

/// What is as it was written and yet means nothing to this version.
async fn unreadable(store: &Redb, out: &Output) -> Result<Vec<String>, Failure> {
    let spinner = out.spinner("reading");
    let mut wrong = Vec::new();
    for table in store.inspector().tables()? {
        each_row(store, &table, |row| {
            if let Err(error) = Row::parse(&table, &row.key, &row.value) {
                wrong.push(Failure::from(error).into_damaged()?);
            }
            Ok(true)
        })?;
    }
    for partition in store.stats()?.partitions {
        events(&files::archive(store, partition.partition.0)?, &mut wrong).await?;
    }
    spinner.finish_and_clear();
    Ok(wrong)
}

async fn events(archive: &Archive, wrong: &mut Vec<String>) -> Result<(), Failure> {
    let mut log = archive.log(LogFilter::all());
    loop {
        let passed = log.passed();
        match log.next().await {
            Ok(None) => return Ok(()),
            Ok(Some(entry)) => {
                let data = entry.event.data().to_json().err();
                wrong.extend(data.map(|error| format!("event {} of the log has no JSON: {error}", entry.place.0)));
            }
            Err(error) => {
                wrong.push(Failure::from(error).into_damaged()?);
                // It could not read a record, or nothing at all.
                if log.passed() == passed {
                    return Ok(());
                }
            }
        }
    }
}
