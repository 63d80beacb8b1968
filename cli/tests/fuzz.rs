//! Whatever the command line says and whatever is in the file: no panic, no hang, the exit codes of the documentation, and with
//! `--json` nothing but JSON. `MILLSTREAM_CASES=N` and `MILLSTREAM_SEED=S` make a longer or another run.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod support;

use std::{
    ffi::OsString,
    fs,
    io::Write as _,
    ops::Range,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use fastrand::Rng;
use serde_json::Value;
use support::{Folder, fill, millstream};

/// Far more than any of these takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Runs the binary in a folder, with something on its standard input, and waits only so long.
fn run(folder: &Path, args: &[OsString], input: &[u8]) -> Output {
    finish(Command::new(env!("CARGO_BIN_EXE_millstream")), folder, args, input)
}

/// The same, as somebody who may read what is in the folder and write nothing.
#[cfg(unix)]
fn run_as_reader(folder: &Path, args: &[OsString], input: &[u8]) -> Output {
    use std::os::unix::{fs::MetadataExt as _, fs::PermissionsExt as _, process::CommandExt as _};
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    if fs::metadata(folder).unwrap().uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    let allow = |file: u32, all: u32| {
        fs::set_permissions(folder.join("good.redb"), fs::Permissions::from_mode(file)).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(all)).unwrap();
    };
    allow(0o444, 0o555);
    let output = finish(command, folder, args, input);
    allow(0o644, 0o755);
    output
}

#[cfg(not(unix))]
use run as run_as_reader;

fn finish(mut command: Command, folder: &Path, args: &[OsString], input: &[u8]) -> Output {
    command.args(args).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (id, mut stdin, input) = (child.id(), child.stdin.take().unwrap(), input.to_vec());
    thread::spawn(move || drop(stdin.write_all(&input)));
    let (tell, told) = mpsc::sync_channel(1);
    thread::spawn(move || tell.send(child.wait_with_output().unwrap()));
    told.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        panic!("{args:?} hangs")
    })
}

/// What must hold whatever was asked for. Says with which code it ended.
fn check(args: &[OsString], output: &Output) -> i32 {
    let said = || {
        let [out, error] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        let tail: String = out.chars().rev().take(400).collect::<Vec<_>>().into_iter().rev().collect();
        format!("{args:?}: {:?}\n{tail}\n{error}", output.status)
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap_or_else(|| panic!("killed: {}", said()));
    assert!(!stderr.contains("panicked") && !stderr.contains("mistake in millstream"), "{}", said());
    let is_help = code == 0 && String::from_utf8_lossy(&output.stdout).contains("Usage: millstream");
    let is_version = code == 0 && output.stdout.starts_with(b"millstream ");
    let is_json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    let lines: Vec<Value> = if is_json && !is_help && !is_version {
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}: {}", said()))).collect()
    } else {
        Vec::new()
    };
    let kind = lines.last().and_then(|last| last["error"]["kind"].as_str());
    match code {
        0 => assert!(kind.is_none() && !stderr.contains("error: "), "{}", said()),
        1 => {
            let out = String::from_utf8_lossy(&output.stdout);
            let has_found = out.contains("damaged") || out.contains("unreadable");
            assert!(stderr.starts_with("error: ") || has_found, "{}", said());
            if is_json && !has_found {
                assert!(kind.is_some_and(|kind| KINDS.contains(&kind)), "{}", said());
            }
        }
        2 => {
            assert!(!stderr.is_empty() && (!is_json || kind == Some("usage")), "{}", said());
        }
        _ => panic!("no such code: {}", said()),
    }
    code
}

const KINDS: [&str; 13] = [
    "missing",
    "exists",
    "not_ours",
    "newer",
    "in_use",
    "read_only",
    "not_permitted",
    "corrupt",
    "full",
    "bad_input",
    "refused",
    "usage",
    "io",
];

/// Does something for each of these numbers, on as many threads as there are processors.
fn each(cases: Range<u64>, work: impl Fn(u64) + Sync) {
    let (next, end) = (Mutex::new(cases.start), cases.end);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let case = {
                        let mut next = next.lock().unwrap();
                        *next += 1;
                        *next - 1
                    };
                    if case >= end {
                        return;
                    }
                    work(case);
                }
            });
        }
    });
}

/// What each command takes behind its file, and its options.
type Shape = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

const EVENTS: &[&str] =
    &["--class", "--event", "--since", "--until", "--key", "--tenant", "--from", "--limit", "--damaged", "--partition"];
