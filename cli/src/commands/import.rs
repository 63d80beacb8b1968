//! `import`: `CloudEvents`, one a line, become events of the log.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use indicatif::ProgressBar;
use millstream::archive::{CloudEvent, Import as Importing, ImportReport};
use serde_json::json;

use crate::{args::Import, failure::Failure, files, output::Output, words};

pub(crate) async fn run(args: &Import, partition: u32, out: &mut Output) -> Result<(), Failure> {
    // Before the file is made: a wrong name must not leave an empty one.
    let (mut source, bytes) = open(&args.from)?;
    let store = files::change_or_make(&args.file)?;
    let archive = files::archive_or_new(&store, partition);
    let bar = out.bar("importing");
    bar.set_length(bytes);
    let mut import = archive.import().await?;
    let read = read_all(&mut *source, &args.from, &mut import, &bar).await;
    bar.finish_and_clear();
    let so_far = import.report();
    let report = match read {
        Ok(()) => import.finish().await.map_err(|error| stopped(error.into(), so_far))?,
        Err(failure) => return Err(stopped(failure, import.finish().await.unwrap_or(so_far))),
    };
    let ImportReport { imported, delayed, duplicates, .. } = report;
    let summary = json!({"command": "import", "imported": imported, "delayed": delayed, "duplicates": duplicates});
    out.done(&summary, |_| {
        format!(
            "{} and {} in; {} there already",
            words::count(imported, "event", "events"),
            words::count(delayed, "delayed one are", "delayed ones are"),
            words::count(duplicates, "was", "were")
        )
    })
}

/// What is in the file stays there, and is passed over the next time.
fn stopped(failure: Failure, so_far: ImportReport) -> Failure {
    let taken = so_far.imported + so_far.delayed;
    let taken = words::count(taken, "event before it is", "events before it are");
    failure.and(format!("{taken} in the file; import again once that is mended"))
}

fn open(path: &Path) -> Result<(Box<dyn BufRead>, u64), Failure> {
    if path == Path::new("-") {
        return Ok((Box::new(BufReader::new(io::stdin())), 0));
    }
    let file = File::open(path).map_err(|error| Failure::io(path, &error))?;
    let bytes = file.metadata().map_or(0, |found| found.len());
    Ok((Box::new(BufReader::new(file)), bytes))
}

async fn read_all(
    source: &mut dyn BufRead,
    path: &Path,
    import: &mut Importing<'_>,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let name = if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = source.read_until(b'\n', &mut line).map_err(|error| Failure::io(path, &error))?;
        if read == 0 {
            break;
        }
        bar.inc(read as u64);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let at = || format!("line {number} of {name}");
        let event =
            CloudEvent::parse(&line).map_err(|error| Failure::new("bad_input", error.to_string()).about(at()))?;
        import.add(event).await.map_err(|error| Failure::from(error).about(at()))?;
    }
    Ok(())
}
