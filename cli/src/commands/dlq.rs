//! `dlq`: what was given up.

use std::path::Path;

use millstream::{Clock, DeadLetter, DeadLetterFilter, Replay};
use serde_json::json;

use super::log::event;
use crate::{
    args::{ChosenLetters, Letters, Replay as ReplayArgs},
    failure::Failure,
    files,
    output::Output,
    times,
};

pub(crate) async fn list(args: &Letters, partition: u32, out: &mut Output) -> Result<(), Failure> {
    let store = files::look(&args.file)?;
    let letters = files::archive(&store, partition).dead_letters(&args.filter.build()).await?;
    for letter in &letters {
        out.item(letter, line)?;
    }
    let count = letters.len();
    out.done(&json!({"command": "dlq list", "letters": count}), |_| format!("{count} dead letters"))
}

pub(crate) async fn show(file: &Path, number: u64, partition: u32, out: &mut Output) -> Result<(), Failure> {
    let store = files::look(file)?;
    let letters = files::archive(&store, partition).dead_letters(&DeadLetterFilter::all().numbers([number])).await?;
    let Some(letter) = letters.first() else {
        return Err(Failure::new("missing", format!("there is no dead letter {number}: `dlq list` names them all")));
    };
    out.item(letter, whole)
}

pub(crate) async fn replay(args: &ReplayArgs, partition: u32, out: &mut Output) -> Result<(), Failure> {
    let store = files::change(&args.letters.file)?;
    let mut replay = Replay::of(args.letters.build()).limit(args.limit);
    replay = args.rate.into_iter().fold(replay, Replay::rate);
    let report = files::archive(&store, partition).replay(&replay, &Clock::system()).await?;
    let (replayed, kept) = (report.replayed, report.kept);
    out.done(&json!({"command": "dlq replay", "replayed": replayed, "kept": kept}), |_| {
        let stay = match kept {
            0 => String::new(),
            kept => format!("; {kept} stay, for no subscription has their name (a stage replays none) or their aggregate has gone on"),
        };
        format!("{replayed} deliveries wait for a runtime to open the file{stay}")
    })
}

pub(crate) async fn purge(args: &ChosenLetters, partition: u32, out: &mut Output) -> Result<(), Failure> {
    let store = files::change(&args.file)?;
    let purged = files::archive(&store, partition).purge(&args.build()).await?;
    for letter in &purged {
        out.item(letter, line)?;
    }
    let count = purged.len();
    out.done(&json!({"command": "dlq purge", "purged": count}), |_| format!("{count} dead letters are gone for good"))
}

fn line(letter: &DeadLetter) -> String {
    let DeadLetter { number, death, attempts, .. } = letter;
    let (died, who) = (times::show(letter.died_at), letter.subscription.as_deref().unwrap_or("(no subscription)"));
    let (id, name) = (letter.event.id(), letter.event.name());
    format!("{number:>6}  {died}  {who}  {name} {id}  {death} after {attempts} attempts: {}", letter.reason())
}

fn whole(letter: &DeadLetter) -> String {
    let mut lines = vec![line(letter), format!("event   {}", event(&letter.event))];
    for failure in &letter.failures {
        let code = failure.code.as_deref().map(|code| format!(" [{code}]")).unwrap_or_default();
        let (at, attempt, kind) = (times::show(failure.at), failure.attempt, failure.kind);
        lines.push(format!("attempt {attempt} at {at}: {kind:?}{code}: {}", failure.message));
    }
    lines.join("\n")
}
