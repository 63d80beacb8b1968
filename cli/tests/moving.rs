//! Events out of a file as CloudEvents, and into another.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod support;

use std::{
    fs,
    process::Command,
    sync::{Arc, Mutex},
};

use millstream::{Context, Handler, Start};
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
