//! The log: its events in the order in which they were taken in.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use millstream_operators::Timestamp;
use serde::Serialize;

use super::{Archive, ArchiveError, corrupt};
use crate::{
    event::{Envelope, Key, Pattern, Priority, Tenant},
    intake::MARK,
    store::{Class, KeyRange, PageRecord, Seq, StoreError, Wanted, tables},
};

/// Selects events of a log; everything that is set must agree, and nothing set selects all.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct LogFilter {
    priorities: Vec<Priority>,
    event: Option<Pattern>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    key: Option<Key>,
    tenant: Option<Tenant>,
    from: Seq,
}

impl LogFilter {
    /// All of them.
    pub fn all() -> Self {
        Self::default()
    }

    /// Those of a class, or of several where it is said several times.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priorities.push(priority);
        self
    }

    /// Those whose name a pattern selects.
    pub fn event(mut self, pattern: Pattern) -> Self {
        self.event = Some(pattern);
        self
    }

    /// Those whose [time](Envelope::time) is this or later.
    pub fn since(mut self, time: Timestamp) -> Self {
        self.since = Some(time);
        self
    }

    /// Those whose [time](Envelope::time) is earlier.
    pub fn until(mut self, time: Timestamp) -> Self {
        self.until = Some(time);
        self
    }

    /// Those with this key.
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Those of one tenant.
    pub fn tenant(mut self, tenant: impl Into<Tenant>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Those at this place or after it.
    pub fn from(mut self, place: Seq) -> Self {
        self.from = place;
        self
    }

    /// Whether it selects an event, wherever that lies.
    pub fn selects(&self, event: &Envelope) -> bool {
        (self.priorities.is_empty() || self.priorities.contains(&event.priority))
            && self.event.as_ref().is_none_or(|pattern| pattern.matches(event.name.as_str()))
            && self.since.is_none_or(|since| event.time() >= since)
            && self.until.is_none_or(|until| event.time() < until)
            && self.key.as_ref().is_none_or(|key| event.key.as_ref() == Some(key))
            && self.tenant.as_ref().is_none_or(|tenant| event.tenant.as_ref() == Some(tenant))
    }

    /// What the store may skip by itself.
    fn wanted(&self) -> Wanted {
        let exact = self.event.as_ref().and_then(Pattern::as_exact);
        let names = exact.map(|name| [Arc::from(name)].into());
        Wanted { names, since: self.since, until: self.until, below: None }
    }
}

/// An event of the log, and where it lies.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LogEntry {
    /// Its place.
    #[serde(serialize_with = "place")]
    pub place: Seq,
    /// The event.
    #[serde(flatten)]
    pub event: Envelope,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn place<S: serde::Serializer>(place: &Seq, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(place.0)
}

/// Reads a log from one end to the other, a few pages of it in memory at a time.
#[derive(Debug)]
pub struct LogReader<'a> {
    archive: &'a Archive,
    filter: LogFilter,
    wanted: Wanted,
    lanes: Vec<Lane>,
    passed: Seq,
}

/// The log of one class, as far as it is read.
#[derive(Debug)]
struct Lane {
    class: Class,
    next: Seq,
    records: VecDeque<PageRecord>,
    is_end: bool,
}

/// What is read of a class at a time.
const PAGE_BYTES: usize = 1 << 20;

impl Archive {
    /// The events of the log that a filter selects, over all classes.
    ///
    /// # Ordering
    /// By place, which is the order in which they were written.
    pub fn log(&self, filter: LogFilter) -> LogReader<'_> {
        let is_asked = |priority: &Priority| filter.priorities.is_empty() || filter.priorities.contains(priority);
        let classes = (0..).map(Class).zip(Priority::ALL).filter(|(_, priority)| is_asked(priority));
        let lane = |class| Lane { class, next: filter.from, records: VecDeque::new(), is_end: false };
        let lanes = classes.map(|(class, _)| lane(class)).collect();
        LogReader { archive: self, wanted: filter.wanted(), passed: filter.from, lanes, filter }
    }
}

