//! What the rows beside the log mean.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use millstream_operators::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{Archive, ArchiveError, corrupt};
use crate::{
    dead_letter::{DeadLetter, Failure},
    event::{Envelope, EventId, Key, Priority, unscoped},
    history::{APPEND, OnceRow},
    journal::{Cursor, FailedKey, Stand, Subscribed, dead_row, parse_failed, parse_key},
    store::{Class, KeyRange, Seq, StoreError, Table, tables},
};

/// A row of a table, read for people and for their programs.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "row", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Row {
    /// A setting of the engine itself.
    Setting {
        /// Which.
        name: String,
        /// Its number.
        value: u64,
    },
    /// A durable subscription.
    Subscription {
        /// Its name.
        name: String,
        /// Its number, by which other rows name it.
        id: u32,
        /// What it selected when it was last seen.
        pattern: String,
        /// Its first name.
        origin: String,
    },
    /// Where a subscription or a stage begins, as it was when it was made.
    Start {
        /// Its name.
        name: String,
        /// Whether it is a stage.
        is_stage: bool,
        /// The first place that is its own.
        place: u64,
    },
    /// How far a subscription has read a class.
    Cursor {
        /// The subscription's number.
        subscription: u32,
        /// How far it is.
        #[serde(flatten)]
        reading: Reading,
    },
    /// A delivery that has left the log.
    Delivery {
        /// The subscription's number.
        subscription: u32,
        /// Where the event lies in the log, or lay.
        place: u64,
        /// For what it waits.
        standing: Standing,
        /// Which attempt is next, from 1.
        attempt: u32,
        /// When that is due, in nanoseconds.
        due_ns: Timestamp,
        /// What went wrong so far.
        failures: Vec<Failure>,
        /// The event.
        event: Box<Envelope>,
    },
    /// A dead letter.
    DeadLetter(Box<DeadLetter>),
    /// An event that waits for its due time.
    Delayed {
        /// When it is due, in nanoseconds.
        due_ns: Timestamp,
        /// The event.
        event: Box<Envelope>,
    },
    /// An idempotency key, and the event that has it.
    Once {
        /// Whose.
        tenant: Option<String>,
        /// The key.
        key: String,
        /// The event.
        event: EventId,
    },
    /// The idempotency key of an append, and what was appended.
    Append {
        /// Whose the aggregate is.
        tenant: Option<String>,
        /// The aggregate's kind.
        kind: String,
        /// Which one.
        id: String,
        /// The key.
        key: String,
        /// The first event.
        event: EventId,
        /// The first and the last version that it made.
        versions: (u64, u64),
        /// Until when it keeps others out, in nanoseconds.
        until_ns: Timestamp,
    },
    /// A value that a handler or somebody else keeps.
    Storage {
        /// Whose.
        tenant: Option<String>,
        /// In which namespace.
        namespace: String,
        /// Its key: as text where it is some, else in hexadecimal digits.
        key: String,
        /// As JSON where it is some, as text, or in hexadecimal digits.
        value: Value,
    },
    /// An event of an aggregate.
    Aggregate {
        /// The event.
        event: Box<Envelope>,
    },
    /// A row that others keep.
    Other {
        /// Its key: as text where it is some, else in hexadecimal digits.
        key: String,
        /// Its value: as JSON where it is some, as text, or in hexadecimal digits.
        value: Value,
    },
}

/// For what a delivery waits that has left the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Standing {
    /// For its due time.
    Waiting,
    /// Behind its key.
    Blocked,
}

/// How far a subscription has read a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reading {
    /// The class.
    pub priority: Priority,
    /// All before this place is done, but for what is open.
    pub place: u64,
    /// How many before it are open.
    pub open: usize,
}

/// What is known of a subscription while nobody runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SubscriptionState {
    /// Its name.
    pub name: String,
    /// Its number, by which rows name it.
    pub id: u32,
    /// What it selected when it was last seen.
    pub pattern: String,
    /// How far it is, by class, the most urgent first.
    pub read: Vec<Reading>,
    /// Deliveries that wait for another attempt.
    pub waiting: u64,
    /// Deliveries behind their key.
    pub blocked: u64,
    /// When the next attempt is due, in nanoseconds.
    pub next_due_ns: Option<Timestamp>,
    /// Its dead letters.
    pub dead: u64,
}

