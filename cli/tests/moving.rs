//! Events out of a file as CloudEvents, and into another.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use millstream::{Context, Draft, Handler, Limits, Retention, Runtime, Start, store::Redb};
use serde_json::{Value, json};
use support::{Folder, block_on, close, fill, finish, millstream, open};

fn import(file: &str, text: &str) -> support::Ran {
    finish(Command::new(env!("CARGO_BIN_EXE_millstream")).args(["import", "--json", file]), text)
}

#[test]
fn what_is_exported_and_imported_is_exported_the_same() {
    let folder = Folder::new();
    let (file, other) = (folder.file("events.redb"), folder.file("other.redb"));
    fill(&file);
    let (file, other) = (file.to_str().unwrap(), other.to_str().unwrap());
    let first = millstream(["export", file]).ok();
    assert_eq!(first.lines().len(), 12);
    assert!(first.stderr.contains("11 events and 1 delayed"), "{}", first.stderr);
    let last = import(other, &first.stdout).ok().split().1;
    assert_eq!([&last["imported"], &last["delayed"], &last["duplicates"]], [&json!(11), &json!(1), &json!(0)]);
    assert_eq!(millstream(["export", other]).ok().stdout, first.stdout);
    for event in first.lines() {
        assert_eq!([&event["specversion"], &event["datacontenttype"]], [&json!("1.0"), &json!("application/json")]);
        for attribute in ["id", "source", "type", "time", "priority"] {
            assert!(event[attribute].is_string(), "{attribute} of {event}");
        }
    }
    let logs = |file| millstream(["log", "--json", file]).ok().split().0;
    let without_place = |mut event: Value| {
        event.as_object_mut().unwrap().remove("place");
        event
    };
    let events = |file| logs(file).into_iter().map(without_place).collect::<Vec<_>>();
    assert_eq!(events(file), events(other));
}

#[test]
fn what_is_there_already_is_passed_over() {
    let folder = Folder::new();
    let (file, other) = (folder.file("events.redb"), folder.file("other.redb"));
    fill(&file);
    let (file, other) = (file.to_str().unwrap(), other.to_str().unwrap());
    let text = millstream(["export", file]).ok().stdout;
    let half: String = text.split_inclusive('\n').take(5).collect();
    let counts = |ran: support::Ran| {
        let last = ran.ok().split().1;
        ["imported", "delayed", "duplicates"].map(|what| last[what].as_u64().unwrap())
    };
    assert_eq!(counts(import(other, &half)), [5, 0, 0]);
    assert_eq!(counts(import(other, &format!("\n{text}{text}"))), [6, 1, 17]);
    assert_eq!(counts(import(file, &text)), [0, 0, 12]);
    assert_eq!(millstream(["export", other]).ok().stdout, text);
}

#[test]
fn a_runtime_handles_what_was_imported() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    let lines = r#"{"specversion":"1.0","id":"A-1","source":"/shop","type":"order.placed","subject":"7","data":{"id":7}}
{"specversion":"1.0","id":"A-2","source":"/shop","type":"order.placed","priority":"critical","data":{"id":8}}
{"specversion":"1.0","id":"A-1","source":"/shop","type":"order.placed","subject":"7","data":{"id":7}}"#;
    let last = import(file.to_str().unwrap(), lines).ok().split().1;
    assert_eq!([&last["imported"], &last["duplicates"]], [&json!(2), &json!(1)]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    block_on(async {
        let runtime = open(&file);
        let sink = Arc::clone(&seen);
        let handler = move |context: Context| {
            let event = context.event();
            sink.lock()
                .unwrap()
                .push((event.data().to_json().unwrap()["id"].clone(), event.header("id").map(str::to_owned)));
            async {}
        };
        runtime.on("order.*", handler.named("bank").starting_at(Start::Earliest)).unwrap();
        runtime.process().await.unwrap();
        close(runtime).await;
    });
    let seen = seen.lock().unwrap();
    assert!(
        seen.len() == 2
            && seen.contains(&(json!(7), Some("A-1".into())))
            && seen.contains(&(json!(8), Some("A-2".into())))
    );
}

