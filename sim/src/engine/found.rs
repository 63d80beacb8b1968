//! All that a runtime has, read through its own interface once it has come to rest.

use std::{collections::BTreeMap, error::Error, sync::Arc};

use futures::TryStreamExt as _;
use millstream::{DeadLetter, DeadLetterFilter, Envelope, Event, Runtime};
use serde::de::DeserializeOwned;

use super::events::rooms;

/// The rows of a namespace, by key.
type Rows = BTreeMap<String, Vec<u8>>;

/// What was read.
#[derive(Debug)]
pub struct Found {
    /// The log, in its order.
    pub log: Vec<Arc<Envelope>>,
    /// Dead letters.
    pub letters: Vec<DeadLetter>,
    rows: BTreeMap<&'static str, Rows>,
    /// The events of each cart.
    pub carts: BTreeMap<u32, Vec<Arc<Envelope>>>,
    /// The events of each ledger.
    pub ledgers: BTreeMap<u32, Vec<Arc<Envelope>>>,
}

/// How many rows are read at once: fewer than there are.
const PAGE: usize = 50;

impl Found {
    /// Reads all; the log alone where all of it was kept.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn read(runtime: &Runtime, users: u32, keeps_all: bool) -> Result<Self, Box<dyn Error>> {
        let log = if keeps_all { runtime.history(">")?.events().try_collect().await? } else { Vec::new() };
        let mut rows = BTreeMap::new();
        for room in rooms::ALL {
            rows.insert(room, read_room(runtime, room).await?);
        }
        let letters = runtime.dead_letters(&DeadLetterFilter::all());
        let (carts, ledgers) = (aggregates(runtime, "cart", 3).await?, aggregates(runtime, "ledger", users).await?);
        Ok(Self { log, letters, rows, carts, ledgers })
    }

    /// The rows of a namespace, by the numbers that are their keys.
    ///
    /// # Errors
    /// A row that is none of its namespace.
    pub fn rows<T: DeserializeOwned>(&self, room: &str) -> Result<BTreeMap<u64, T>, String> {
        let rows = self.rows.get(room).into_iter().flatten();
        rows.map(|(key, value)| {
            let value = serde_json::from_slice(value).map_err(|error| format!("row {key} of `{room}`: {error}"))?;
            Ok((key.parse().map_err(|_| format!("`{room}` has a row {key}"))?, value))
        })
        .collect()
    }

    /// The events of a type, in the order of the log.
    pub fn events<T: Event>(&self) -> impl Iterator<Item = (&Envelope, T)> {
        let named = self.log.iter().filter(|event| event.name().as_str() == T::NAME);
        named.filter_map(|event| Some((&**event, event.decode().ok()?)))
    }
}

async fn read_room(runtime: &Runtime, room: &str) -> Result<Rows, Box<dyn Error>> {
    let (storage, mut rows) = (runtime.storage(room), Rows::new());
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

async fn aggregates(
    runtime: &Runtime,
    kind: &str,
    count: u32,
) -> Result<BTreeMap<u32, Vec<Arc<Envelope>>>, Box<dyn Error>> {
    let mut found = BTreeMap::new();
    for id in 0..count {
        let events: Vec<_> = runtime.aggregate(kind, id.to_string()).read(1).try_collect().await?;
        if !events.is_empty() {
            found.insert(id, events);
        }
    }
    Ok(found)
}
