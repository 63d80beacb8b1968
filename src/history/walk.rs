//! Events of the log that somebody asked for, as far as it reaches, and on from there.

use std::{collections::BTreeSet, sync::Arc};

use millstream_operators::Timestamp;

use super::{HistoryError, Library, Merged};
use crate::{
    event::{Envelope, Key, Pattern, Tenant},
    store::{Seq, StoreError, Wanted},
};

/// Which events.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    pub(super) pattern: Pattern,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) tenant: Option<Tenant>,
    pub(super) key: Option<Key>,
    pub(super) kind: Option<String>,
    pub(super) id: Option<String>,
}

/// Goes through the log.
#[derive(Debug)]
pub(super) struct Walk {
    library: Library,
    filter: Filter,
    merged: Merged,
}

impl Filter {
    /// What the store may leave out.
    fn wanted(&self) -> Wanted {
        let names = self.pattern.as_exact().map(|name: &str| BTreeSet::from([Arc::from(name)]));
        Wanted { names, since: self.since, until: self.until, ..Wanted::default() }
    }

    fn wants_record(&self, name: &str, time: Timestamp) -> bool {
        // The engine's own marks have no name.
        !name.is_empty()
            && self.pattern.matches(name)
            && self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time < until)
    }

    fn wants(&self, event: &Envelope) -> bool {
        let aggregate = event.aggregate();
        (self.tenant.is_none() || self.tenant == event.tenant)
            && (self.key.is_none() || self.key == event.key)
            && self.kind.as_ref().is_none_or(|kind| aggregate.is_some_and(|aggregate| aggregate.kind == *kind))
            && self.id.as_ref().is_none_or(|id| aggregate.is_some_and(|aggregate| aggregate.id == *id))
    }
}

impl Walk {
    pub(super) fn new(library: Library, filter: Filter, from: Option<Seq>) -> Self {
        let reader = library.store.reader(library.partition).into();
        let merged = Merged::new(reader, from, filter.wanted());
        Self { library, filter, merged }
    }

    /// Goes as far as the log reaches now.
    pub(super) async fn extend(&mut self) -> Result<(), HistoryError> {
        self.merged.extend().await
    }

    /// All before it was given out, or is not wanted.
    pub(super) fn place(&self) -> Seq {
        self.merged.place()
    }

    /// The next event; none where the end is reached.
    pub(super) async fn next(&mut self) -> Result<Option<Arc<Envelope>>, HistoryError> {
        while let Some(record) = self.merged.next().await? {
            if !self.filter.wants_record(&record.name, record.time) {
                continue;
            }
            let event = Envelope::from_record(&record.bytes).map_err(|error| StoreError::Corrupt {
                what: format!("event {} of the log ({error})", record.seq.0),
            })?;
            if self.filter.wants(&event) {
                return Ok(Some(Arc::new(event)));
            }
        }
        Ok(None)
    }

    /// Waits until the log goes on. False where it never will: the runtime is stopped.
    pub(super) async fn wait(&self) -> Result<bool, HistoryError> {
        let more = self.library.store.appended(self.library.partition, self.merged.end());
        tokio::select! {
            biased;
            more = more => more.map(|()| true).map_err(HistoryError::from),
            () = self.library.closed.cancelled() => Ok(false),
        }
    }
}