const LETTERS: &[&str] = &["--subscription", "--event", "--id", "--key", "--tenant", "--death", "--all", "--damaged"];
const COMMANDS: &[Shape] = &[
    (&["inspect"], &[], &["--quiet"]),
    (&["log"], &[], EVENTS),
    (&["state"], &["dead", "storage", "subscription", "no_such_table"], &["--prefix", "--limit", "--partition"]),
    (&["state"], &[], &["--stage", "--limit"]),
    (&["dlq", "list"], &[], LETTERS),
    (&["dlq", "show"], &["1", "2", "9", "-1", "one"], &["--partition"]),
    (&["dlq", "replay"], &["1", "2", "9"], &["--limit", "--rate", "--damaged"]),
    (&["dlq", "replay"], &[], LETTERS),
    (&["dlq", "purge"], &["1", "2", "9"], LETTERS),
    (&["dlq", "purge"], &[], LETTERS),
    (&["verify"], &[], &["-q"]),
    (&["export"], &["out", "-", "good.redb", "folder", "no/such/file"], &["--force", "--quiet"]),
    (&["export"], &[], EVENTS),
    (&["import"], &["-", "notes.txt", "good.redb", "folder", "missing"], &["--partition"]),
    (&["backup"], &["copy.redb", "good.redb", "folder", "no/such/file", ""], &["--quiet"]),
    (&["compact"], &[], &["--quiet"]),
    (&["help"], &["log", "dlq", "nothing"], &[]),
];

/// Files of all kinds, and names of none.
const PATHS: &[&str] = &[
    "good.redb",
    "cut.redb",
    "notes.txt",
    "empty",
    "folder",
    "pipe",
    "missing",
    "no/such/file",
    "-",
    ".",
    "",
    "größe ☃",
];

const FLAGS: &[&str] =
    &["--quiet", "-q", "--all", "--damaged", "--force", "--help", "--version", "--", "--no-such-flag", "-x"];

const OPTIONS: &[&str] = &[
    "--partition",
    "--class",
    "--event",
    "--since",
    "--until",
    "--key",
    "--tenant",
    "--from",
    "--limit",
    "--stage",
    "--prefix",
    "--subscription",
    "--id",
    "--death",
    "--rate",
];

const VALUES: &[&str] = &[
    "0",
    "1",
    "2",
    "9",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "1e9",
    "critical",
    "CRITICAL",
    "order.*",
    "order.>",
    ">",
    "*",
    "a..b",
    ".",
    "",
    "2026-01-31",
    "2026-01-31T12:00:00Z",
    "2026-02-31",
    "1969-12-31",
    "9999-12-31T23:59:59Z",
    "bank",
    "k0",
    "acme",
    "permanent",
    "eternal",
    "01KG9C3V5S0000G40R40M30E20",
    "dead",
    "storage",
    "subscription",
    "stage.state",
    "\u{202e}\u{1f980}\t\n\"'\\",
];

fn pick<'a>(random: &mut Rng, words: &[&'a str]) -> &'a str {
    words[random.usize(..words.len())]
}

/// A command line: mostly one that may mean something, with values that fit their options or do not; sometimes words in any
/// order.
fn command_line(random: &mut Rng) -> Vec<OsString> {
    let (command, more, options) = COMMANDS[random.usize(..COMMANDS.len())];
    let mut args: Vec<OsString> = command.iter().map(OsString::from).collect();
    args.push(if random.bool() { "good.redb" } else { pick(random, PATHS) }.into());
    if !more.is_empty() {
        args.push(pick(random, more).into());
    }
    for _ in 0..random.usize(..3) {
        match random.u8(..8) {
            0 => args.push(pick(random, FLAGS).into()),
            1 => args.extend([pick(random, OPTIONS).into(), pick(random, VALUES).into()]),
            2 => args.push(odd(random)),
            _ if options.is_empty() => {}
            _ => {
                let option = pick(random, options);
                args.push(option.into());
                args.extend(fitting(option).map(|fitting| {
                    if random.u8(..3) == 0 { pick(random, VALUES) } else { pick(random, fitting) }.into()
                }));
            }
        }
    }
    if random.bool() {
        args.insert(random.usize(..=args.len()), "--json".into());
    }
    if random.u8(..16) == 0 {
        random.shuffle(&mut args);
    }
    args
}

/// Values that an option takes; none where it takes none.
fn fitting(option: &str) -> Option<&'static [&'static str]> {
    Some(match option {
        "--class" => &["critical", "normal"],
        "--event" => &["order.*", "order.>", ">"],
        "--since" | "--until" => &["2026-01-31", "2026-01-31T12:00:00Z"],
        "--subscription" | "--stage" => &["bank", "nobody"],
        "--key" | "--prefix" => &["k0", ""],
        "--tenant" => &["acme"],
        "--id" => &["01KG9C3V5S0000G40R40M30E20"],
        "--death" => &["permanent", "loop"],
        "--partition" => &["0", "1"],
        "--from" | "--limit" | "--rate" => &["1", "2", "18446744073709551615"],
        _ => return None,
    })
}

