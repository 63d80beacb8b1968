//! All that a runtime has, read through its own interface once it has come to rest.

use std::{collections::BTreeMap, error::Error, sync::Arc};

use futures::TryStreamExt as _;
use millstream::{AggregateHandle, DeadLetter, DeadLetterFilter, Death, Envelope, Event, Replay, Runtime, Storage};
use serde::de::DeserializeOwned;

use super::{
    chronicle::Lost,
    events::{rooms, tenant},
    plan::Plan,
};

/// The rows of a namespace, by key.
type Rows = BTreeMap<String, Vec<u8>>;
/// The events of aggregates, by tenant and id.
type Aggregates = BTreeMap<(u8, u32), Vec<Arc<Envelope>>>;

/// What was read.
#[derive(Debug)]
pub struct Found {
    /// The log, in its order.
    pub log: Vec<Arc<Envelope>>,
    /// Dead letters, but for what came late.
    pub letters: Vec<DeadLetter>,
    /// What came to the stage `windows` behind its watermark, and is a dead letter of it for good.
    pub late: Vec<DeadLetter>,
    /// How many events came late, by the stages' own count.
    pub counted_late: u64,
    /// How much each subscription was told that it has lost.
    pub lost: Lost,
    /// Stages that do not go on.
    pub parked: Vec<String>,
    /// By tenant and namespace.
    rows: BTreeMap<(u8, &'static str), Rows>,
    /// The events of each cart.
    pub carts: Aggregates,
    /// The events of each ledger.
    pub ledgers: Aggregates,
}

/// How many rows are read at once: fewer than there are.
const PAGE: usize = 50;

impl Found {
    /// Reads all; the log alone where all of it was kept.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn read(runtime: &Runtime, plan: &Plan) -> Result<Self, Box<dyn Error>> {
        let log = if plan.keeps_all() { runtime.history(">")?.events().try_collect().await? } else { Vec::new() };
        let mut rows = BTreeMap::new();
        for tenant in 0..plan.tenants() {
            for room in rooms::ALL {
                rows.insert((tenant, room), read_room(&storage(runtime, tenant, room)).await?);
            }
        }
        let (late, letters) =
            runtime.dead_letters(&DeadLetterFilter::all()).into_iter().partition(|letter| letter.death == Death::Late);
        let stages = runtime.stages();
        let counted_late = stages.iter().map(|stage| stage.counts.late).sum();
        let parked =
            stages.into_iter().filter_map(|stage| Some(format!("{}: {}", stage.name, stage.parked?))).collect();
        let carts = aggregates(runtime, plan, "cart", 3).await?;
        let ledgers = aggregates(runtime, plan, "ledger", plan.users).await?;
        Ok(Self { log, letters, late, counted_late, lost: lost(runtime), parked, rows, carts, ledgers })
    }

    /// The rows of a namespace, by the tenant and by the numbers that are their keys.
    ///
    /// # Errors
    /// A row that is none of its namespace.
    pub fn rows<T: DeserializeOwned>(&self, room: &str) -> Result<BTreeMap<(u8, u64), T>, String> {
        let of_tenants = self.rows.iter().filter(|((_, own), _)| *own == room);
        let rows = of_tenants.flat_map(|((tenant, _), rows)| rows.iter().map(move |row| (*tenant, row)));
        rows.map(|(tenant, (key, value))| {
            let value = serde_json::from_slice(value).map_err(|error| format!("row {key} of `{room}`: {error}"))?;
            Ok(((tenant, key.parse().map_err(|_| format!("`{room}` has a row {key}"))?), value))
        })
        .collect()
    }

    /// The events of a type, in the order of the log.
    pub fn events<T: Event>(&self) -> impl Iterator<Item = (&Envelope, T)> {
        let named = self.log.iter().filter(|event| event.name().as_str() == T::NAME);
        named.filter_map(|event| Some((&**event, event.decode().ok()?)))
    }
}

/// How much each subscription of a runtime was told that it has lost.
pub fn lost(runtime: &Runtime) -> Lost {
    let subscriptions = runtime.describe().subscriptions.into_iter();
    subscriptions.map(|subscription| (subscription.name, subscription.book.trimmed)).collect()
}

/// A tenant's storage.
pub fn storage(runtime: &Runtime, number: u8, room: &str) -> Storage {
    match tenant(number) {
        Some(tenant) => runtime.tenant(tenant).storage(room),
        None => runtime.storage(room),
    }
}

/// A tenant's aggregate.
pub fn aggregate(runtime: &Runtime, number: u8, kind: &str, id: u32) -> AggregateHandle {
    match tenant(number) {
        Some(tenant) => runtime.tenant(tenant).aggregate(kind, id.to_string()),
        None => runtime.aggregate(kind, id.to_string()),
    }
}

async fn read_room(storage: &Storage) -> Result<Rows, Box<dyn Error>> {
    let mut rows = Rows::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = storage.scan("", after.as_deref(), PAGE).await?;
        after = page.last().map(|(key, _)| key.to_vec());
        let is_last = page.len() < PAGE;
        for (key, value) in page {
            rows.insert(String::from_utf8(key.to_vec())?, value.to_vec());
        }
        if is_last {
            return Ok(rows);
        }
    }
}

async fn aggregates(runtime: &Runtime, plan: &Plan, kind: &str, count: u32) -> Result<Aggregates, Box<dyn Error>> {
    let mut found = BTreeMap::new();
    for (tenant, id) in (0..plan.tenants()).flat_map(|tenant| (0..count).map(move |id| (tenant, id))) {
        let events: Vec<_> = aggregate(runtime, tenant, kind, id).read(1).try_collect().await?;
        if !events.is_empty() {
            found.insert((tenant, id), events);
        }
    }
    Ok(found)
}

/// Replays all dead letters but for what came late, which would come later still and be counted once more.
pub fn replay(runtime: &Runtime) {
    let letters = runtime.dead_letters(&DeadLetterFilter::all());
    let numbers = letters.iter().filter(|letter| letter.death != Death::Late).map(|letter| letter.number);
    runtime.replay(&Replay::of(DeadLetterFilter::all().numbers(numbers)));
}