impl Row {
    /// What people look for it by: its name or its key, the id of its aggregate, or the key of its event. None where it has nothing of
    /// that kind.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Setting { name, .. } | Self::Subscription { name, .. } | Self::Start { name, .. } => Some(name),
            Self::Once { key, .. } | Self::Storage { key, .. } | Self::Other { key, .. } => Some(key),
            Self::Append { id, .. } => Some(id),
            Self::Aggregate { event } => event.aggregate().map(|aggregate| &*aggregate.id),
            Self::Delivery { event, .. } | Self::Delayed { event, .. } => event.key().map(Key::as_str),
            Self::DeadLetter(letter) => letter.event.key().map(Key::as_str),
            Self::Cursor { .. } => None,
        }
    }

    /// Reads a row of a table by the table's name.
    ///
    /// # Errors
    /// [`Corrupt`](StoreError::Corrupt) where it is none that a runtime writes.
    pub fn parse(table: &str, key: &[u8], value: &Bytes) -> Result<Self, StoreError> {
        match tables::ALL.into_iter().find(|known| known.0 == table) {
            Some(tables::ENGINE) => setting(key, value),
            Some(tables::SUBSCRIPTION) => subscription(key, value).map(|(name, row)| {
                let Subscribed { id, pattern, origin, .. } = row;
                Self::Subscription { name, id, pattern, origin }
            }),
            Some(tables::START) => {
                let mark = value[..].try_into().map_err(|_| corrupt(tables::START, "it is no place"))?;
                // A stage's name comes after a zero.
                let (name, is_stage) = key.strip_prefix(b"\0").map_or((key, false), |name| (name, true));
                Ok(Self::Start { name: readable(name), is_stage, place: Seq(u64::from_be_bytes(mark)).next().0 })
            }
            Some(tables::CURSOR) => {
                cursor(key, value).map(|(subscription, reading)| Self::Cursor { subscription, reading })
            }
            Some(tables::FAILED) => delivery(key, value),
            Some(tables::DEAD) => dead_row(value.clone()).map(|letter| Self::DeadLetter(Box::new(letter))),
            Some(tables::DELAYED) => {
                let (due_ns, _) = parse_key(key).ok_or_else(|| corrupt(tables::DELAYED, "its key is none"))?;
                Ok(Self::Delayed { due_ns, event: event(tables::DELAYED, value)? })
            }
            Some(tables::ONCE) if key.first() == Some(&APPEND) => append(&key[1..], value),
            Some(tables::ONCE) => once(key, value),
            Some(tables::STORAGE) => stored(key, value),
            Some(tables::AGGREGATE) => Ok(Self::Aggregate { event: event(tables::AGGREGATE, value)? }),
            _ => Ok(Self::Other { key: readable(key), value: shown(value) }),
        }
    }
}

fn setting(key: &[u8], value: &[u8]) -> Result<Row, StoreError> {
    let name = readable(key);
    match value.try_into() {
        Ok(value) => Ok(Row::Setting { name, value: u64::from_be_bytes(value) }),
        Err(_) => Err(corrupt(tables::ENGINE, format!("setting `{name}` is no number"))),
    }
}

pub(super) fn subscription(key: &[u8], value: &[u8]) -> Result<(String, Subscribed), StoreError> {
    let name = std::str::from_utf8(key).map_err(|error| corrupt(tables::SUBSCRIPTION, error))?;
    let row = serde_json::from_slice(value).map_err(|error| corrupt(tables::SUBSCRIPTION, error))?;
    Ok((name.to_owned(), row))
}

fn cursor(mut key: &[u8], value: &[u8]) -> Result<(u32, Reading), StoreError> {
    if key.len() != 5 {
        return Err(corrupt(tables::CURSOR, "its key is none"));
    }
    let (subscription, class) = (key.get_u32(), key.get_u8());
    let cursor = Cursor::from_bytes(value).map_err(|error| corrupt(tables::CURSOR, error))?;
    let priority = priority_of(tables::CURSOR, Class(class))?;
    Ok((subscription, Reading { priority, place: cursor.high.0, open: cursor.open_count() }))
}

fn delivery(key: &[u8], value: &Bytes) -> Result<Row, StoreError> {
    let (FailedKey { subscription, class, seq }, standing, event) = parse_failed(key, value.clone())?;
    priority_of(tables::FAILED, class)?;
    Ok(Row::Delivery {
        subscription,
        place: seq.0,
        standing: standing.stand.into(),
        attempt: standing.attempt,
        due_ns: standing.due,
        failures: standing.failures,
        event: Box::new(event),
    })
}

fn once(key: &[u8], value: &[u8]) -> Result<Row, StoreError> {
    let wrong = |why: &str| corrupt(tables::ONCE, why);
    let (tenant, [], key) = unscoped(key).ok_or_else(|| wrong("its key is none"))?;
    let id = value.try_into().ok().map(u128::from_be_bytes).and_then(EventId::from_u128);
    let event = id.ok_or_else(|| wrong("it names no event"))?;
    Ok(Row::Once { tenant: tenant.map(str::to_owned), key: readable(key), event })
}