impl Archive {
    /// The events of aggregates that were trimmed from the log and are kept beside it, of those that a filter selects; `tell` is
    /// told each of them, until it says `false`. Those that wait for their due time are not among them: they have not been in
    /// the log yet.
    ///
    /// They lay before all that the log has now, so a filter that begins at a [place](LogFilter::from) selects none. The log is read
    /// once to know what it has, and the ids of its aggregates' events are in memory meanwhile, some 20 bytes each.
    ///
    /// # Ordering
    /// By tenant, kind and id of the aggregate, and then by version.
    ///
    /// # Errors
    /// Where the log or the rows cannot be read.
    pub async fn trimmed(
        &self,
        filter: &LogFilter,
        mut tell: impl FnMut(Envelope) -> bool,
    ) -> Result<(), ArchiveError> {
        if filter.from > Seq(0) || self.reader.scan(tables::AGGREGATE, KeyRange::all(), 1).await?.is_empty() {
            return Ok(());
        }
        let elsewhere = self.aggregates_elsewhere(filter).await?;
        self.each_of(tables::AGGREGATE, KeyRange::all(), |_, value| {
            let event = Envelope::from_record(&value).map_err(|error| corrupt(tables::AGGREGATE, error))?;
            let is_trimmed = filter.selects(&event) && !elsewhere.contains(&event.id.as_u128());
            Ok(!is_trimmed || tell(event))
        })
        .await?;
        Ok(())
    }

    /// The ids of aggregates' events that are in the log, or wait to be, of those that a filter selects.
    async fn aggregates_elsewhere(&self, filter: &LogFilter) -> Result<HashSet<u128>, ArchiveError> {
        let mut ids = HashSet::new();
        let mut keep = |event: &Envelope| {
            if event.aggregate().is_some() {
                ids.insert(event.id.as_u128());
            }
        };
        let mut log = self.log(filter.clone());
        while let Some(entry) = log.next().await? {
            keep(&entry.event);
        }
        self.delayed(|_, event| keep(&event)).await?;
        Ok(ids)
    }
}

/// How much the log of a class has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LogCount {
    /// The class.
    pub class: Priority,
    /// Its events.
    pub events: u64,
    /// Its marks: records without a name that say where a subscription or a stage begins. Only the most urgent class has any.
    pub marks: u64,
}

impl Archive {
    /// Counts what is in the log, by class. Reads all of it, and does not ask whether each event can be understood.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn count(&self) -> Result<Vec<LogCount>, ArchiveError> {
        let mut counts = Vec::new();
        let wanted = Wanted::default();
        for (number, class) in (0..).zip(Priority::ALL) {
            let mut lane = Lane { class: Class(number), next: Seq(0), records: VecDeque::new(), is_end: false };
            let mut count = LogCount { class, events: 0, marks: 0 };
            while !lane.is_end {
                lane.fill(self, &wanted).await?;
                let marks = lane.records.iter().filter(|record| *record.name == *MARK).count() as u64;
                count.events += lane.records.len() as u64 - marks;
                count.marks += marks;
                lane.records.clear();
            }
            counts.push(count);
        }
        Ok(counts)
    }
}

impl LogReader<'_> {
    /// The next event; none at the end.
    ///
    /// # Errors
    /// Where the log cannot be read. Reading on from a later [place](LogFilter::from) may go past what is damaged.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, ArchiveError> {
        loop {
            for lane in &mut self.lanes {
                lane.fill(self.archive, &self.wanted).await?;
            }
            // Each lane shows its next record or has none: the first of them is the next of all.
            let first = self.lanes.iter_mut().filter(|lane| !lane.records.is_empty());
            let Some(first) = first.min_by_key(|lane| lane.records[0].seq) else { return Ok(None) };
            let Some(record) = first.records.pop_front() else { continue };
            self.passed = record.seq.next();
            if *record.name == *MARK {
                continue;
            }
            let event = Envelope::from_record(&record.bytes).map_err(|error| StoreError::Corrupt {
                what: format!("event {} of the log ({error})", record.seq.0),
            })?;
            if self.filter.selects(&event) {
                return Ok(Some(LogEntry { place: record.seq, event }));
            }
        }
    }

    /// After the last record that was looked at: where another reader goes on.
    pub fn passed(&self) -> Seq {
        self.passed
    }
}

impl Lane {
    async fn fill(&mut self, archive: &Archive, wanted: &Wanted) -> Result<(), StoreError> {
        while self.records.is_empty() && !self.is_end {
            match archive.reader.read(self.class, self.next, PAGE_BYTES, wanted).await {
                Ok(page) => {
                    (self.next, self.is_end) = (page.next, page.is_end);
                    self.records = page.records.into();
                }
                Err(StoreError::Trimmed { first }) if first > self.next => self.next = first,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
