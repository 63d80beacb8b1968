//! `backup` and `compact`: the whole file, elsewhere or smaller.

use std::path::Path;

use serde_json::json;

use crate::{failure::Failure, files, output::Output, times};

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
    let bytes = to.metadata().map_err(|error| Failure::io(to, &error))?.len();
    out.done(&json!({"command": "backup", "to": to.display().to_string(), "bytes": bytes}), |_| {
        format!("{} has {}", to.display(), times::bytes(bytes))
    })
}

pub(crate) async fn compact(file: &Path, out: &mut Output) -> Result<(), Failure> {
    let store = files::change(file)?;
    let spinner = out.spinner("compacting");
    let compacted = store.compact().await;
    spinner.finish_and_clear();
    let compacted = compacted?;
    out.done(&json!({"command": "compact", "before": compacted.before, "after": compacted.after}), |_| {
        format!("{} became {}", times::bytes(compacted.before), times::bytes(compacted.after))
    })
}
