//! Files that are not ours, newer, cut off, damaged, not to be written, open already, or on a full disk: an error that says
//! what to do, never a panic and never a wrong value.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod support;

use std::{fs, path::Path, process::Command};

use millstream::Handler as _;
use redb::TableDefinition;
use support::{Folder, Ran, block_on, close, failing, fill, finish, millstream, open, order};

/// Each command on a file, with a place for what it writes.
fn commands(file: &Path, folder: &Folder) -> Vec<Vec<String>> {
    let path = file.to_str().unwrap();
    let (copy, export) = (folder.file("copy.redb"), folder.file("export.ndjson"));
    let commands: &[&[&str]] = &[
        &["inspect", path],
        &["log", path],
        &["state", path],
        &["state", path, "dead"],
        &["dlq", "list", path],
        &["dlq", "show", path, "1"],
        &["dlq", "replay", path, "--all"],
        &["dlq", "purge", path, "--all"],
        &["verify", path],
        &["export", path, export.to_str().unwrap()],
        &["import", path],
        &["backup", path, copy.to_str().unwrap()],
        &["compact", path],
    ];
    commands.iter().map(|args| [&["--json"], *args].concat().into_iter().map(str::to_owned).collect()).collect()
}

/// All commands refuse a file in the same way, say what is wanted of whoever calls them, and leave the file as it is.
fn all_refuse(file: &Path, folder: &Folder, expected: &str, advice: &str) {
    let before = fs::read(file).ok();
    for args in commands(file, folder) {
        let (kind, message) = millstream(&args).refusal();
        assert_eq!(kind, expected, "{args:?}: {message}");
        assert!(message.contains(advice) && message.contains(&*file.to_string_lossy()), "{args:?}: {message}");
        assert!(fs::read(file).ok() == before, "{args:?} changed the file");
    }
}

fn write_redb(path: &Path, table: &str, key: &[u8], value: &[u8]) {
    let database = redb::Database::create(path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(TableDefinition::<&[u8], &[u8]>::new(table)).unwrap().insert(key, value).unwrap();
    write.commit().unwrap();
}

#[test]
fn a_file_that_is_not_ours_is_refused() {
    let folder = Folder::new();
    let file = folder.file("notes.txt");
    for content in [&b"these are notes, and no events at all"[..], b"no"] {
        fs::write(&file, content).unwrap();
        all_refuse(&file, &folder, "not_ours", "name another file");
    }
    fs::write(&file, "").unwrap();
    all_refuse(&file, &folder, "not_ours", "name another file");
}

#[test]
fn the_file_of_another_program_is_refused() {
    let folder = Folder::new();
    let file = folder.file("other.redb");
    write_redb(&file, "theirs", b"a", b"b");
    for args in commands(&file, &folder) {
        let (kind, message) = millstream(&args).refusal();
        assert!(kind == "not_ours" && message.contains("another program"), "{args:?}: {message}");
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let folder = Folder::new();
    let file = folder.file("newer.redb");
    fill(&file);
    // The row of the format, as the store writes it: flags, number, checksum over table, key and both.
    let mut row = vec![0];
    row.extend(2_u32.to_le_bytes());
    let checksum = crc32c([&b"meta"[..], b"format", &row].concat().as_slice());
    row.extend(checksum.to_le_bytes());
    write_redb(&file, "meta", b"format", &row);
    for args in commands(&file, &folder) {
        let (kind, message) = millstream(&args).refusal();
        assert!(kind == "newer" && message.contains("use a newer version"), "{args:?}: {message}");
    }
}

/// Numbers that nobody can compress.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0
    }

    /// An event of about 10 kB, with its line's end.
    fn event(&mut self, id: usize) -> String {
        let data: Vec<u64> = (0..500).map(|_| self.next()).collect();
        let id = format!("number-{id:06}");
        let event = serde_json::json!({"specversion": "1.0", "id": id, "source": "s", "type": "a.b", "data": data});
        format!("{event}\n")
    }
}

/// Castagnoli's checksum, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn a_folder_and_nothing_at_all_are_refused() {
    let folder = Folder::new();
    let missing = folder.file("missing.redb");
    for args in commands(&missing, &folder).into_iter().filter(|args| args[1] != "import") {
        let (kind, message) = millstream(&args).refusal();
        assert!(kind == "missing" && message.contains("missing.redb"), "{args:?}: {message}");
        assert!(!missing.exists(), "{args:?} made a file");
    }
    let (kind, message) = millstream(["import", "--json", "no/such/folder/events.redb"]).refusal();
    let why = fs::metadata("no/such/folder").unwrap_err().to_string();
    assert!(kind == "missing" && message.contains("no/such/folder") && message.ends_with(&why), "{message}");
    for args in commands(folder.path(), &folder) {
        assert_eq!(millstream(&args).code, Some(1), "{args:?}");
    }
}

