//! Marks of attempts: what the next process should know of them if this one ends with them.

use bytes::{Buf, Bytes};

use super::FailedKey;
use crate::store::{Op, StoreError, tables};

/// A delivery of which an attempt was begun with care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// How many attempts were begun like that.
    pub(crate) times: u32,
    /// The fence of the claim under which the last one was.
    pub(crate) fence: u64,
}

/// How the claims before this one ended.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    /// The fence of the last claim that was given back.
    pub(crate) given_back: Option<u64>,
    /// The attempts that were begun with care and have not ended.
    pub(crate) marks: Vec<(FailedKey, Mark)>,
}

/// The key of the fence of the last claim that was given back.
pub(crate) const GIVEN_BACK: &[u8] = b"given_back";

/// Writes that a claim is given back.
pub(crate) fn given_back_op(fence: u64) -> Op {
    let (key, value) = (Bytes::from_static(GIVEN_BACK), Bytes::copy_from_slice(&fence.to_be_bytes()));
    Op::Put { table: tables::ENGINE, key, value }
}

/// Writes that an attempt is about to begin.
pub(crate) fn mark_op(key: FailedKey, mark: Mark) -> Op {
    let value = [&mark.times.to_be_bytes()[..], &mark.fence.to_be_bytes()].concat().into();
    Op::Put { table: tables::ATTEMPT, key: key.to_bytes(), value }
}

/// An attempt has ended, one way or another.
pub(crate) fn unmark_op(key: FailedKey) -> Op {
    Op::Delete { table: tables::ATTEMPT, key: key.to_bytes() }
}

pub(crate) fn parse_mark(key: &[u8], mut value: &[u8]) -> Result<(FailedKey, Mark), StoreError> {
    let mark = (value.len() == 12).then(|| Mark { times: value.get_u32(), fence: value.get_u64() });
    let corrupt = || StoreError::Corrupt { what: format!("a row of `{}` (it is no mark)", tables::ATTEMPT.0) };
    FailedKey::from_bytes(key).zip(mark).ok_or_else(corrupt)
}
