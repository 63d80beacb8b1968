//! Dead letters of a closed file: list, show, replay, purge, as a runtime would.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod support;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use millstream::{Context, DeadLetterFilter, Draft, Handler, HandlerError, Start};
use serde_json::{Value, json};
use support::{Folder, block_on, close, fill, millstream, open, order};

type Seen = Arc<Mutex<Vec<u64>>>;

/// Keeps the numbers of the orders that it handles, and fails for those that it dislikes.
fn seeing(seen: &Seen, dislikes: Option<u64>) -> impl Handler<(Context,)> + use<> {
    let seen = Arc::clone(seen);
    move |context: Context| {
        let seen = Arc::clone(&seen);
        async move {
            let id = context.event().data().to_json().unwrap()["id"].as_u64().unwrap();
            if dislikes == Some(id) {
                return Err(HandlerError::permanent("no"));
            }
            seen.lock().unwrap().push(id);
            Ok(())
        }
    }
}

/// What `bank` and `audit` handle when the file is opened again.
fn handled(path: &Path) -> (Vec<u64>, Vec<u64>) {
    let (bank, audit) = (Seen::default(), Seen::default());
    block_on(async {
        let runtime = open(path);
        runtime.on("order.*", seeing(&bank, None).named("bank")).unwrap();
        runtime.on("order.*", seeing(&audit, None).named("audit")).unwrap();
        runtime.process().await.unwrap();
        close(runtime).await;
    });
    let numbers = |seen: Seen| seen.lock().unwrap().clone();
    (numbers(bank), numbers(audit))
}

fn list(path: &str, args: &[&str]) -> Vec<Value> {
    millstream([&["dlq", "list", "--json", path], args].concat()).ok().split().0
}

#[test]
fn list_and_show_say_what_was_given_up_and_why() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let path = file.to_str().unwrap();
    let letters = list(path, &[]);
    assert_eq!(letters.iter().map(|letter| &letter["event"]["data"]["id"]).collect::<Vec<_>>(), [3, 6]);
    let id = letters[1]["event"]["id"].as_str().unwrap();
    for (args, count) in [
        (["--subscription", "bank"], 2),
        (["--subscription", "audit"], 0),
        (["--event", "order.>"], 2),
        (["--id", id], 1),
        (["--key", "k0"], 2),
        (["--tenant", "acme"], 0),
        (["--death", "permanent"], 2),
        (["--death", "loop"], 0),
    ] {
        assert_eq!(list(path, &args).len(), count, "{args:?}");
    }
    let shown = &millstream(["dlq", "show", "--json", path, "2"]).ok().lines()[0];
    assert_eq!(shown, &letters[1]);
    let text = millstream(["dlq", "show", path, "2"]).ok().stdout;
    assert!(text.contains("no order 6") && text.contains("permanent after 1 attempt: ") && text.contains(id), "{text}");
    let (kind, message) = millstream(["dlq", "show", "--json", path, "9"]).refusal();
    assert!(kind == "missing" && message.contains("dlq list"), "{message}");
}

#[test]
fn a_replayed_letter_is_delivered_once_and_to_its_own_subscription_alone() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    // All but the letters is handled before, by whoever comes later as well.
    assert_eq!(handled(&file), (vec![], vec![]));
    let path = file.to_str().unwrap();
    let last = millstream(["dlq", "replay", "--json", path, "2"]).ok().split().1;
    assert_eq!((&last["replayed"], &last["kept"]), (&json!(1), &json!(0)));
    assert_eq!(list(path, &[]).iter().map(|letter| &letter["number"]).collect::<Vec<_>>(), [1]);
    let rows = millstream(["state", "--json", path, "failed"]).ok().split().0;
    assert_eq!(
        [&rows[0]["standing"], &rows[0]["attempt"], &rows[0]["failures"]],
        [&json!("waiting"), &json!(1), &json!([])]
    );
    assert_eq!(handled(&file), (vec![6], vec![]));
    assert_eq!(handled(&file), (vec![], vec![]));
}

#[test]
fn a_replayed_letter_that_fails_again_is_a_letter_again_under_the_same_id() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let path = file.to_str().unwrap();
    let before = list(path, &["--key", "k0"]);
    assert_eq!(millstream(["dlq", "replay", "--json", path, "--all", "--limit", "1"]).ok().split().1["replayed"], 1);
    block_on(async {
        let runtime = open(&file);
        runtime.on("order.*", support::failing(|_| true).named("bank")).unwrap();
        runtime.process().await.unwrap();
        close(runtime).await;
    });
    let after = list(path, &[]);
    assert_eq!(after.iter().map(|letter| &letter["number"]).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(after[1]["event"]["id"], before[0]["event"]["id"]);
}

/// Orders of one key, of which the bank halts at the second.
fn halt(path: &Path) {
    block_on(async {
        let runtime = open(path);
        let bank = seeing(&Seen::default(), Some(1)).named("bank").ordered_by_key().halt_key_on_dead();
        runtime.on("order.*", bank).unwrap();
        for id in 0..4 {
            runtime.emit(order(id).key("one")).unwrap().await.unwrap();
        }
        // What is parked behind the key is never at rest: it is enough that the letter is there.
        while runtime.dead_letters(&DeadLetterFilter::all()).is_empty() {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(20), runtime.process()).await;
        }
        close(runtime).await;
    });
}

