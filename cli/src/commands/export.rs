//! `export`: events as `CloudEvents`, one a line.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::Path,
};

use millstream::archive::{Archive, CloudEvent};
use serde_json::json;

use crate::{args::Export, failure::Failure, files, output::Output, words};

pub(crate) async fn run(args: &Export, partition: u32, out: &mut Output) -> Result<(), Failure> {
    let store = files::look_at(&args.file, args.filter.damaged)?;
    let archive = files::archive(&store, partition)?;
    let is_stdout = args.to == Path::new("-");
    let written = if is_stdout {
        write_all(
            args,
            &archive,
            out,
            &mut Sink { to: BufWriter::new(io::stdout()), path: Path::new("standard output") },
        )
        .await?
    } else {
        to_file(args, &archive, out).await?
    };
    let Written { events, delayed } = written;
    let summary = json!({"command": "export", "events": events, "delayed": delayed});
    let text = |_: &_| {
        let events = words::count(events, "event", "events");
        format!("{events} and {} written", words::count(delayed, "delayed one are", "delayed ones are"))
    };
    if is_stdout { out.aside(&summary, text) } else { out.done(&summary, text) }
}

/// How many events were written.
struct Written {
    events: u64,
    delayed: u64,
}

struct Sink<'a, W> {
    to: W,
    path: &'a Path,
}

impl<W: Write> Sink<'_, W> {
    fn write(&mut self, event: &CloudEvent) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(event)
            .map_err(|error| Failure::new("corrupt", format!("event {}: {error}", event.envelope().id())))?;
        line.push(b'\n');
        self.to.write_all(&line).map_err(|error| Failure::io(self.path, &error))
    }
}

async fn to_file(args: &Export, archive: &Archive, out: &Output) -> Result<Written, Failure> {
    let mut options = OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let file = options.open(&args.to).map_err(|error| {
        let is_there = error.kind() == io::ErrorKind::AlreadyExists;
        let failure = Failure::io(&args.to, &error);
        if is_there { failure.and("`--force` writes over it") } else { failure }
    })?;
    let is_regular = file.metadata().is_ok_and(|found| found.is_file());
    let mut sink = Sink { to: BufWriter::new(file), path: &args.to };
    let written = write_all(args, archive, out, &mut sink).await;
    let written = written.and_then(|written| sync(sink.to, &args.to, is_regular).map(|()| written));
    if written.is_err() && is_regular {
        // The error is what has to be known; half an export would be taken for a whole one.
        let _ = fs::remove_file(&args.to);
    }
    written
}

fn sync(file: BufWriter<File>, path: &Path, is_regular: bool) -> Result<(), Failure> {
    let synced = file.into_inner().map_err(io::IntoInnerError::into_error);
    let synced = synced.and_then(|file| if is_regular { file.sync_all() } else { Ok(()) });
    synced.map_err(|error| Failure::io(path, &error))
}

async fn write_all<W: Write>(
    args: &Export,
    archive: &Archive,
    out: &Output,
    sink: &mut Sink<'_, W>,
) -> Result<Written, Failure> {
    let filter = args.filter.build();
    let spinner = out.spinner("exporting");
    let mut written = Written { events: 0, delayed: 0 };
    let mut log = archive.log(filter.clone());
    while let Some(entry) = log.next().await? {
        sink.write(&CloudEvent::new(entry.event))?;
        written.events += 1;
        spinner.set_position(written.events);
    }
    let mut failure = Ok(());
    archive
        .delayed(|due, event| {
            if failure.is_ok() && filter.selects(&event) {
                failure = sink.write(&CloudEvent::delayed(event, due));
                written.delayed += 1;
            }
        })
        .await?;
    spinner.finish_and_clear();
    failure?;
    sink.to.flush().map_err(|error| Failure::io(sink.path, &error))?;
    Ok(written)
}
