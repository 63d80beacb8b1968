//! A dead letter that is damaged is named, with what to do, and hides no other.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod support;

use std::{fs, path::Path};

use bytes::Bytes;
use millstream::store::{Op, PartitionId, Redb, Store as _, tables};
use serde_json::{Value, json};
use support::{Folder, Ran, block_on, fill, millstream};

/// Flips a bit in the row of the first letter, wherever the file has it.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let text = b"no order 3";
    let places: Vec<usize> = (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at] ^= 1;
    }
    fs::write(path, &bytes).unwrap();
}

/// Makes the row of the first letter one that is as it was written, and that nobody can read.
fn spoil(path: &Path) {
    block_on(async {
        let store = Redb::open(path).unwrap();
        let mut claim = store.claim(PartitionId(0)).await.unwrap();
        let key = Bytes::copy_from_slice(&1_u64.to_be_bytes());
        let op = Op::Put { table: tables::DEAD, key, value: Bytes::from_static(b"\xff\xff") };
        claim.partition.commit(vec![op]).await.unwrap();
        claim.partition.release().await.unwrap();
    });
}

/// A file with two letters, of which the first cannot be read.
fn make(folder: &Folder, harm: fn(&Path)) -> String {
    let file = folder.file("events.redb");
    fill(&file);
    harm(&file);
    file.to_str().unwrap().to_owned()
}

/// It did what it could, and says what it could not.
#[track_caller]
fn in_part(ran: &Ran) -> (Vec<Value>, Value) {
    assert!(ran.code == Some(1) && ran.stderr.is_empty(), "{}{}", ran.stdout, ran.stderr);
    ran.split()
}

/// The lines of letters that can be read, and of those that cannot.
fn apart(lines: &[Value]) -> (Vec<u64>, Vec<u64>) {
    let number = |line: &Value| line["number"].as_u64().unwrap();
    let (damaged, read): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["damaged"].is_string());
    (read.into_iter().map(number).collect(), damaged.into_iter().map(number).collect())
}

#[test]
fn the_others_are_listed_and_shown() {
    for harm in [flip, spoil] {
        let folder = Folder::new();
        let file = make(&folder, harm);
        let before = fs::read(&file).unwrap();
        let (lines, last) = in_part(&millstream(["dlq", "list", "--json", &file]));
        assert_eq!((apart(&lines), &last["letters"], &last["damaged"]), ((vec![2], vec![1]), &json!(1), &json!(1)));
        let said = lines[1]["damaged"].as_str().unwrap();
        assert!(said.contains("dead"), "{said}");
        let text = millstream(["dlq", "list", &file]).stdout;
        assert!(text.contains("     1  damaged: ") && text.contains("restore a backup, or `dlq purge"), "{text}");
        let shown = millstream(["dlq", "show", "--json", &file, "2"]).ok();
        assert_eq!(shown.lines()[0]["event"]["data"]["id"], 6);
        let (kind, message) = millstream(["dlq", "show", "--json", &file, "1"]).refusal();
        assert!(kind == "corrupt" && message.contains("dead letter 1 cannot be read: "), "{message}");
        assert_eq!(millstream(["dlq", "show", "--json", &file, "9"]).refusal().0, "missing");
        assert!(fs::read(&file).unwrap() == before, "looking has changed the file");
    }
}

#[test]
fn the_state_of_subscriptions_is_told_beside_a_letter_that_cannot_be_read() {
    let folder = Folder::new();
    let file = make(&folder, spoil);
    let (lines, last) = in_part(&millstream(["state", "--json", &file]));
    let (damaged, states): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["damaged"].is_string());
    assert_eq!([&states[0]["name"], &states[0]["dead"], &last["damaged"]], [&json!("bank"), &json!(1), &json!(1)]);
    assert_eq!((damaged.len(), &damaged[0]["number"]), (1, &json!(1)));
    let text = millstream(["state", &file]).stdout;
    assert!(text.contains("1 letter is damaged and stays: restore a backup, or `dlq purge"), "{text}");
}

#[test]
fn a_damaged_file_is_changed_where_that_is_asked_for_alone() {
    let folder = Folder::new();
    let file = make(&folder, flip);
    let before = fs::read(&file).unwrap();
    for args in [&["replay", "--all"][..], &["replay", "2"], &["purge", "--all"], &["purge", "1"]] {
        let (kind, message) = millstream([&["dlq", args[0], "--json", &file], &args[1..]].concat()).refusal();
        assert!(kind == "corrupt" && message.contains("`--damaged` changes it all the same"), "{message}");
    }
    assert!(fs::read(&file).unwrap() == before);
}

#[test]
fn the_others_are_replayed_and_purged() {
    for (harm, asked) in [(flip as fn(&Path), &["--damaged"][..]), (spoil, &[])] {
        let run =
            |file: &str, args: &[&str]| millstream([&["dlq", args[0], "--json", file], &args[1..], asked].concat());
        let folder = Folder::new();
        let file = make(&folder, harm);
        let (lines, last) = in_part(&run(&file, &["replay", "--all"]));
        assert_eq!((apart(&lines), &last["replayed"], &last["damaged"]), ((vec![], vec![1]), &json!(1), &json!(1)));
        let (kind, message) = run(&file, &["replay", "1"]).refusal();
        assert!(kind == "corrupt" && message.contains("dead letter 1 cannot be read"), "{message}");

        let folder = Folder::new();
        let file = make(&folder, harm);
        let (lines, last) = in_part(&run(&file, &["purge", "--subscription", "bank"]));
        assert_eq!((apart(&lines), &last["purged"], &last["damaged"]), ((vec![2], vec![1]), &json!(1), &json!(1)));
        // Whoever names one that can be read has all that he asked for.
        let folder = Folder::new();
        let file = make(&folder, harm);
        let (lines, last) = run(&file, &["purge", "2"]).ok().split();
        assert_eq!((apart(&lines), &last["purged"], &last["damaged"]), ((vec![2], vec![]), &json!(1), &json!(0)));
    }
}

#[test]
fn a_damaged_letter_is_purged_by_its_number_where_that_is_asked_for_and_the_file_is_sound_then() {
    for harm in [flip, spoil] {
        let folder = Folder::new();
        let file = make(&folder, harm);
        assert_eq!(millstream(["verify", "--json", &file]).code, Some(1));
        assert_eq!(millstream(["dlq", "purge", "--json", &file, "1"]).refusal().0, "corrupt");
        let (lines, last) = millstream(["dlq", "purge", "--json", &file, "1", "--damaged"]).ok().split();
        assert_eq!((apart(&lines), &last["purged"], &last["damaged"]), ((vec![], vec![1]), &json!(1), &json!(0)));
        assert_eq!(millstream(["verify", "--json", &file]).ok().split().1["sound"], true);
        let (lines, _) = millstream(["dlq", "list", "--json", &file]).ok().split();
        assert_eq!(apart(&lines), (vec![2], vec![]));
        assert_eq!(millstream(["dlq", "replay", "--json", &file, "2"]).ok().split().1["replayed"], 1);
    }
}
