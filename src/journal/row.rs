//! The rows: durable subscriptions, deliveries that have left the log, dead letters.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use millstream_operators::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    dead_letter::{DeadLetter, Death, Failure},
    event::Envelope,
    stage::Since,
    store::{Class, Op, Seq, StoreError, Table, tables},
};

/// A durable subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscribed {
    pub(crate) id: u32,
    /// What it selected when it was last seen.
    pub(crate) pattern: String,
    /// Its first name, which keys of outside effects go by.
    pub(crate) origin: String,
    /// What came before is none of its business, as it was said when it began.
    #[serde(default, skip_serializing_if = "Since::is_unsaid")]
    pub(crate) since: Since,
}

/// Where a delivery stands that has left the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stand {
    /// For its due time.
    Waiting,
    /// Behind its key.
    Blocked,
}

/// A delivery that has left the log: how many attempts it has had, and when the next one is due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) stand: Stand,
    /// Which attempt is next, from 1.
    pub(crate) attempt: u32,
    pub(crate) due: Timestamp,
    pub(crate) first_began: Timestamp,
    pub(crate) delay: Duration,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) failures: Vec<Failure>,
    /// Whether it waits with its key, so that those of the key wait behind it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) has_key: bool,
}

/// Names a delivery: its subscription, and its event's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FailedKey {
    pub(crate) subscription: u32,
    pub(crate) class: Class,
    pub(crate) seq: Seq,
}

impl FailedKey {
    pub(crate) fn to_bytes(self) -> Bytes {
        let Self { subscription, class, seq } = self;
        [&subscription.to_be_bytes()[..], &[class.0], &seq.0.to_be_bytes()].concat().into()
    }

    pub(crate) fn from_bytes(mut key: &[u8]) -> Option<Self> {
        (key.len() == 13).then(|| Self {
            subscription: key.get_u32(),
            class: Class(key.get_u8()),
            seq: Seq(key.get_u64()),
        })
    }
}

fn corrupt(table: Table, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what: format!("a row of `{}` ({why})", table.0) }
}

/// JSON with its length, then an event's record.
fn join(json: &impl Serialize, record: &Bytes) -> Bytes {
    let json = serde_json::to_vec(json).unwrap_or_default();
    let length = u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[..], &json, record].concat().into()
}

fn split<T: for<'de> Deserialize<'de>>(table: Table, mut value: Bytes) -> Result<(T, Envelope), StoreError> {
    let short = || corrupt(table, &"it ends too early");
    if value.len() < 4 {
        return Err(short());
    }
    let length = value.get_u32() as usize;
    if value.len() < length {
        return Err(short());
    }
    let json = value.split_to(length);
    let read = serde_json::from_slice(&json).map_err(|error| corrupt(table, &error))?;
    Ok((read, Envelope::from_record(&value).map_err(|error| corrupt(table, &error))?))
}

/// Writes where a delivery stands, with its event.
pub(crate) fn failed_op(key: FailedKey, standing: &Standing, record: &Bytes) -> Op {
    Op::Put { table: tables::FAILED, key: key.to_bytes(), value: join(standing, record) }
}

pub(crate) fn parse_failed(key: &[u8], value: Bytes) -> Result<(FailedKey, Standing, Envelope), StoreError> {
    let key = FailedKey::from_bytes(key).ok_or_else(|| corrupt(tables::FAILED, &"its key is none"))?;
    let (standing, event) = split(tables::FAILED, value)?;
    Ok((key, standing, event))
}

/// A dead letter as it is written, but for its event.
#[derive(Serialize, Deserialize)]
struct Letter {
    number: u64,
    subscription: Option<String>,
    death: Death,
    attempts: u32,
    failures: Vec<Failure>,
    died_at: Timestamp,
    place: Option<u64>,
    #[serde(default)]
    halts: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<Timestamp>,
}

/// Writes a dead letter.
pub(crate) fn dead_op(letter: &DeadLetter, record: &Bytes) -> Op {
    let written = Letter {
        number: letter.number,
        subscription: letter.subscription.clone(),
        death: letter.death,
        attempts: letter.attempts,
        failures: letter.failures.clone(),
        died_at: letter.died_at,
        place: letter.place,
        halts: letter.halts,
        asked: letter.asked,
    };
    let key = Bytes::copy_from_slice(&letter.number.to_be_bytes());
    Op::Put { table: tables::DEAD, key, value: join(&written, record) }
}

pub(crate) fn dead_row(value: Bytes) -> Result<DeadLetter, StoreError> {
    let (letter, event) = split::<Letter>(tables::DEAD, value)?;
    let Letter { number, subscription, death, attempts, failures, died_at, place, halts, asked } = letter;
    let event = Arc::new(event);
    Ok(DeadLetter { number, event, subscription, death, attempts, failures, died_at, place, asked, halts })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{Draft, IdSource, Lineage};

    fn event() -> Envelope {
        let id = IdSource::new(3).next(Timestamp::from_millis(9));
        Envelope::new(Draft::json("a.b", json!([1])).key("k"), id, Timestamp::from_millis(9), Lineage::root(id))
    }

    #[test]
    fn a_delivery_that_left_the_log_is_read_as_it_was_written() {
        let key = FailedKey { subscription: 7, class: Class(3), seq: Seq(1 << 40) };
        let standing = Standing {
            stand: Stand::Waiting,
            attempt: 2,
            due: Timestamp::from_millis(11),
            first_began: Timestamp::from_millis(9),
            delay: Duration::from_millis(2),
            failures: Vec::new(),
            has_key: true,
        };
        let Op::Put { key: bytes, value, .. } = failed_op(key, &standing, &event().to_record().unwrap()) else {
            unreachable!()
        };
        let (read, stands, back) = parse_failed(&bytes, value.clone()).unwrap();
        assert_eq!((read, stands, back.id()), (key, standing, event().id()));
        for length in 0..value.len() - 3 {
            let cut = parse_failed(&bytes, value.slice(..length));
            assert!(length > 40 || cut.is_err(), "{length}");
        }
        assert!(parse_failed(&bytes[1..], value).is_err());
    }

    #[test]
    fn keys_lie_in_the_order_of_subscription_class_and_place() {
        let key = |subscription, class, seq| FailedKey { subscription, class: Class(class), seq: Seq(seq) }.to_bytes();
        assert!([key(1, 0, 300), key(1, 1, 2), key(1, 1, 256), key(2, 0, 0)].is_sorted());
    }
}
