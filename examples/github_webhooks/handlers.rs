//! The handlers, as a service would have them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use millstream::{Context, Draft, Event, HandlerError, Json, State};
use serde::{Deserialize, Serialize};

use crate::schemas::Schemas;

/// What each handler tells the summary.
#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "report.done")]
pub(crate) struct Done {
    handler: String,
    webhook: String,
}

/// Counts what was done, by handler and type.
#[derive(Clone, Default)]
pub(crate) struct Summary(Arc<Mutex<BTreeMap<String, BTreeMap<String, u64>>>>);

impl Summary {
    /// How much each handler has done.
    pub(crate) fn by_handler(&self) -> Vec<(String, u64)> {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        done.iter().map(|(handler, webhooks)| (handler.clone(), webhooks.values().sum())).collect()
    }
}

/// A search index that takes no releases until it is mended.
#[derive(Clone, Default)]
pub(crate) struct Index(Arc<AtomicBool>);

impl Index {
    pub(crate) fn mend(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_mended(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn webhook_of(context: &Context) -> String {
    context.event().header("x-github-event").unwrap_or_default().to_owned()
}

fn done(handler: &str, context: &Context) -> Done {
    Done { handler: handler.to_owned(), webhook: webhook_of(context) }
}

/// Lets through what GitHub's own schema allows. What it does not is a dead letter, and no retry would help.
pub(crate) async fn validate(
    State(schemas): State<Arc<Schemas>>,
    context: Context,
    Json(payload): Json,
) -> Result<Draft, HandlerError> {
    let webhook = webhook_of(&context);
    schemas.check(&webhook, &payload).map_err(|reason| HandlerError::permanent(reason).with_code("schema"))?;
    let name = context.event().name().as_str().replacen("webhook", "github", 1);
    let draft = Draft::json(&name, payload).header("x-github-event", webhook);
    Ok(match context.event().key() {
        Some(repository) => draft.key(repository),
        None => draft,
    })
}

/// Slow: it waits for a disk or a bucket far away, and holds up nobody.
pub(crate) async fn archive(context: Context) -> Done {
    tokio::time::sleep(Duration::from_millis(10)).await;
    done("archive", &context)
}

/// Fails twice for each event, then succeeds.
pub(crate) async fn notify(context: Context) -> Result<Done, HandlerError> {
    if context.attempt() <= 2 {
        return Err(HandlerError::transient(format!("the chat server answered 503 to attempt {}", context.attempt())));
    }
    Ok(done("notify", &context))
}

/// Fails for every release until the index is mended.
pub(crate) async fn index(State(index): State<Index>, context: Context) -> Result<Done, HandlerError> {
    if webhook_of(&context) == "release" && !index.is_mended() {
        return Err(HandlerError::permanent("the index has no mapping for releases").with_code("mapping"));
    }
    Ok(done("index", &context))
}

/// Where everything comes together.
pub(crate) async fn summarise(State(summary): State<Summary>, report: Done) {
    let mut done = summary.0.lock().unwrap_or_else(PoisonError::into_inner);
    *done.entry(report.handler).or_default().entry(report.webhook).or_default() += 1;
}
