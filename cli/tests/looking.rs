//! Commands that look: inspect, log, state, verify, backup. They say what is there, and leave the file as it is.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use millstream::{Stage, chain};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::{Folder, block_on, close, fill, finish, millstream, open};

fn ids(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["data"]["id"].as_u64().unwrap()).collect()
}

#[test]
fn inspect_counts_what_is_there() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let found = &millstream(["inspect", "--json", file.to_str().unwrap()]).ok().lines()[0];
    assert_eq!((&found["format"], &found["file_bytes"]), (&json!(1), &json!(fs::metadata(&file).unwrap().len())));
    let rows = |name: &str| {
        let tables = found["tables"].as_array().unwrap();
        tables.iter().find(|table| table["name"] == name).map(|table| table["rows"].as_u64().unwrap())
    };
    assert_eq!([rows("dead"), rows("delayed"), rows("subscription"), rows("none")], [Some(2), Some(1), Some(2), None]);
    let logs = found["partitions"][0]["logs"].as_array().unwrap();
    assert_eq!(logs.iter().map(|log| log["class"].as_str().unwrap()).collect::<Vec<_>>(), ["critical", "normal"]);
    let text = millstream(["inspect", file.to_str().unwrap()]).ok().stdout;
    assert!(text.contains("format 1") && text.contains("table dead"), "{text}");
}

#[test]
fn marks_are_counted_apart_from_events() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let path = file.to_str().unwrap();
    let found = &millstream(["inspect", "--json", path]).ok().lines()[0];
    let inspected = |class: &str| {
        let logs = found["partitions"][0]["logs"].as_array().unwrap();
        let log = logs.iter().find(|log| log["class"] == class).unwrap();
        [&log["events"], &log["marks"]].map(|count| count.as_u64().unwrap())
    };
    for class in ["critical", "normal"] {
        let logged = millstream(["log", "--json", "--class", class, path]).ok().split().1["events"].as_u64();
        assert_eq!(Some(inspected(class)[0]), logged, "{class}");
    }
    let sums = [0, 1].map(|column| inspected("critical")[column] + inspected("normal")[column]);
    let verified = millstream(["verify", "--json", path]).ok().split().1;
    assert_eq!([&verified["events"], &verified["marks"], &verified["records"]], [sums[0], sums[1], sums[0] + sums[1]]);
    let [events, marks] = sums.map(|count| count.to_string());
    assert!(events == "11" && sums[1] > 0, "{sums:?}");
    let text = millstream(["verify", path]).ok().stdout;
    assert!(text.contains(&format!("{events} events, {marks} mark")), "{text}");
    let text = millstream(["inspect", path]).ok().stdout;
    assert!(text.contains("critical 1 event, "), "{text}");
}

#[test]
fn a_partition_that_is_not_there_is_an_error() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let path = file.to_str().unwrap();
    for command in
        [&["log", path][..], &["state", path], &["state", path, "dead"], &["dlq", "list", path], &["export", path]]
    {
        let (kind, message) = millstream([&["--json", "--partition", "7"], command].concat()).refusal();
        assert!(kind == "missing" && message == "there is no partition 7; there are: 0", "{command:?}: {message}");
    }
}

#[test]
fn log_selects_by_class_name_time_key_tenant_place_and_number() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let log = |args: &[&str]| {
        let args = [&["log", "--json", file.to_str().unwrap()], args].concat();
        millstream(args).ok().split()
    };
    let (all, last) = log(&[]);
    let places: Vec<_> = all.iter().map(|event| event["place"].as_u64().unwrap()).collect();
    assert!(all.len() == 11 && places.is_sorted() && last["events"] == 11, "{last}");
    for selects_rare in [
        ["--class", "critical"],
        ["--event", "stock.>"],
        ["--until", "2001-09-10"],
        ["--tenant", "acme"],
        ["--from", &places[10].to_string()],
    ] {
        let (found, _) = log(&selects_rare);
        assert_eq!(found.iter().map(|event| &event["name"]).collect::<Vec<_>>(), ["stock.größe"], "{selects_rare:?}");
    }
    assert_eq!(ids(&log(&["--key", "k1"]).0), [1, 4, 7]);
    assert_eq!(log(&["--since", "2010-01-01T00:00:00Z", "--class", "high", "--class", "normal"]).0.len(), 10);
    let (first, last) = log(&["--event", "order.*", "--limit", "4"]);
    let (rest, _) = log(&["--event", "order.*", "--from", &last["next"].to_string()]);
    assert_eq!((ids(&first), ids(&rest)), (vec![0, 1, 2, 3], vec![4, 5, 6, 7, 8, 9]));
    let said = |args: &[&str]| millstream([&["log", file.to_str().unwrap()], args].concat()).ok().stdout;
    assert_eq!(said(&["--event", "nothing.here"]), "0 events\n");
    let next = (places[10] + 1).to_string();
    assert!(said(&["--tenant", "acme"]).ends_with(&format!("\n1 event; `--from {next}` goes on behind it\n")));
    assert!(said(&[]).ends_with(&format!("\n11 events; `--from {next}` goes on behind them\n")));
    let text = millstream(["log", file.to_str().unwrap(), "--key", "k0", "--limit", "1"]).ok().stdout;
    assert!(text.contains("order.placed  key=k0  {\"id\":0}"), "{text}");
}

