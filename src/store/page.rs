//! What is read of a log at once.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use millstream_operators::Timestamp;

use super::Seq;

/// Records of one class, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The records.
    pub records: Vec<PageRecord>,
    /// Where to read on: all before it is here, was not wanted, or was never there.
    pub next: Seq,
    /// Whether the log has no more records for now, or none that lie before [`Wanted::below`]. Until then an empty page is no
    /// sign of the end.
    pub is_end: bool,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRecord {
    /// Its place.
    pub seq: Seq,
    /// What it is called.
    pub name: Arc<str>,
    /// When it came to be.
    pub time: Timestamp,
    /// The record.
    pub bytes: Bytes,
}

/// Which records a reader wants. A store may use it to skip what nobody asked for; a reader still looks at what it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Records of these names; none for all.
    pub names: Option<BTreeSet<Arc<str>>>,
    /// Records from this time on.
    pub since: Option<Timestamp>,
    /// Records before this time.
    pub until: Option<Timestamp>,
    /// Records before this place.
    pub below: Option<Seq>,
}

impl Wanted {
    /// Whether a record is wanted for its name and time.
    pub(super) fn takes(&self, name: &str, time: Timestamp) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
            && self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time < until)
    }

    /// Whether a place lies before where the reader stops.
    pub(super) fn reaches(&self, seq: Seq) -> bool {
        self.below.is_none_or(|below| seq < below)
    }
}
