//! `state`: how far each subscription is, and the rows of any table.

use std::process::ExitCode;

use millstream::{
    DeadLetterFilter, Timestamp,
    archive::{Archive, KeyState, Row, StageState, SubscriptionState},
    store::{PartitionId, Redb, TableRow},
};
use serde::Serialize;
use serde_json::json;

use super::dlq::{advice, damaged_line};
use crate::{Verdict, args::State, failure::Failure, files, output::Output, words};

/// Rows that are read at a time.
const PAGE: usize = 1_024;

pub(crate) async fn run(args: &State, partition: u32, out: &mut Output) -> Verdict {
    let store = files::look(&args.file)?;
    let archive = files::archive(&store, partition)?;
    match (&args.table, &args.stage) {
        (Some(table), _) => rows(&store, table, args, partition, out)?,
        (None, Some(stage)) => states(&archive, stage, args.limit, out).await?,
        (None, None) => return subscriptions(&store, &archive, partition, out).await,
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Subscription<'a> {
    #[serde(flatten)]
    state: &'a SubscriptionState,
    /// Places behind it, of whatever name and class.
    behind: u64,
}

async fn subscriptions(store: &Redb, archive: &Archive, partition: u32, out: &mut Output) -> Verdict {
    let stats = store.stats()?;
    let mine = stats.partitions.iter().find(|other| other.partition == PartitionId(partition));
    let end = mine.map_or(0, |partition| partition.end.0);
    let subscriptions = archive.subscriptions().await?;
    for state in &subscriptions {
        let read = state.read.iter().map(|reading| reading.place).min().unwrap_or_default();
        out.item(&Subscription { state, behind: end.saturating_sub(read) }, line)?;
    }
    let stages = archive.stages().await?;
    for stage in &stages {
        out.item(stage, stage_line)?;
    }
    let (mut delayed, mut next_due) = (0, None::<Timestamp>);
    archive
        .delayed(|due, _| {
            delayed += 1;
            next_due.get_or_insert(due);
        })
        .await?;
    let damaged = archive.dead_letters(&DeadLetterFilter::all()).await?.damaged;
    damaged.iter().try_for_each(|letter| out.item(letter, damaged_line))?;
    let (count, stages) = (subscriptions.len(), stages.len());
    let summary = json!({
        "command": "state", "subscriptions": count, "stages": stages, "end": end, "delayed": delayed, "next_due_ns": next_due,
        "damaged": damaged.len(),
    });
    out.done(&summary, |_| {
        let next = next_due.map(|due| format!(", the next one due {}", words::time(due))).unwrap_or_default();
        format!(
            "{}, {}; the next place is {end}; {}{next}",
            words::count(count as u64, "subscription", "subscriptions"),
            words::count(stages as u64, "stage", "stages"),
            words::count(delayed, "delayed event", "delayed events")
        ) + &advice(&damaged)
    })?;
    Ok(if damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(subscription: &Subscription<'_>) -> String {
    let Subscription { state, behind } = subscription;
    let SubscriptionState { name, pattern, waiting, blocked, dead, .. } = state;
    let behind = words::count(*behind, "place", "places");
    let open = state.read.iter().map(|reading| reading.open as u64).sum();
    let [open, waiting, blocked, dead] = [open, *waiting, *blocked, *dead].map(words::number);
    let due = state.next_due_ns.map(|due| format!(", next {}", words::time(due))).unwrap_or_default();
    format!("{name} on {pattern}: {behind} behind, {open} open, {waiting} waiting{due}, {blocked} blocked, {dead} dead")
}

fn stage_line(stage: &StageState) -> String {
    let StageState { stage, version, epoch, place, counts, .. } = stage;
    let [taken, emitted, dead] = [counts.taken, counts.emitted, counts.dead].map(words::number);
    format!(
        "stage {stage}, version {version}: before place {place}, epoch {epoch}, {taken} taken, {emitted} emitted, {dead} dead"
    )
}

async fn states(archive: &Archive, stage: &str, limit: usize, out: &mut Output) -> Result<(), Failure> {
    let names: Vec<String> = archive.stages().await?.into_iter().map(|stage| stage.stage).collect();
    if !names.iter().any(|name| name == stage) {
        return Err(Failure::new("missing", format!("there is no stage `{stage}`; there are: {}", names.join(", "))));
    }
    let (mut count, mut written) = (0, Ok(()));
    archive
        .states(stage, |state| {
            if written.is_ok() && count < limit {
                written = out.item(&state, state_line);
                count += 1;
            }
            written.is_ok() && count < limit
        })
        .await?;
    written?;
    out.done(&json!({"command": "state", "stage": stage, "states": count}), |_| {
        words::count(count as u64, "state", "states")
    })
}

fn state_line(state: &KeyState) -> String {
    let KeyState { tenant, key, due_ns, waiting, parts, .. } = state;
    let tenant = tenant.as_ref().map(|tenant| format!("{tenant} ")).unwrap_or_default();
    let due = due_ns.map(|due| format!("  due {}", words::time(due))).unwrap_or_default();
    let waiting = if *waiting > 0 { format!("  {waiting} waiting") } else { String::new() };
    let parts: Vec<_> = parts.iter().map(|(label, part)| format!("  {label}={part}")).collect();
    format!("{tenant}{key}{due}{waiting}{}", parts.concat())
}

#[derive(Serialize)]
struct Shown<'a> {
    table: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    until_ns: Option<Timestamp>,
    #[serde(flatten)]
    row: Row,
}

fn rows(store: &Redb, table: &str, args: &State, partition: u32, out: &mut Output) -> Result<(), Failure> {
    let mut count = 0;
    each_row(store, table, |row| {
        if count < args.limit && row.partition.0 == partition {
            let shown = Shown { table, until_ns: row.until, row: Row::parse(table, &row.key, &row.value)? };
            if args.prefix.is_empty() || shown.row.key().is_some_and(|key| key.starts_with(&args.prefix)) {
                out.item(&shown, text)?;
                count += 1;
            }
        }
        Ok(count < args.limit)
    })?;
    out.done(&json!({"command": "state", "table": table, "rows": count}), |_| words::count(count as u64, "row", "rows"))
}

/// A row in one line: what a program would get, without the braces around it.
fn text(shown: &Shown<'_>) -> String {
    serde_json::to_string(&shown.row).unwrap_or_default()
}

/// All rows of a table, while `row` wants more.
pub(super) fn each_row(
    store: &Redb,
    table: &str,
    mut row: impl FnMut(TableRow) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let inspector = store.inspector();
    let mut after = None::<(PartitionId, Vec<u8>)>;
    loop {
        let from = after.as_ref().map(|(partition, key)| (*partition, &key[..]));
        let Some(page) = inspector.rows(table, from, PAGE)? else {
            let names = inspector.tables()?.join(", ");
            return Err(Failure::new("missing", format!("there is no table `{table}`; there are: {names}")));
        };
        let is_last = page.len() < PAGE;
        for found in page {
            after = Some((found.partition, found.key.to_vec()));
            if !row(found)? {
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
        }
    }
}