/// A word that is no text, or a very long one.
fn odd(random: &mut Rng) -> OsString {
    #[cfg(unix)]
    if random.bool() {
        use std::os::unix::ffi::OsStringExt as _;
        return OsString::from_vec(vec![b'a', 0xff, 0xfe]);
    }
    "long".repeat(random.usize(1..5_000)).into()
}

/// What an import reads: lines that are events, and lines that are none.
fn input(random: &mut Rng) -> Vec<u8> {
    let mut input = Vec::new();
    for id in 0..random.u32(..4) {
        let event = format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"a.b","subject":"k"}}"#);
        let mut line = event.into_bytes();
        if random.u8(..3) == 0 {
            let at = random.usize(..line.len());
            line[at] = random.u8(..);
        }
        input.extend(line);
        input.push(b'\n');
    }
    input
}

/// What is in the folder of each case.
fn furnish(folder: &Folder, good: &[u8]) {
    fs::write(folder.file("good.redb"), good).unwrap();
    fs::write(folder.file("cut.redb"), &good[..good.len() / 2]).unwrap();
    fs::write(folder.file("notes.txt"), "these are notes, and no events at all").unwrap();
    fs::write(folder.file("empty"), "").unwrap();
    fs::create_dir(folder.file("folder")).unwrap();
    #[cfg(unix)]
    assert!(Command::new("mkfifo").arg(folder.file("pipe")).status().unwrap().success());
}

/// A small file with something of every kind.
fn good() -> Vec<u8> {
    let folder = Folder::new();
    let (file, copy) = (folder.file("events.redb"), folder.file("copy.redb"));
    fill(&file);
    millstream(["backup", file.to_str().unwrap(), copy.to_str().unwrap()]).ok();
    fs::read(copy).unwrap()
}

#[test]
fn no_command_line_makes_it_panic_or_hang() {
    let (good, seed) = (good(), number("MILLSTREAM_SEED", 1));
    let codes = Mutex::new([0; 3]);
    each(0..number("MILLSTREAM_CASES", 400), |case| {
        let mut random = Rng::with_seed(seed << 32 | case);
        let folder = Folder::new();
        furnish(&folder, &good);
        let (args, input) = (command_line(&mut random), input(&mut random));
        let code = check(&args, &run(folder.path(), &args, &input));
        codes.lock().unwrap()[usize::try_from(code).unwrap()] += 1;
    });
    let codes = codes.into_inner().unwrap();
    assert!(codes.iter().all(|count| *count >= 20), "most ways to end are not seen: {codes:?}");
}

/// What happens to a file.
fn harm(random: &mut Rng, bytes: &mut Vec<u8>) {
    let at = random.usize(..bytes.len());
    let length = random.usize(1..=4_096).min(bytes.len() - at);
    match random.u8(..7) {
        0..3 => bytes[at] ^= 1 << random.u8(..8),
        3 => bytes.truncate(at),
        4 => bytes[at..at + length].fill(random.u8(..)),
        5 => bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(length)),
        _ => {
            let from = random.usize(..=bytes.len() - length);
            bytes.copy_within(from..from + length, at);
        }
    }
}

#[test]
fn no_file_makes_it_panic_or_hang() {
    const ON_FILES: &[&[&str]] = &[
        &["inspect", "good.redb"],
        &["log", "good.redb"],
        &["log", "good.redb", "--damaged"],
        &["state", "good.redb"],
        &["state", "good.redb", "dead"],
        &["state", "good.redb", "aggregate"],
        &["dlq", "list", "good.redb"],
        &["dlq", "show", "good.redb", "2"],
        &["dlq", "replay", "good.redb", "--all", "--damaged"],
        &["dlq", "purge", "good.redb", "1", "2", "--damaged"],
        &["verify", "good.redb"],
        &["export", "good.redb"],
        &["export", "good.redb", "out", "--damaged"],
        &["import", "good.redb"],
        &["backup", "good.redb", "copy.redb"],
        &["compact", "good.redb"],
    ];
    let (good, seed) = (good(), number("MILLSTREAM_SEED", 1));
    let codes = Mutex::new([0; 3]);
    each(0..number("MILLSTREAM_CASES", 400), |case| {
        let mut random = Rng::with_seed(seed << 32 | case);
        let folder = Folder::new();
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..4) {
            if !bytes.is_empty() {
                harm(&mut random, &mut bytes);
            }
        }
        fs::write(folder.file("good.redb"), bytes).unwrap();
        let mut args: Vec<OsString> = ON_FILES[random.usize(..ON_FILES.len())].iter().map(OsString::from).collect();
        if random.bool() {
            args.push("--json".into());
        }
        let run = if random.u8(..8) == 0 { run_as_reader } else { run };
        let code = check(&args, &run(folder.path(), &args, &input(&mut random)));
        codes.lock().unwrap()[usize::try_from(code).unwrap()] += 1;
    });
    let codes = codes.into_inner().unwrap();
    assert!(codes[0] > 0 && codes[1] >= 100 && codes[2] == 0, "{codes:?}");
}
