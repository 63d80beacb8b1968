//! The main job: real GitHub webhook payloads through one runtime.
//!
//! Each payload is checked against GitHub's published schema; what passes fans out to three handlers (one slow, one
//! that fails twice and then succeeds, one that fails for one type of event until it is mended), and what they report
//! fans in to a summary. Dead letters are listed with their reasons, and replayed once the fault is mended.
//!
//! `cargo run --release --example github_webhooks [-- --input PATH] [-- --json]`
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

mod handlers;
mod report;
mod schemas;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use millstream::{DeadLetterFilter, Draft, Handler, Replay, Retry, Runtime};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    handlers::{Index, Summary, archive, notify, summarise, validate},
    report::Report,
    schemas::Schemas,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs real GitHub webhook payloads through a millstream runtime.
#[derive(Parser)]
struct Arguments {
    /// A list of `{name, examples: [payload]}`, such as `api.github.com/index.json` of `@octokit/webhooks-examples`.
    #[arg(long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Prints one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

/// All examples of one type of webhook, as the package has them.
#[derive(Deserialize)]
#[serde(expecting = "an object with `name` and `examples`")]
struct Examples {
    name: String,
    examples: Vec<Value>,
}

const SAMPLE: &str = include_str!("../data/github_webhooks.json");
const SCHEMA: &str = include_str!("../data/github_webhooks.schema.json");

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (report, summary) = run(&read(arguments.input.as_deref())?).await?;
    print!("{}", report.readable(&summary));
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// The whole life of a runtime.
async fn run(webhooks: &[Examples]) -> Result<(Report, Summary)> {
    let schemas = Arc::new(Schemas::compile(&serde_json::from_str(SCHEMA)?)?);
    let (index, summary) = (Index::default(), Summary::default());
    let runtime = Runtime::builder()
        .queue_size(256)
        .max_event_size(25 << 20)
        .state(schemas)
        .state(index.clone())
        .state(summary.clone())
        .build()?;
    subscribe(&runtime)?;
    // The runtime is driven beside the work that feeds it, on the same thread. `run` ends with the shutdown at the end of the
    // work; the first of the two that fails ends both.
    let drive = async { Ok(runtime.run().await?) };
    let (_, report) = tokio::try_join!(drive, work(&runtime, webhooks, &index))?;
    Ok((report, summary))
}

fn subscribe(runtime: &Runtime) -> Result<()> {
    runtime.on("webhook.>", validate.named("validate"))?;
    runtime.on("github.>", archive.named("archive (slow)").concurrency(32))?;
    let often = Retry::fixed(Duration::from_millis(5)).attempts(3);
    runtime.on("github.issues.*", notify.named("notify (fails twice)").retry(often))?;
    runtime.on("github.>", handlers::index.named("index (fails for releases)"))?;
    runtime.on("report.*", summarise.named("summary"))?;
    Ok(())
}

fn read(path: Option<&Path>) -> Result<Vec<Examples>> {
    let Some(path) = path else { return Ok(serde_json::from_str(SAMPLE)?) };
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let form = || format!("{} is not a list of `{{\"name\": \"push\", \"examples\": [payload]}}`", path.display());
    serde_json::from_str(&text).with_context(form)
}

/// Emits all payloads, waits for rest, mends the fault, replays, and shuts down.
async fn work(runtime: &Runtime, webhooks: &[Examples], index: &Index) -> Result<Report> {
    let received = webhooks.iter().map(|webhook| webhook.examples.len()).sum::<usize>();
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} payloads {elapsed}")?;
    let progress = ProgressBar::new(received as u64).with_style(style);
    let mut report = Report::new(received);
    for Examples { name, examples } in webhooks {
        report.count(name, examples.len());
        for payload in examples {
            let emitted = runtime.emit_wait(draft(name, payload.clone())).await;
            emitted.with_context(|| format!("an example of `{name}` cannot be emitted"))?;
            progress.inc(1);
        }
    }
    runtime.process().await?;
    progress.finish_and_clear();
    report.keep_dead_letters(runtime.dead_letters(&DeadLetterFilter::all()));
    index.mend();
    let broken = DeadLetterFilter::all().subscription("index (fails for releases)");
    report.replayed = runtime.replay(&Replay::of(broken)).replayed;
    runtime.process().await?;
    report.keep_subscriptions(runtime.describe().subscriptions);
    let left = runtime.shutdown(Duration::from_secs(10)).await?;
    report.finish(&runtime.stats(), &left);
    Ok(report)
}

/// A webhook as an event, named by its type and its action, ordered by its repository.
fn draft(webhook: &str, payload: Value) -> Draft {
    let name = match payload.get("action").and_then(Value::as_str) {
        Some(action) => format!("webhook.{webhook}.{action}"),
        None => format!("webhook.{webhook}"),
    };
    let repository = payload.pointer("/repository/full_name").and_then(Value::as_str).map(str::to_owned);
    let draft = Draft::json(&name, payload).source("github").header("x-github-event", webhook);
    match repository {
        Some(repository) => draft.key(repository),
        None => draft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a file with this text to its end. Time is virtual: what waits for nothing is late at once.
    async fn ran(text: &str) -> Result<Value> {
        let webhooks: Vec<Examples> = serde_json::from_str(text)?;
        let (report, _) = tokio::time::timeout(Duration::from_hours(1), run(&webhooks)).await.expect("it ends")?;
        Ok(serde_json::to_value(report)?)
    }

    #[tokio::test(start_paused = true)]
    async fn a_webhook_whose_name_is_none_ends_the_run_with_the_reason() {
        for name in ["", "a..b", "a b", "*"] {
            let error = ran(&serde_json::json!([{"name": name, "examples": [{}]}]).to_string()).await.unwrap_err();
            let said = format!("{error:#}");
            assert!(said.starts_with(&format!("an example of `{name}` cannot be emitted: ")), "{said}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_schema_knows_is_a_dead_letter_and_nothing_at_all_is_handled_as_well() {
        for (text, received) in
            [("[]", 0), (r#"[{"name":"foo","examples":[]}]"#, 0), (r#"[{"name":"foo","examples":[1,null]}]"#, 2)]
        {
            let report = ran(text).await.unwrap();
            assert_eq!([&report["received"], &report["emitted"], &report["invalid"]], [received; 3], "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_sample_is_handled_and_what_failed_is_replayed() {
        let report = ran(SAMPLE).await.unwrap();
        assert_eq!([&report["received"], &report["dropped"]], [120, 0]);
        assert!(report["replayed"].as_u64() > Some(0), "{report}");
        assert_eq!(
            report["dead_letters"].as_u64(),
            Some(report["invalid"].as_u64().unwrap() + report["replayed"].as_u64().unwrap())
        );
    }
}
