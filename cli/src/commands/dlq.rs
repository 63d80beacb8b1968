//! `dlq`: what was given up. A damaged letter is named, and hides no other.

use std::{path::Path, process::ExitCode};

use millstream::{
    Clock, DeadLetter, DeadLetterFilter, Replay,
    archive::{Archive, DamagedLetter, Letters},
    store::Redb,
};
use serde_json::json;

use super::log::event;
use crate::{
    Verdict,
    args::{ChosenLetters, Letters as LettersArgs, Replay as ReplayArgs},
    failure::Failure,
    files,
    output::Output,
    words,
};

pub(crate) async fn list(args: &LettersArgs, partition: u32, out: &mut Output) -> Verdict {
    let (store, damage) = look(&args.file)?;
    let found = files::archive(&store, partition)?.dead_letters(&args.filter.build()).await?;
    for letter in &found.letters {
        out.item(letter, line)?;
    }
    // What is wrong with the file itself is what is wrong with its letters, unless these know better.
    let damage = damage.filter(|_| found.damaged.is_empty());
    damage.iter().try_for_each(|what| out.item(&json!({ "damaged": what }), |_| format!("damaged: {what}")))?;
    found.damaged.iter().try_for_each(|letter| out.item(letter, damaged_line))?;
    let (letters, damaged) = (found.letters.len() as u64, found.damaged.len() as u64);
    out.done(&json!({"command": "dlq list", "letters": letters, "damaged": damaged}), |_| {
        let count = words::count(letters, "dead letter", "dead letters");
        if damage.is_some() { format!("{count}; {ELSEWHERE}") } else { format!("{count}{}", advice(&found.damaged)) }
    })?;
    Ok(verdict(found.damaged.is_empty() && damage.is_none()))
}

pub(crate) async fn show(file: &Path, number: u64, partition: u32, out: &mut Output) -> Result<(), Failure> {
    let (store, damage) = look(file)?;
    let found = named(&files::archive(&store, partition)?, &[number], Unread::Refuse).await?;
    found.letters.iter().try_for_each(|letter| out.item(letter, whole))?;
    damage.iter().try_for_each(|what| {
        out.aside(&json!({ "damaged": what }), |_| format!("this letter is as it was written; damaged: {what}"))
    })
}

/// Opens a file to look at its letters, each of which is checked when it is read. Says what is damaged where the whole is not.
fn look(file: &Path) -> Result<(Redb, Option<String>), Failure> {
    match files::look(file) {
        Ok(store) => Ok((store, None)),
        Err(failure) => {
            let what = failure.into_damaged()?;
            Ok((files::look_unchecked(file)?, Some(what)))
        }
    }
}

/// What becomes of letters that are named by their numbers and damaged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unread {
    Refuse,
    Allow,
}

/// The letters of these numbers; each must be there.
async fn named(archive: &Archive, numbers: &[u64], unread: Unread) -> Result<Letters, Failure> {
    let found = archive.dead_letters(&DeadLetterFilter::all().numbers(numbers.iter().copied())).await?;
    for number in numbers {
        if found.letters.iter().any(|letter| letter.number == *number) {
            continue;
        }
        let Some(damaged) = found.damaged.iter().find(|damaged| damaged.number == Some(*number)) else {
            let known = format!("there is no dead letter {number}: `dlq list` names them all");
            return Err(Failure::new("missing", known));
        };
        if unread == Unread::Refuse {
            let what = &damaged.what;
            let message = format!("dead letter {number} cannot be read: {what}; {WAYS_OUT} removes it unread");
            return Err(Failure::new("corrupt", message));
        }
    }
    Ok(found)
}

pub(crate) async fn replay(args: &ReplayArgs, partition: u32, out: &mut Output) -> Verdict {
    let letters = &args.letters;
    let store = files::change_at(&letters.file, letters.damaged)?;
    let mut replay = Replay::of(letters.build()).limit(args.limit);
    replay = args.rate.into_iter().fold(replay, Replay::rate);
    let archive = files::archive(&store, partition)?;
    let mut damaged = named(&archive, &letters.number, Unread::Refuse).await?.damaged;
    if !letters.number.is_empty() {
        // Nobody has asked for those.
        damaged.clear();
    }
    let report = archive.replay(&replay, &Clock::system()).await?;
    let (replayed, kept) = (report.replayed as u64, report.kept as u64);
    damaged.iter().try_for_each(|letter| out.item(letter, damaged_line))?;
    let summary = json!({"command": "dlq replay", "replayed": replayed, "kept": kept, "damaged": damaged.len()});
    out.done(&summary, |_| {
        let stay = match kept {
            0 => String::new(),
            kept => format!(
                "; {}: no subscription or stage has the name, or the aggregate has gone on",
                words::count(kept, "letter stays", "letters stay")
            ),
        };
        let wait = words::count(replayed, "delivery waits", "deliveries wait");
        format!("{wait} for a runtime to open the file{stay}{}", advice(&damaged))
    })?;
    Ok(verdict(damaged.is_empty()))
}

pub(crate) async fn purge(args: &ChosenLetters, partition: u32, out: &mut Output) -> Verdict {
    let store = files::change_at(&args.file, args.damaged)?;
    let archive = files::archive(&store, partition)?;
    let unread = if args.damaged { Unread::Allow } else { Unread::Refuse };
    let before = named(&archive, &args.number, unread).await?.damaged;
    let purged = archive.purge(&args.build()).await?;
    purged.letters.iter().try_for_each(|letter| out.item(letter, line))?;
    purged.damaged.iter().try_for_each(|letter| out.item(letter, damaged_line))?;
    // Nobody has asked for others where numbers were given.
    let left = before.into_iter().filter(|letter| args.number.is_empty() && !purged.damaged.contains(letter));
    let left: Vec<_> = left.collect();
    left.iter().try_for_each(|letter| out.item(letter, damaged_line))?;
    let count = (purged.letters.len() + purged.damaged.len()) as u64;
    out.done(&json!({"command": "dlq purge", "purged": count, "damaged": left.len()}), |_| {
        let gone = words::count(count, "dead letter is", "dead letters are");
        format!("{gone} gone for good{}", advice(&left))
    })?;
    Ok(verdict(left.is_empty()))
}

const WAYS_OUT: &str = "restore a backup, or `dlq purge FILE NUMBER --damaged`";
const ELSEWHERE: &str = "the file is damaged elsewhere, where a letter may be missing: run `verify`";

/// What is to be done about letters that cannot be read.
pub(super) fn advice(damaged: &[DamagedLetter]) -> String {
    if damaged.is_empty() {
        return String::new();
    }
    let count = words::count(damaged.len() as u64, "letter is damaged and stays", "letters are damaged and stay");
    format!("; {count}: {WAYS_OUT} removes one unread")
}

/// A letter that cannot be read, in one line.
pub(super) fn damaged_line(letter: &DamagedLetter) -> String {
    let number = letter.number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    format!("{number:>6}  damaged: {}", letter.what)
}

fn verdict(is_sound: bool) -> ExitCode {
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
        lines.push(format!("attempt {attempt} at {at}: {kind}{code}: {}", failure.message));
    }
    lines.join("\n")
}