#[test]
fn state_shows_how_far_each_subscription_is_and_the_rows_of_each_table() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let state = |args: &[&str]| millstream([&["state", "--json", file.to_str().unwrap()], args].concat()).ok().split();
    let (subscriptions, last) = state(&[]);
    let bank = &subscriptions[0];
    assert_eq!(
        [&bank["name"], &bank["pattern"], &bank["dead"], &bank["waiting"], &bank["behind"], &last["delayed"]],
        [&json!("bank"), &json!("order.*"), &json!(2), &json!(0), &json!(0), &json!(1)]
    );
    let kinds = |table: &str| -> BTreeSet<String> {
        state(&[table]).0.iter().map(|row| row["row"].as_str().unwrap().to_owned()).collect()
    };
    for (table, kind) in [
        ("engine", "setting"),
        ("subscription", "subscription"),
        ("start", "start"),
        ("cursor", "cursor"),
        ("dead", "dead_letter"),
        ("delayed", "delayed"),
        ("aggregate", "aggregate"),
    ] {
        assert_eq!(kinds(table), [kind.to_owned()].into(), "{table}");
    }
    assert_eq!(state(&["cursor", "--limit", "2"]).1["rows"], 2);
    assert_eq!(
        [state(&["subscription", "--prefix", "b"]).0.len(), state(&["subscription", "--prefix", "x"]).0.len()],
        [1, 0]
    );
    // Their keys have the tenant and more before what people call a key.
    for (table, prefix, count) in
        [("dead", "k", 2), ("dead", "x", 0), ("aggregate", "7", 1), ("aggregate", "8", 0), ("cursor", "b", 0)]
    {
        assert_eq!(state(&[table, "--prefix", prefix]).0.len(), count, "{table} {prefix}");
    }
    let (kind, message) = millstream(["state", "--json", file.to_str().unwrap(), "nothing"]).refusal();
    assert!(kind == "missing" && message.contains("subscription"), "{message}");
}

#[derive(millstream::Event, Clone, Serialize, Deserialize)]
#[event(name = "sale")]
struct Sale {
    shop: u64,
    cents: u64,
}

#[derive(millstream::Event, Clone, Serialize, Deserialize)]
#[event(name = "total")]
struct Total {
    cents: u64,
}

/// A run of a file with a stage that adds up the sales of each shop.
fn sell(file: &std::path::Path, sales: impl Iterator<Item = Sale>) {
    block_on(async {
        let runtime = open(file);
        let totals = chain().scan(0, |sum: &mut u64, sale: Sale| *sum += sale.cents).map(|cents| Total { cents });
        runtime.stage("totals", Stage::keyed(|sale: &Sale| sale.shop, totals)).unwrap();
        for sale in sales {
            runtime.emit(sale).unwrap().await.unwrap();
        }
        runtime.process().await.unwrap();
        close(runtime).await;
    });
}

