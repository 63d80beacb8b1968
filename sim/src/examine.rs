//! Looks at what a crash has left: the store opens, all is as its history says, and work goes on.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use millstream::{
    Timestamp,
    store::{CLASSES, Claim, Class, CommitError, Op, Record, Store, StoreError, Wanted},
};

use crate::{
    check::check,
    disk::SimDisk,
    drive::Opens,
    found::{Found, ReadError},
    history::{AFTER, CURSOR, Entry, HERE, History},
    wait::{Hang, wait},
};

/// Opens the store on a disk, at which its history had recorded so many steps, and says what is wrong.
///
/// # Errors
/// [`Hang`] if the store does not answer.
pub fn examine(opens: &dyn Opens, disk: &SimDisk, history: &History, position: usize) -> Result<Vec<String>, Hang> {
    contained(|| match look(opens, disk, history, position) {
        Ok(wrong) => Ok(wrong),
        Err(Trouble::Hang(hang)) => Err(hang),
        Err(trouble) => Ok(vec![trouble.to_string()]),
    })
    .unwrap_or_else(|panic| Ok(vec![panic]))
}

/// Runs something and says what its panic said, if it did.
///
/// # Errors
/// What the panic said.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| format!("a panic: {}", text(&*panic)))
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("of no text")
}

/// Why no more can be seen.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The store does not open, or cannot be claimed.
    #[error("the store does not open: {0}")]
    Open(#[source] StoreError),
    /// What is in it cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It takes nothing more.
    #[error("work does not go on: {0}")]
    Commit(#[from] CommitError),
    /// It does not answer.
    #[error(transparent)]
    Hang(#[from] Hang),
}

fn look(opens: &dyn Opens, disk: &SimDisk, history: &History, position: usize) -> Result<Vec<String>, Trouble> {
    let store = opens.open_again(disk).map_err(Trouble::Open)?;
    let claim = wait(store.claim(HERE))?.map_err(Trouble::Open)?;
    let found = Found::read(&*store)?;
    let mut wrong = check(history, position, &found);
    wrong.extend(look_at_claim(&claim, history, position));
    wrong.extend(go_on(&*store, claim)?);
    Ok(wrong)
}

/// A claim is above all that were granted, and what comes next goes behind all that was acknowledged.
fn look_at_claim(claim: &Claim, history: &History, position: usize) -> Option<String> {
    let fence = history.claims.iter().filter(|claimed| claimed.at <= position).map(|claimed| claimed.fence).max();
    let end = history.entries.iter().filter(|entry| entry.is_acked_by(position)).filter_map(Entry::end).max();
    let is_wrong = fence.is_some_and(|fence| fence >= claim.fence) || end.is_some_and(|end| end > claim.end);
    is_wrong.then(|| format!("claim {} at {:?} comes after {fence:?} at {end:?}", claim.fence, claim.end))
}

/// Writes a little more and reads it back.
///
/// # Errors
/// [`Trouble`] if the store takes or gives nothing.
pub fn go_on(store: &dyn Store, claim: Claim) -> Result<Option<String>, Trouble> {
    let Claim { mut partition, end, .. } = claim;
    let text = Bytes::from_static(AFTER);
    let append = |class| {
        let record = Record { name: "after".into(), time: Timestamp::EPOCH, bytes: text.clone(), keys: Vec::new() };
        Op::Append { class: Class(class), records: vec![record] }
    };
    let put = Op::Put { table: CURSOR, key: text.clone(), value: text.clone() };
    let handed = [partition.commit(vec![put, append(0)]), store.append(HERE, (1..CLASSES).map(append).collect())];
    let mut appended = Vec::new();
    for handed in handed {
        appended.extend(wait(handed)??.appended);
    }
    let reader = store.reader(HERE);
    let mut read = Vec::new();
    for class in 0..CLASSES {
        let page = wait(reader.read(Class(class), end, usize::MAX, &Wanted::default()))?;
        let page = page.map_err(ReadError::from)?;
        read.extend(page.records.into_iter().filter(|record| record.bytes == text).map(|record| record.seq));
    }
    let row = wait(reader.get(CURSOR, std::slice::from_ref(&text)))?.map_err(ReadError::from)?;
    wait(partition.release())?.map_err(ReadError::from)?;
    let is_well = row == [Some(text)] && appended.is_sorted_by(|a, b| a < b) && appended[0] >= end && read == appended;
    Ok((!is_well).then(|| format!("what was appended from {end:?} on at {appended:?} is read at {read:?}")))
}