#[test]
fn a_file_that_is_cut_off_is_refused_wherever_that_is() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let whole = fs::read(&file).unwrap();
    for part in [10, 200, 5_000, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        let cut = folder.file(&format!("cut at {part}.redb"));
        for args in commands(&cut, &folder) {
            fs::write(&cut, &whole[..part]).unwrap();
            let ran = millstream(&args);
            if args[1] == "verify" && ran.split().1["error"].is_null() {
                // For it, damage is what it has found.
                let (faults, last) = ran.split();
                assert!(ran.code == Some(1) && last["sound"] == false && faults.len() == 1, "{part}: {}", ran.stdout);
                continue;
            }
            let (kind, message) = ran.refusal();
            assert!(["corrupt", "not_ours"].contains(&&*kind), "{part}: {args:?}: {kind}: {message}");
        }
    }
}

#[test]
fn verify_sends_nobody_to_verify() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let whole = fs::read(&file).unwrap();
    for part in [5_000, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..part]).unwrap();
        let ran = millstream(["verify", file.to_str().unwrap()]);
        assert!(ran.code == Some(1) && ran.stdout.starts_with("damaged: "), "{part}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains("1 fault; restore a backup") && !ran.stdout.contains("`verify`"), "{}", ran.stdout);
        let ran = millstream(["log", file.to_str().unwrap()]);
        assert!(ran.stderr.contains("run `verify`"), "{}", ran.stderr);
    }
}

#[test]
fn no_flipped_bit_gives_a_wrong_value_and_verify_finds_those_that_matter() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    // A copy has few pages that are free: what is flipped there means nothing.
    let copy = folder.file("copy.redb");
    millstream(["backup", file.to_str().unwrap(), copy.to_str().unwrap()]).ok();
    let whole = fs::read(&copy).unwrap();
    let flipped = folder.file("flipped.redb");
    let path = flipped.to_str().unwrap();
    let look = || (millstream(["export", path]), millstream(["dlq", "list", "--json", path]));
    fs::write(&flipped, &whole).unwrap();
    let (events, letters) = look();
    assert_eq!(millstream(["verify", "--json", path]).ok().split().1["sound"], true);
    // What is neither empty nor the filling of a page that is not full.
    let used: Vec<usize> = (0..whole.len()).filter(|at| ![0, 0xff].contains(&whole[*at])).collect();
    let mut found = 0;
    for (turn, at) in used.iter().step_by(used.len() / 60).enumerate() {
        let mut bytes = whole.clone();
        bytes[*at] ^= 1 << (turn % 8);
        fs::write(&flipped, &bytes).unwrap();
        let verify = millstream(["verify", "--json", path]);
        assert!(matches!(verify.code, Some(0 | 1)) && !verify.stderr.contains("panicked"), "{at}: {}", verify.stderr);
        let is_sound = verify.code == Some(0);
        found += usize::from(!is_sound);
        for (now, before) in [(&look().0, &events), (&look().1, &letters)] {
            assert!(!now.stderr.contains("panicked"), "{at}: {}", now.stderr);
            match now.code {
                Some(0) => assert!(now.stdout == before.stdout, "byte {at}: a wrong value"),
                code => assert!(code == Some(1) && !is_sound, "byte {at}: {} though all is sound", now.stderr),
            }
        }
    }
    assert!(found > 30, "{found} of 60");
}

#[test]
fn verify_names_what_is_damaged() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let mut bytes = fs::read(&file).unwrap();
    // The error of the first letter, in its row.
    let text = b"no order 3";
    let places: Vec<usize> = (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at] ^= 1;
    }
    fs::write(&file, &bytes).unwrap();
    let ran = millstream(["verify", "--json", file.to_str().unwrap()]);
    let (faults, last) = ran.split();
    assert_eq!((ran.code, &last["sound"]), (Some(1), &false.into()));
    assert!(faults[0]["damaged"].as_str().unwrap().contains("dead"), "{faults:?}");
    let text = millstream(["verify", file.to_str().unwrap()]).stdout;
    assert!(text.contains("restore a backup"), "{text}");
}

#[test]
fn what_lies_before_and_behind_damage_can_be_read() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    let path = file.to_str().unwrap();
    let mut random = Random(7);
    let lines: String = (0..400).map(|id| random.event(id)).collect();
    finish(Command::new(env!("CARGO_BIN_EXE_millstream")).args(["import", path]), &lines).ok();
    let events = millstream(["log", "--json", path]).ok().split().0;
    let mut bytes = fs::read(&file).unwrap();
    let middle = events[200]["headers"]["id"].as_str().unwrap().as_bytes();
    let places: Vec<usize> = (0..bytes.len() - middle.len()).filter(|at| bytes[*at..].starts_with(middle)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at] ^= 1;
    }
    fs::write(&file, &bytes).unwrap();
    assert_eq!(millstream(["log", "--json", path]).refusal().0, "corrupt");
    let ran = millstream(["log", "--json", "--damaged", path]);
    let (before, _) = ran.split();
    assert!(ran.refusal().0 == "corrupt" && before.len() <= 200 && before[..] == events[..before.len()]);
    let export = folder.file("export.ndjson");
    let ran = millstream(["export", "--json", "--damaged", path, export.to_str().unwrap()]);
    let (kind, message) = ran.refusal();
    assert!(kind == "corrupt" && message.contains("export.ndjson"), "{message}");
    assert_eq!(fs::read_to_string(&export).unwrap().lines().count(), before.len());
    let behind = events[200..].iter().map(|event| event["place"].to_string()).find_map(|place| {
        let ran = millstream(["log", "--json", "--damaged", path, "--from", &place]);
        (ran.code == Some(0)).then(|| ran.split().0)
    });
    let behind = behind.unwrap();
    assert!(!behind.is_empty() && behind[..] == events[events.len() - behind.len()..]);
}