#[test]
fn a_bad_line_is_named_and_what_came_before_it_stays() {
    let folder = Folder::new();
    let good = |id: u64| json!({"specversion": "1.0", "id": id.to_string(), "source": "s", "type": "a.b"}).to_string();
    for (place, (bad, says)) in [
        ("{", "no JSON object"),
        ("[1]", "no JSON object"),
        (r#"{"specversion":"1.0","id":"1","source":"s"}"#, "`type` is missing"),
        (r#"{"specversion":"1.0","id":"9","source":"s","type":"a b"}"#, "`type`"),
        (r#"{"specversion":"1.0","id":"9","source":"s","type":"a","data_base64":"AA=="}"#, "`data_base64`"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = folder.file(&format!("{place}.redb"));
        let file = file.to_str().unwrap();
        let (kind, message) = import(file, &format!("{}\n{}\n{bad}\n{}", good(1), good(2), good(3))).refusal();
        assert!(
            kind == "bad_input" && message.contains("line 3") && message.contains(says) && message.contains("2 events"),
            "{message}"
        );
        assert_eq!(millstream(["log", "--json", file]).ok().split().0.len(), 2);
    }
}

#[test]
fn two_events_cannot_make_the_same_version_of_an_aggregate() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    let file = file.to_str().unwrap();
    let event = |id: &str| {
        json!({
            "specversion": "1.0", "id": id, "source": "s", "type": "a.b",
            "aggregatetype": "order", "aggregateid": "7", "aggregateversion": "1",
        })
        .to_string()
    };
    import(file, &event("1")).ok();
    for text in [event("2"), format!("{}\n{}", event("1"), event("3"))] {
        let (kind, message) = import(file, &text).refusal();
        assert!(kind == "bad_input" && message.contains("order 7 has version 1 already"), "{message}");
    }
}

#[test]
fn an_export_is_written_over_nothing_unless_that_is_asked_for() {
    let folder = Folder::new();
    let (file, to) = (folder.file("events.redb"), folder.file("events.ndjson"));
    fill(&file);
    fs::write(&to, "precious").unwrap();
    let (from, path) = (file.to_str().unwrap(), to.to_str().unwrap());
    let (kind, message) = millstream(["export", "--json", from, path]).refusal();
    assert!(kind == "exists" && message.contains("--force") && fs::read(&to).unwrap() == b"precious", "{message}");
    let last = millstream(["export", "--json", "--force", from, path, "--event", "order.placed"]).ok().split().1;
    assert_eq!((&last["events"], fs::read_to_string(&to).unwrap().lines().count()), (&json!(10), 10));
}

#[test]
fn a_file_is_never_exported_over_itself() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let before = fs::read(&file).unwrap();
    let other_name = folder.path().join(".").join("events.redb");
    for to in [&file, &other_name] {
        let args = ["export", "--json", "--force", file.to_str().unwrap(), to.to_str().unwrap()];
        let (kind, message) = millstream(args).refusal();
        assert!(kind == "exists" && message.contains("the file itself"), "{message}");
        assert!(fs::read(&file).unwrap() == before);
    }
}

/// A change of an account, which nobody can compress.
fn change(account: u64, version: u64) -> Draft {
    let noise = |at: u64| (account * 31 + version * 1_009 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let noise: Vec<u64> = (0..40).map(noise).collect();
    Draft::json("account.changed", json!({"noise": noise})).aggregate("account", account.to_string(), version)
}

/// How often each of three accounts changes.
const CHANGES: u64 = 500;

/// Three accounts that change, between other events, of which the log has the newer ones alone; and one change that waits for
/// its time.
fn trim(path: &Path) {
    block_on(async {
        let retention = Retention::Within(Limits::new().events(150).strict());
        let store = Redb::open(path).unwrap();
        let runtime = Runtime::builder().store(store).retention(retention).queue_size(100_000).build().unwrap();
        runtime.on("order.*", support::failing(|_| false).named("bank")).unwrap();
        for version in 0..CHANGES {
            for account in 0..3 {
                drop(runtime.emit(change(account, version)).unwrap());
            }
            let last = runtime.emit(support::order(version)).unwrap();
            if version % 20 == 0 {
                last.await.unwrap();
                runtime.process().await.unwrap();
            }
        }
        let late = change(7, 0).delay(Duration::from_hours(100 * 365 * 24));
        runtime.emit(late).unwrap().await.unwrap();
        runtime.process().await.unwrap();
        close(runtime).await;
    });
}

/// The versions that lines have of each aggregate, in their order.
fn versions(lines: &[Value]) -> BTreeMap<String, Vec<u64>> {
    let mut versions = BTreeMap::<_, Vec<_>>::new();
    for line in lines.iter().filter(|line| line["aggregateid"].is_string()) {
        let version = line["aggregateversion"].as_str().unwrap().parse().unwrap();
        versions.entry(line["aggregateid"].as_str().unwrap().to_owned()).or_default().push(version);
    }
    versions
}

#[test]
fn events_of_aggregates_that_the_log_has_no_more_are_exported_once_and_taken_back() {
    let folder = Folder::new();
    let (file, other) = (folder.file("events.redb"), folder.file("other.redb"));
    trim(&file);
    let (file, other) = (file.to_str().unwrap(), other.to_str().unwrap());
    let logged = millstream(["log", "--json", file]).ok().split().0;
    let logged: BTreeSet<&str> = logged.iter().map(|event| event["id"].as_str().unwrap()).collect();
    let changes = usize::try_from(CHANGES).unwrap();
    assert!(logged.len() < 3 * changes, "nothing was trimmed: {}", logged.len());

    let first = millstream(["export", "--json", file]).ok();
    let (lines, all) = (first.lines(), (0..CHANGES).collect::<Vec<u64>>());
    let expected = [("0", all.clone()), ("1", all.clone()), ("2", all), ("7", vec![0])];
    assert_eq!(versions(&lines), expected.map(|(account, versions)| (account.to_owned(), versions)).into());
    let ids: BTreeSet<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), lines.len(), "an event is there twice");
    let summary: Value = serde_json::from_str(&first.stderr).unwrap();
    assert_eq!([&summary["events"], &summary["delayed"]], [&json!(lines.len() - 1), &json!(1)]);
    assert_eq!(summary["trimmed"], json!(lines.len() - 1 - logged.len()));
    // Places say where in the log, and these have none there.
    let from = millstream(["export", "--json", file, "--from", "1"]).ok().lines();
    assert!(from.iter().all(|line| line["duetime"].is_string() || logged.contains(line["id"].as_str().unwrap())));

    let last = import(other, &first.stdout).ok().split().1;
    assert_eq!([&last["imported"], &last["delayed"]], [&summary["events"], &json!(1)]);
    assert_eq!(import(file, &first.stdout).ok().split().1["duplicates"], json!(lines.len()));
    let again = millstream(["export", other]).ok();
    assert_eq!(again.stdout, first.stdout);
    assert!(!again.stderr.contains("not in the log any more"), "{}", again.stderr);
    block_on(async {
        let runtime = open(Path::new(other));
        assert_eq!(runtime.aggregate("account", "1").version().await.unwrap(), Some(CHANGES - 1));
        close(runtime).await;
    });
}

#[test]
fn a_filter_selects_what_the_log_has_no_more_as_well() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    trim(&file);
    let file = file.to_str().unwrap();
    let changes = millstream(["export", file, "--event", "account.*"]).ok().lines();
    assert_eq!(changes.len() as u64, 3 * CHANGES + 1);
    assert!((millstream(["export", file, "--event", "order.*"]).ok().lines().len() as u64) < CHANGES);
    for args in [["--class", "critical"], ["--tenant", "acme"], ["--until", "1971-01-01"]] {
        assert_eq!(millstream([&["export", file][..], &args].concat()).ok().lines(), Vec::<Value>::new(), "{args:?}");
    }
}