fn after_halt(path: &Path) -> Vec<u64> {
    let seen = Seen::default();
    block_on(async {
        let runtime = open(path);
        runtime.on("order.*", seeing(&seen, None).named("bank").ordered_by_key().halt_key_on_dead()).unwrap();
        let _ = tokio::time::timeout(std::time::Duration::from_millis(300), runtime.process()).await;
        close(runtime).await;
    });
    seen.lock().unwrap().clone()
}

#[test]
fn a_replayed_head_of_a_halted_key_goes_first_and_the_rest_follows() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    halt(&file);
    assert!(after_halt(&file).is_empty());
    millstream(["dlq", "replay", file.to_str().unwrap(), "--key", "one"]).ok();
    assert_eq!(after_halt(&file), [1, 2, 3]);
}

#[test]
fn a_halted_key_goes_on_without_a_head_that_was_purged() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    halt(&file);
    let (gone, last) = millstream(["dlq", "purge", "--json", file.to_str().unwrap(), "--all"]).ok().split();
    assert_eq!((gone.len(), &last["purged"]), (1, &json!(1)));
    assert_eq!(after_halt(&file), [2, 3]);
    assert!(list(file.to_str().unwrap(), &[]).is_empty());
}

#[test]
fn replaying_a_loop_emits_its_event_again_as_a_new_root() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    block_on(async {
        let store = millstream::store::Redb::open(&file).unwrap();
        let runtime = millstream::Runtime::builder().store(store).max_event_depth(2).build().unwrap();
        let again = |_: Context| async { Draft::json("echo.again", json!({"id": 1})) };
        runtime.on("echo.*", again.named("echo").starting_at(Start::Earliest)).unwrap();
        runtime.emit(Draft::json("echo.first", json!({"id": 1}))).unwrap().await.unwrap();
        runtime.process().await.unwrap();
        close(runtime).await;
    });
    let path = file.to_str().unwrap();
    let letter = &list(path, &["--death", "loop"])[0];
    let from = millstream(["log", "--json", path]).ok().split().1["next"].to_string();
    assert_eq!(millstream(["dlq", "replay", "--json", path, "--all"]).ok().split().1["replayed"], 1);
    let (added, _) = millstream(["log", "--json", path, "--from", &from]).ok().split();
    assert_eq!((added.len(), &added[0]["name"], &added[0]["depth"]), (1, &json!("echo.again"), &json!(0)));
    assert_ne!(added[0]["id"], letter["event"]["id"]);
}

#[test]
fn a_letter_whose_subscription_nobody_knows_stays() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    block_on(async {
        let runtime = open(&file);
        runtime.process().await.unwrap();
        runtime.forget("bank");
        runtime.process().await.unwrap();
        close(runtime).await;
    });
    let path = file.to_str().unwrap();
    let last = millstream(["dlq", "replay", "--json", path, "--all"]).ok().split().1;
    assert_eq!((&last["replayed"], &last["kept"], list(path, &[]).len()), (&json!(0), &json!(2), 2));
}

#[test]
fn nothing_is_replayed_or_purged_unless_it_is_said_what() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    for command in ["replay", "purge"] {
        let ran = millstream(["dlq", command, file.to_str().unwrap()]);
        assert!(ran.code == Some(2) && ran.stderr.contains("--all"), "{}", ran.stderr);
    }
    assert_eq!(list(file.to_str().unwrap(), &[]).len(), 2);
}

#[test]
fn a_letter_that_is_not_there_is_an_error_before_anything_is_done() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let path = file.to_str().unwrap();
    for command in ["replay", "purge"] {
        for numbers in [&["99"][..], &["1", "99"], &["99", "--subscription", "bank"]] {
            let (kind, message) = millstream([&["dlq", command, "--json", path], numbers].concat()).refusal();
            assert!(kind == "missing" && message.contains("no dead letter 99"), "{command} {numbers:?}: {message}");
            assert_eq!(list(path, &[]).len(), 2, "{command} {numbers:?}");
        }
        // Nobody has named a letter here, so none that is selected is no mistake.
        millstream(["dlq", command, path, "--subscription", "audit"]).ok();
    }
    let text = millstream(["dlq", "replay", path, "1"]).ok().stdout;
    assert_eq!(text, "1 delivery waits for a runtime to open the file\n");
    let text = millstream(["dlq", "purge", path, "2"]).ok().stdout;
    assert!(text.ends_with("\n1 dead letter is gone for good\n"), "{text}");
}

#[test]
fn a_rate_spreads_the_due_times() {
    let folder = Folder::new();
    let file = folder.file("events.redb");
    fill(&file);
    let path = file.to_str().unwrap();
    millstream(["dlq", "replay", path, "--subscription", "bank", "--rate", "2"]).ok();
    let rows = millstream(["state", "--json", path, "failed"]).ok().split().0;
    let due: Vec<_> = rows.iter().map(|row| row["due_ns"].as_u64().unwrap()).collect();
    assert_eq!(due[1] - due[0], 500_000_000);
}