#[test]
fn a_file_that_a_runtime_has_open_is_refused_and_the_runtime_goes_on() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let before = millstream(["log", "--json", file.to_str().unwrap()]).ok().split().0.len();
    let all = commands(&file, &folder);
    block_on(async {
        let runtime = open(&file);
        runtime.on("order.*", failing(|_| false).named("bank")).unwrap();
        for (id, args) in (100..).zip(&all) {
            runtime.emit(order(id)).unwrap().await.unwrap();
            let (kind, message) = millstream(args).refusal();
            assert!(kind == "in_use" && message.contains(file.to_str().unwrap()), "{args:?}: {message}");
            for advice in ["open already", "stop the runtime that has it", "`Redb::backup`"] {
                assert!(message.contains(advice), "{args:?}: {message}");
            }
            runtime.process().await.unwrap();
        }
        assert_eq!(runtime.stats().deliveries.handled, all.len() as u64);
        close(runtime).await;
    });
    assert!(!folder.file("copy.redb").exists() && !folder.file("export.ndjson").exists());
    let path = file.to_str().unwrap();
    assert_eq!(millstream(["verify", "--json", path]).ok().split().1["sound"], true);
    assert_eq!(millstream(["log", "--json", path]).ok().split().0.len(), before + all.len());
}

#[test]
fn several_may_look_at_a_file_and_nobody_changes_it_meanwhile() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let looking = millstream::store::RedbBuilder::default().open_frozen(&file).unwrap();
    for args in commands(&file, &folder) {
        let may_look = !["replay", "purge", "import", "compact"].iter().any(|word| args.iter().any(|arg| arg == word));
        let ran = millstream(&args);
        if may_look {
            ran.ok();
        } else {
            let (kind, message) = ran.refusal();
            assert!(kind == "in_use" && message.contains("the other command"), "{args:?}: {message}");
        }
    }
    drop(looking);
}

/// Runs a command as somebody who may read the file and write nothing.
#[cfg(unix)]
fn as_reader(args: &[String], folder: &Folder) -> Ran {
    use std::os::unix::{fs::MetadataExt as _, process::CommandExt as _};
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    if fs::metadata(folder.path()).unwrap().uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    finish(command.args(args), "")
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_written_can_be_looked_at_and_nothing_else() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    for args in commands(&file, &folder) {
        let ran = as_reader(&args, &folder);
        match &*args[1] {
            "inspect" | "log" | "state" | "verify" => drop(ran.ok()),
            "dlq" if ["list", "show"].contains(&&*args[2]) => drop(ran.ok()),
            "export" => assert_eq!(ran.refusal().0, "not_permitted"),
            _ => {
                let (kind, message) = ran.refusal();
                assert!(kind == "read_only" && message.contains("give this user the right"), "{args:?}: {message}");
            }
        }
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_what_writes_and_what_is_there_stays() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let path = file.to_str().unwrap();
    let before = millstream(["export", path]).ok().stdout;
    // No file may grow beyond what this one has, and not by a signal but as on a disk that is full.
    let blocks = fs::metadata(&file).unwrap().len() / 512;
    let limited = |args: &str, input: &str| {
        let script =
            format!("trap '' XFSZ; ulimit -f {blocks}; exec {} --json {args}", env!("CARGO_BIN_EXE_millstream"));
        finish(Command::new("sh").args(["-c", &script]), input)
    };
    let mut random = Random(7);
    let input: String = (0..3_000).map(|id| random.event(id)).collect();
    let (kind, message) = limited(&format!("import {path}"), &input).refusal();
    assert!(kind == "full" && message.contains("full"), "{kind}: {message}");
    assert_eq!(millstream(["verify", "--json", path]).ok().split().1["sound"], true);
    let events = millstream(["export", path, "--event", "order.>"]).ok().stdout;
    assert!(events.lines().all(|line| before.contains(line)), "an event has changed");
    assert!(
        before.lines().filter(|line| line.contains("order.")).all(|line| events.contains(line)),
        "an event is gone"
    );

    let full = millstream(["export", "--json", "--force", path, "/dev/full"]);
    let (kind, message) = full.refusal();
    assert!(kind == "full" && message.contains("make room"), "{message}");
}
