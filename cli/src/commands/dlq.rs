//! `dlq`: what was given up.

use std::path::Path;

use millstream::{Clock, DeadLetter, DeadLetterFilter, Replay, archive::Archive};
use serde_json::json;

use super::log::event;
use crate::{
    args::{ChosenLetters, Letters, Replay as ReplayArgs},
    failure::Failure,
    files,
    output::Output,
    words,
};

pub(crate) async fn list(args: &Letters, partition: u32, out: &mut Output) -> Result<(), Failure> {
    let store = files::look(&args.file)?;
    let letters = files::archive(&store, partition)?.dead_letters(&args.filter.build()).await?;
    for letter in &letters {
        out.item(letter, line)?;
    }
    let count = letters.len() as u64;
    out.done(&json!({"command": "dlq list", "letters": count}), |_| words::count(count, "dead letter", "dead letters"))
}

pub(crate) async fn show(file: &Path, number: u64, partition: u32, out: &mut Output) -> Result<(), Failure> {
    let store = files::look(file)?;
    let letters = named(&files::archive(&store, partition)?, &[number]).await?;
    letters.iter().try_for_each(|letter| out.item(letter, whole))
}

/// The letters of these numbers; each must be there.
async fn named(archive: &Archive, numbers: &[u64]) -> Result<Vec<DeadLetter>, Failure> {
    let letters = archive.dead_letters(&DeadLetterFilter::all().numbers(numbers.iter().copied())).await?;
    match numbers.iter().find(|number| letters.iter().all(|letter| letter.number != **number)) {
        None => Ok(letters),
        Some(number) => {
            Err(Failure::new("missing", format!("there is no dead letter {number}: `dlq list` names them all")))
        }
    }
}

pub(crate) async fn replay(args: &ReplayArgs, partition: u32, out: &mut Output) -> Result<(), Failure> {
    let store = files::change(&args.letters.file)?;
    let mut replay = Replay::of(args.letters.build()).limit(args.limit);
    replay = args.rate.into_iter().fold(replay, Replay::rate);
    let archive = files::archive(&store, partition)?;
    named(&archive, &args.letters.number).await?;
    let report = archive.replay(&replay, &Clock::system()).await?;
    let (replayed, kept) = (report.replayed as u64, report.kept as u64);
    out.done(&json!({"command": "dlq replay", "replayed": replayed, "kept": kept}), |_| {
        let stay = match kept {
            0 => String::new(),
            kept => format!(
                "; {}: no subscription or stage has the name, or the aggregate has gone on",
                words::count(kept, "letter stays", "letters stay")
            ),
        };
        let wait = words::count(replayed, "delivery waits", "deliveries wait");
        format!("{wait} for a runtime to open the file{stay}")
    })
}

pub(crate) async fn purge(args: &ChosenLetters, partition: u32, out: &mut Output) -> Result<(), Failure> {
    let store = files::change(&args.file)?;
    let archive = files::archive(&store, partition)?;
    named(&archive, &args.number).await?;
    let purged = archive.purge(&args.build()).await?;
    for letter in &purged {
        out.item(letter, line)?;
    }
    let count = purged.len() as u64;
    out.done(&json!({"command": "dlq purge", "purged": count}), |_| {
        format!("{} gone for good", words::count(count, "dead letter is", "dead letters are"))
    })
}

fn line(letter: &DeadLetter) -> String {
    let DeadLetter { number, death, attempts, .. } = letter;
    let (died, who) = (words::time(letter.died_at), letter.subscription.as_deref().unwrap_or("(no subscription)"));
    let tried = words::count((*attempts).into(), "attempt", "attempts");
    let (id, name) = (letter.event.id(), letter.event.name());
    format!("{number:>6}  {died}  {who}  {name} {id}  {death} after {tried}: {}", letter.reason())
}

fn whole(letter: &DeadLetter) -> String {
    let mut lines = vec![line(letter), format!("event   {}", event(&letter.event))];
    for failure in &letter.failures {
        let code = failure.code.as_deref().map(|code| format!(" [{code}]")).unwrap_or_default();
        let (at, attempt, kind) = (words::time(failure.at), failure.attempt, failure.kind);
        lines.push(format!("attempt {attempt} at {at}: {kind:?}{code}: {}", failure.message));
    }
    lines.join("\n")
}
