//! `verify`: reads every byte, and then whether what was read means anything.

use std::{path::Path, process::ExitCode};

use millstream::{
    archive::{Archive, LogFilter, Row},
    store::Redb,
};
use serde_json::json;

use super::state::each_row;
use crate::{Verdict, failure::Failure, files, output::Output};

pub(crate) async fn run(file: &Path, out: &mut Output) -> Verdict {
    let store = files::look_unchecked(file)?;
    let bar = out.bar("verifying");
    let found = store.verify(|progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    let found = found?;
    let mut wrong: Vec<(&str, String)> = found.damaged.iter().map(|what| ("damaged", what.clone())).collect();
    if wrong.is_empty() {
        wrong = unreadable(&store, out).await?.into_iter().map(|what| ("unreadable", what)).collect();
    }
    drop(store);
    if wrong.is_empty() {
        wrong.extend(structure(file, out)?.map(|what| ("damaged", what)));
    }
    for (how, what) in &wrong {
        out.item(&json!({ *how: what }), |_| format!("{how}: {what}"))?;
    }
    let (is_sound, faults) = (wrong.is_empty(), wrong.len());
    let summary = json!({
        "command": "verify", "sound": is_sound, "faults": faults,
        "chunks": found.chunks, "records": found.records, "rows": found.rows,
    });
    out.done(&summary, |_| {
        let read = format!("{} chunks with {} events and {} rows", found.chunks, found.records, found.rows);
        if is_sound {
            format!("{read}: all as it was written")
        } else {
            format!("{read}: {faults} faults; restore a backup, or `export` what can still be read")
        }
    })?;
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong with the pages that hold the file together, and hold no row.
fn structure(file: &Path, out: &Output) -> Result<Option<String>, Failure> {
    let spinner = out.spinner("checking the structure");
    let opened = files::look_checked(file);
    spinner.finish_and_clear();
    match opened {
        Ok(_) => Ok(None),
        Err(failure) if failure.is_damage() => Ok(Some(failure.to_string())),
        Err(failure) => Err(failure),
    }
}

/// What is as it was written and yet means nothing to this version.
async fn unreadable(store: &Redb, out: &Output) -> Result<Vec<String>, Failure> {
    let spinner = out.spinner("reading");
    let mut wrong = Vec::new();
    for table in store.inspector().tables()? {
        each_row(store, &table, |row| {
            wrong.extend(Row::parse(&table, &row.key, &row.value).err().map(|error| error.to_string()));
            Ok(true)
        })?;
    }
    for partition in store.stats()?.partitions {
        let archive = files::archive(store, partition.partition.0);
        events(&archive, &mut wrong).await;
    }
    spinner.finish_and_clear();
    Ok(wrong)
}

async fn events(archive: &Archive, wrong: &mut Vec<String>) {
    let mut log = archive.log(LogFilter::all());
    loop {
        let passed = log.passed();
        match log.next().await {
            Ok(None) => return,
            Ok(Some(entry)) => {
                let data = entry.event.data().to_json().err();
                wrong.extend(data.map(|error| format!("event {} of the log has no JSON: {error}", entry.place.0)));
            }
            Err(error) => {
                wrong.push(error.to_string());
                // It could not read a record, or nothing at all.
                if log.passed() == passed {
                    return;
                }
            }
        }
    }
}