fn append(key: &[u8], value: &[u8]) -> Result<Row, StoreError> {
    let wrong = |why: &str| corrupt(tables::ONCE, why);
    let (tenant, [kind, id], key) = unscoped(key).ok_or_else(|| wrong("its key is none"))?;
    let row = OnceRow::from_bytes(value).ok_or_else(|| wrong("it names no append"))?;
    Ok(Row::Append {
        tenant: tenant.map(str::to_owned),
        kind: kind.to_owned(),
        id: id.to_owned(),
        key: readable(key),
        event: row.id,
        versions: row.versions,
        until_ns: row.until,
    })
}

fn stored(key: &[u8], value: &[u8]) -> Result<Row, StoreError> {
    let (tenant, [namespace], key) = unscoped(key).ok_or_else(|| corrupt(tables::STORAGE, "its key is none"))?;
    let (tenant, namespace) = (tenant.map(str::to_owned), namespace.to_owned());
    Ok(Row::Storage { tenant, namespace, key: readable(key), value: shown(value) })
}

fn event(table: Table, value: &Bytes) -> Result<Box<Envelope>, StoreError> {
    Envelope::from_record(value).map(Box::new).map_err(|error| corrupt(table, error))
}

fn priority_of(table: Table, class: Class) -> Result<Priority, StoreError> {
    let priority = Priority::ALL.get(usize::from(class.0)).copied();
    priority.ok_or_else(|| corrupt(table, format!("class {}", class.0)))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.chars().any(|c| c.is_control() && !c.is_whitespace()))
}

fn readable(bytes: &[u8]) -> String {
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    text(bytes).map_or_else(|| bytes.iter().flat_map(digits).collect(), str::to_owned)
}

fn shown(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(readable(bytes)))
}

impl From<Stand> for Standing {
    fn from(stand: Stand) -> Self {
        match stand {
            Stand::Waiting => Self::Waiting,
            Stand::Blocked => Self::Blocked,
        }
    }
}

impl Archive {
    /// The durable subscriptions that the store knows, by name. A damaged dead letter, of which nobody knows whose it is, is not
    /// counted: [`dead_letters`](Self::dead_letters) names it.
    ///
    /// # Errors
    /// Where the rows cannot be read.
    pub async fn subscriptions(&self) -> Result<Vec<SubscriptionState>, ArchiveError> {
        let mut known = BTreeMap::new();
        self.each(tables::SUBSCRIPTION, |key, value| {
            let (name, Subscribed { id, pattern, .. }) = subscription(&key, &value)?;
            let state = SubscriptionState {
                name,
                id,
                pattern,
                read: Vec::new(),
                waiting: 0,
                blocked: 0,
                next_due_ns: None,
                dead: 0,
            };
            known.insert(id, state);
            Ok(())
        })
        .await?;
        self.each(tables::CURSOR, |key, value| {
            let (id, reading) = cursor(&key, &value)?;
            // A subscription's cursors go with it, in one commit.
            known.get_mut(&id).into_iter().for_each(|state| state.read.push(reading));
            Ok(())
        })
        .await?;
        self.count_deliveries(&mut known).await?;
        let mut states: Vec<_> = known.into_values().collect();
        states.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(states)
    }

    async fn count_deliveries(&self, known: &mut BTreeMap<u32, SubscriptionState>) -> Result<(), StoreError> {
        self.each(tables::FAILED, |key, value| {
            let (key, standing, _) = parse_failed(&key, value)?;
            let Some(state) = known.get_mut(&key.subscription) else { return Ok(()) };
            match standing.stand {
                Stand::Blocked => state.blocked += 1,
                Stand::Waiting => {
                    state.waiting += 1;
                    let next = state.next_due_ns.map_or(standing.due, |next| next.min(standing.due));
                    state.next_due_ns = Some(next);
                }
            }
            Ok(())
        })
        .await?;
        let ids: BTreeMap<String, u32> = known.values().map(|state| (state.name.clone(), state.id)).collect();
        for (_, value) in self.reader.scan_each(tables::DEAD, KeyRange::all(), usize::MAX).await? {
            let name = value.and_then(dead_row).ok().and_then(|letter| letter.subscription);
            let id = name.and_then(|name| ids.get(&name));
            id.and_then(|id| known.get_mut(id)).into_iter().for_each(|state| state.dead += 1);
        }
        Ok(())
    }

    /// The events that wait for their due time, in its order.
    ///
    /// # Errors
    /// Where the rows cannot be read, and what `each` says.
    pub async fn delayed(&self, mut each: impl FnMut(Timestamp, Envelope)) -> Result<(), ArchiveError> {
        self.each(tables::DELAYED, |key, value| {
            let (due, _) = parse_key(&key).ok_or_else(|| corrupt(tables::DELAYED, "its key is none"))?;
            each(due, *event(tables::DELAYED, &value)?);
            Ok(())
        })
        .await?;
        Ok(())
    }
}
