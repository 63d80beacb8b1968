//! `backup` and `compact`: the whole file, elsewhere or smaller.

use std::path::Path;

use serde_json::json;

use crate::{failure::Failure, files, output::Output, words};

pub(crate) fn backup(file: &Path, to: &Path, out: &mut Output) -> Result<(), Failure> {
    let store = files::look(file)?;
    if to.exists() {
        let message = format!("{} is there already: a backup is never written over another file", to.display());
        return Err(Failure::new("exists", message));
    }
    let bar = out.bar("copying");
    let copied = store.backup(to, |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    copied?;
    let bytes = length(to)?;
    out.done(&json!({"command": "backup", "to": to.display().to_string(), "bytes": bytes}), |_| {
        format!("{} has {}", to.display(), words::bytes(bytes))
    })
}

pub(crate) async fn compact(file: &Path, out: &mut Output) -> Result<(), Failure> {
    let before = length(file)?;
    let store = files::change(file)?;
    let spinner = out.spinner("compacting");
    let compacted = store.compact().await;
    spinner.finish_and_clear();
    compacted?;
    // Closing the file writes to it once more.
    drop(store);
    let after = length(file)?;
    out.done(&json!({"command": "compact", "before": before, "after": after}), |_| {
        format!("{} became {}", words::bytes(before), words::bytes(after))
    })
}

fn length(file: &Path) -> Result<u64, Failure> {
    Ok(file.metadata().map_err(|error| Failure::io(file, &error))?.len())
}
