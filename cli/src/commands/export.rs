//! `export`: events as `CloudEvents`, one a line.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::Path,
};

use indicatif::ProgressBar;
use millstream::archive::{Archive, CloudEvent, LogFilter};
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
    let Written { events, trimmed, delayed } = written;
    let summary = json!({"command": "export", "events": events, "trimmed": trimmed, "delayed": delayed});
    let text = |_: &_| {
        let (events, delayed) =
            (words::count(events, "event", "events"), words::count(delayed, "delayed one are", "delayed ones are"));
        let beside = match trimmed {
            0 => String::new(),
            trimmed => format!("; {} of an aggregate and not in the log any more", words::count(trimmed, "is", "are")),
        };
        format!("{events} and {delayed} written{beside}")
    };
    if is_stdout { out.aside(&summary, text) } else { out.done(&summary, text) }
}

/// How many events were written.
#[derive(Default)]
struct Written {
    events: u64,
    /// Those of them that the log has no more.
    trimmed: u64,
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

/// Whether two names are of one file that is there.
fn is_same(one: &Path, other: &Path) -> bool {
    let [one, other] = [one, other].map(|path| path.canonicalize().ok());
    one.is_some() && one == other
}

async fn to_file(args: &Export, archive: &Archive, out: &Output) -> Result<Written, Failure> {
    if is_same(&args.file, &args.to) {
        let message = format!("{} is the file itself: name another one to export to", args.to.display());
        return Err(Failure::new("exists", message));
    }
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
    let is_part = args.filter.damaged && written.as_ref().is_err_and(Failure::is_damage);
    if written.is_err() && is_regular && !is_part {
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
    let (filter, spinner) = (args.filter.build(), out.spinner("exporting"));
    let mut damage = None;
    // Whoever asks for what is left of a damaged file gets what is left of each part, and is told of the first damage in the end.
    let mut part = |read: Result<(), Failure>| match read {
        Err(failure) if args.filter.damaged && failure.is_damage() => {
            damage.get_or_insert(failure);
            Ok(())
        }
        read => read,
    };
    let mut written = Written::default();
    // What the log has no more is older than what it has.
    part(write_trimmed(archive, &filter, sink, &mut written.trimmed).await)?;
    written.events = written.trimmed;
    part(write_log(archive, &filter, sink, &mut written.events, &spinner).await)?;
    part(write_delayed(archive, &filter, sink, &mut written.delayed).await)?;
    spinner.finish_and_clear();
    sink.to.flush().map_err(|error| Failure::io(sink.path, &error))?;
    match damage {
        None => Ok(written),
        Some(failure) => {
            let count = words::count(
                written.events + written.delayed,
                "event that can be read is",
                "events that can be read are",
            );
            Err(failure.and(format!("{count} in {}", sink.path.display())))
        }
    }
}

async fn write_trimmed<W: Write>(
    archive: &Archive,
    filter: &LogFilter,
    sink: &mut Sink<'_, W>,
    count: &mut u64,
) -> Result<(), Failure> {
    let mut sunk = Ok(());
    let read = archive.trimmed(filter, |event| {
        sunk = sink.write(&CloudEvent::new(event));
        *count += u64::from(sunk.is_ok());
        sunk.is_ok()
    });
    read.await?;
    sunk
}

async fn write_log<W: Write>(
    archive: &Archive,
    filter: &LogFilter,
    sink: &mut Sink<'_, W>,
    count: &mut u64,
    spinner: &ProgressBar,
) -> Result<(), Failure> {
    let mut log = archive.log(filter.clone());
    while let Some(entry) = log.next().await? {
        sink.write(&CloudEvent::new(entry.event))?;
        *count += 1;
        spinner.set_position(*count);
    }
    Ok(())
}

async fn write_delayed<W: Write>(
    archive: &Archive,
    filter: &LogFilter,
    sink: &mut Sink<'_, W>,
    count: &mut u64,
) -> Result<(), Failure> {
    let mut sunk = Ok(());
    let read = archive.delayed(|due, event| {
        if sunk.is_ok() && filter.selects(&event) {
            sunk = sink.write(&CloudEvent::delayed(event, due));
            *count += u64::from(sunk.is_ok());
        }
    });
    read.await?;
    sunk
}