#[test]
fn state_shows_each_stage_and_the_newest_state_of_each_key() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    // An epoch of many keys leaves its changes aside, one of few writes their rows.
    for _ in 0..3 {
        sell(&file, (0..40).map(|shop| Sale { shop, cents: shop }));
    }
    sell(&file, (0..3).map(|shop| Sale { shop, cents: 1_000 }));
    let state = |args: &[&str]| millstream([&["state", "--json", file.to_str().unwrap()], args].concat()).ok().split();
    let (lines, last) = state(&[]);
    let counts = &lines[0]["counts"];
    assert_eq!([&lines[0]["stage"], &counts["taken"], &last["stages"]], [&json!("totals"), &json!(123), &json!(1)]);
    let (rows, last) = state(&["--stage", "totals"]);
    let found: BTreeMap<u64, u64> = rows
        .iter()
        .map(|row| {
            let parts: Vec<_> = row["parts"].as_object().unwrap().values().collect();
            assert_eq!(parts.len(), 1, "{row}");
            (row["key"].as_str().unwrap().parse().unwrap(), parts[0].as_u64().unwrap())
        })
        .collect();
    assert_eq!((rows.len(), &last["states"]), (40, &json!(40)));
    assert_eq!(found, (0..40).map(|shop| (shop, 3 * shop + if shop < 3 { 1_000 } else { 0 })).collect());
    assert!(!state(&["stage_delta"]).0.is_empty() && !state(&["stage_state"]).0.is_empty());
    assert_eq!(state(&["--stage", "totals", "--limit", "7"]).1["states"], 7);
    assert_eq!(millstream(["verify", "--json", file.to_str().unwrap()]).ok().split().1["sound"], true);
    let (kind, message) = millstream(["state", "--json", "--stage", "none", file.to_str().unwrap()]).refusal();
    assert!(kind == "missing" && message.contains("totals"), "{message}");
}

#[test]
fn looking_changes_no_byte_even_of_a_file_that_was_not_closed() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let closed = fs::read(&file).unwrap();
    // What a process leaves behind that is killed now.
    let open = millstream::store::Redb::open(&file).unwrap();
    let killed = fs::read(&file).unwrap();
    drop(open);
    assert!(closed != killed);
    for (name, bytes) in [("closed.redb", closed), ("killed.redb", killed)] {
        let file = folder.file(name);
        fs::write(&file, &bytes).unwrap();
        let path = file.to_str().unwrap();
        let copy = folder.file(&format!("copy of {name}"));
        let export = folder.file(&format!("export of {name}"));
        for args in [
            vec!["inspect", path],
            vec!["log", path],
            vec!["state", path],
            vec!["state", path, "dead"],
            vec!["dlq", "list", path],
            vec!["dlq", "show", path, "1"],
            vec!["verify", path],
            vec!["export", path, export.to_str().unwrap()],
            vec!["backup", path, copy.to_str().unwrap()],
        ] {
            let ran = millstream(&args).ok();
            assert!(!ran.stdout.is_empty(), "{args:?}");
            assert!(fs::read(&file).unwrap() == bytes, "{args:?} of {name}");
        }
    }
}

#[test]
fn a_backup_holds_the_same_and_is_written_over_nothing() {
    let folder = Folder::new();
    let (file, copy) = (folder.file("events.redb"), folder.file("copy.redb"));
    fill(&file);
    let (file, to) = (file.to_str().unwrap(), copy.to_str().unwrap());
    let last = millstream(["backup", "--json", file, to]).ok().split().1;
    assert_eq!(last["bytes"], fs::metadata(&copy).unwrap().len());
    assert!(fs::metadata(&copy).unwrap().len() <= fs::metadata(file).unwrap().len(), "a copy needs no room to spare");
    for args in [vec!["log", "--json"], vec!["dlq", "list", "--json"], vec!["state", "--json"]] {
        let of = |file| millstream([&args[..], &[file]].concat()).ok().stdout;
        assert_eq!(of(file), of(to), "{args:?}");
    }
    let before = fs::read(&copy).unwrap();
    let (kind, message) = millstream(["backup", "--json", file, to]).refusal();
    assert!(kind == "exists" && message.contains("copy.redb") && fs::read(&copy).unwrap() == before, "{message}");
}

#[test]
fn compact_makes_a_file_smaller_and_loses_nothing() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let path = file.to_str().unwrap();
    let events = millstream(["log", "--json", path]).ok().stdout;
    let length = || fs::metadata(&file).unwrap().len();
    let before = length();
    let last = millstream(["compact", "--json", path]).ok().split().1;
    assert_eq!([&last["before"], &last["after"]], [before, length()]);
    assert!(length() < before, "{last}");
    assert_eq!(millstream(["log", "--json", path]).ok().stdout, events);
    assert_eq!(millstream(["verify", "--json", path]).ok().split().1["sound"], true);
}

#[test]
fn who_reads_our_output_may_stop_at_any_time() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let script = format!("{} log {} | true", env!("CARGO_BIN_EXE_millstream"), file.display());
    let ran = finish(Command::new("sh").args(["-c", &script]), "");
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
}
