//! Who may know whom. A boundary that moves changes this table and ARCHITECTURE.md with it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Each room, and the rooms that it may name.
const ROOMS: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("queue", &[]),
    ("store", &[]),
    ("tenant", &["event"]),
    ("request", &["event"]),
    ("intake", &["event", "queue", "request", "store", "tenant"]),
    ("storage", &["event", "store"]),
    ("history", &["event", "store"]),
    ("stage", &["event", "intake", "queue", "request", "storage"]),
    ("epoch", &["event", "stage", "store"]),
    ("dead_letter", &["event", "stage", "tenant"]),
    ("journal", &["dead_letter", "epoch", "event", "intake", "queue", "stage", "store"]),
    ("archive", &["dead_letter", "epoch", "event", "history", "intake", "journal", "store"]),
    (
        "dispatch",
        &[
            "dead_letter",
            "epoch",
            "event",
            "history",
            "intake",
            "journal",
            "queue",
            "request",
            "stage",
            "storage",
            "store",
            "tenant",
        ],
    ),
    (
        "runtime",
        &[
            "dead_letter",
            "dispatch",
            "epoch",
            "event",
            "history",
            "intake",
            "journal",
            "queue",
            "request",
            "stage",
            "storage",
            "store",
            "tenant",
        ],
    ),
    ("testing", &["dead_letter", "event", "intake", "runtime", "stage", "store"]),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// What a source says without its comments and its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The first segments after `crate::`, those of nested imports among them.
fn named(code: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let Some(group) = after.strip_prefix('{') else {
            names.extend(after.split(|c| !is_word(c)).next().map(str::to_owned));
            continue;
        };
        let (mut depth, mut word) = (1, String::new());
        for character in group.chars() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if is_word(character) && depth == 1 {
                word.push(character);
            } else if depth == 1 && character == ':' && !word.is_empty() {
                names.insert(std::mem::take(&mut word));
            } else if depth == 1 && character == ',' {
                word.clear();
            }
            if depth == 0 {
                break;
            }
        }
    }
    names
}

#[test]
fn each_room_names_only_the_rooms_that_it_may_know() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ROOMS.iter().map(|(room, may)| (*room, may.iter().copied().collect())).collect();
    let folders: BTreeSet<_> =
        fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    let folders: BTreeSet<_> = folders.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(
        folders,
        allowed.keys().copied().collect(),
        "a room that the table does not know, or the other way round"
    );
    let mut wrong = Vec::new();
    for (room, may) in &allowed {
        for path in sources(&source.join(room)) {
            for name in named(&code(&path)) {
                if allowed.contains_key(&*name) && name != *room && !may.contains(&*name) {
                    wrong.push(format!("{} names `{name}`", path.strip_prefix(&source).unwrap().display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_has_no_circle() {
    let mut known = BTreeSet::new();
    for (room, may) in ROOMS {
        assert!(may.iter().all(|below| known.contains(below)), "`{room}` knows a room that comes after it");
        known.insert(*room);
    }
}

#[test]
fn the_crates_below_know_nothing_of_the_engine() {
    for folder in ["operators", "middleware"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        assert!(
            !manifest.contains("millstream = ") && !manifest.contains("millstream.workspace"),
            "{}",
            folder.display()
        );
        for path in sources(&folder.join("src")) {
            assert!(!code(&path).contains("millstream::"), "{} names the engine", path.display());
        }
    }
}

#[test]
fn the_scan_sees_nested_imports() {
    let code = "use crate::{\n    event::{Draft, Key},\n    stage::Call,\n};\nlet x = crate::queue::CLASSES;";
    assert_eq!(named(code), ["event", "queue", "stage"].map(str::to_owned).into());
}
