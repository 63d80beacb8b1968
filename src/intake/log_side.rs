//! What the intake knows of the log, in a durable runtime: what is on its way there, and what has landed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, OnceLock},
};

use millstream_operators::Timestamp;

use super::{Group, Held};
use crate::{
    event::{Envelope, EventId, EventName},
    store::{CommitError, Committed, Seq},
};

/// An event of the log.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) seq: Seq,
    pub(crate) event: Arc<Envelope>,
    /// What its record takes.
    pub(crate) bytes: usize,
}

/// Events that were written together.
#[derive(Debug)]
pub(crate) struct Landed {
    /// Where the log ended before them.
    pub(crate) begin: Seq,
    /// Where it ends after them.
    pub(crate) end: Seq,
    pub(crate) events: Vec<Told>,
}

/// What has landed and the dispatcher has not seen. It is a short cut past reading the log: what is forgotten for want of
/// room is read there.
#[derive(Debug, Default)]
pub(crate) struct Shore {
    landed: VecDeque<Landed>,
    events: usize,
    bytes: usize,
    /// From where to where events were forgotten.
    forgotten: Option<(Seq, Seq)>,
    pub(crate) delayed: Vec<(Timestamp, EventId)>,
    /// Whether delayed events were forgotten.
    pub(crate) has_forgotten: bool,
    /// Delayed events of which nobody knows whether they have landed: counted as not saved, they are new where they have.
    pub(crate) unknown: Vec<(Timestamp, EventId)>,
}

/// The intake's side of the log, under its lock.
#[derive(Debug, Default)]
pub(crate) struct LogSide {
    /// Subscriptions whose beginning is to be marked in the log, before anything that is emitted after.
    pub(crate) to_mark: VecDeque<Arc<str>>,
    /// Delayed events that go to the store next.
    pub(crate) to_delay: VecDeque<(Timestamp, Held)>,
    /// Events that go to the store together next.
    pub(crate) to_append: VecDeque<Group>,
    /// Events that were handed to the store, and whose landing is not known.
    pub(crate) on_way: usize,
    /// Those of them, and those that handlers returned, which wait in no queue and are not routed.
    pub(crate) afloat: u64,
    pub(crate) shore: Shore,
    /// Names of events that are in the log and that nobody wants, until whoever drives has looked.
    unwanted: Vec<EventName>,
    /// The most bytes of records whose events are on the shore.
    recent_bytes: usize,
    /// Where the log ends, as far as is known.
    end: Option<Seq>,
    /// Where it ended before anything of this process was in it, as far as is known.
    began: Option<Seq>,
    /// Those who begin at the end, and wait until that is known.
    starts: Vec<Arc<OnceLock<Seq>>>,
    /// Why nothing is taken in: the store failed, and the partition is not claimed again.
    pub(crate) failure: Option<String>,
    /// Whether the dispatcher may have something to do that no counter shows.
    pub(crate) unsettled: bool,
    /// When the next delayed event is due, as far as is known.
    pub(crate) next_due: Option<Timestamp>,
    /// Durable subscriptions that nobody claims.
    pub(crate) orphans: Vec<String>,
    /// What cannot be read, and why.
    pub(crate) damage: BTreeMap<String, String>,
}

impl Landed {
    pub(crate) fn bytes(&self) -> usize {
        self.events.iter().map(|told| told.bytes).sum()
    }
}

impl Shore {
    /// The most events that are kept.
    const MOST: usize = 16_384;
    /// The most delayed ones.
    pub(crate) const MOST_DELAYED: usize = 4_096;

    pub(crate) fn push(&mut self, landed: Landed, most_bytes: usize) {
        debug_assert!(landed.events.iter().all(|told| told.bytes > 0), "each event has a record");
        self.events += landed.events.len();
        self.bytes += landed.bytes();
        self.landed.push_back(landed);
        while (self.events > Self::MOST || self.bytes > most_bytes)
            && let Some(oldest) = self.landed.pop_front()
        {
            self.events -= oldest.events.len();
            self.bytes -= oldest.bytes();
            let begin = self.forgotten.map_or(oldest.begin, |(begin, _)| begin.min(oldest.begin));
            self.forgotten = Some((begin, oldest.end));
        }
    }

    /// From where to where events were forgotten since this was last asked.
    pub(crate) fn take_forgotten(&mut self) -> Option<(Seq, Seq)> {
        self.forgotten.take()
    }

    /// The keys of the delayed events of which nobody knew whether they have landed when this was last asked.
    pub(crate) fn take_unknown(&mut self) -> impl Iterator<Item = (Timestamp, u128)> {
        self.unknown.drain(..).map(|(due, id)| (due, id.as_u128()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.landed.is_empty() && self.delayed.is_empty() && self.forgotten.is_none()
    }

    pub(crate) fn take(&mut self) -> VecDeque<Landed> {
        (self.events, self.bytes) = (0, 0);
        std::mem::take(&mut self.landed)
    }
}

impl LogSide {
    /// A durable runtime has something to look at in its store before it is at rest.
    pub(crate) fn new(is_durable: bool, recent_bytes: usize) -> Self {
        Self { unsettled: is_durable, recent_bytes, ..Self::default() }
    }

    /// An event of this name is in the log, and nobody wants it.
    pub(super) fn note_unwanted(&mut self, name: &EventName) {
        /// The most names that are kept: each is said once, and the next event of another one says that.
        const MOST: usize = 16;
        if self.unwanted.len() < MOST && !self.unwanted.contains(name) {
            self.unwanted.push(name.clone());
        }
    }

    /// The names that nobody wanted since this was last asked.
    pub(crate) fn take_unwanted(&mut self) -> Vec<EventName> {
        std::mem::take(&mut self.unwanted)
    }

    /// Whether nothing is on its way to the log, waits to be, or has landed and was not seen.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_sent = self.to_mark.is_empty() && self.to_delay.is_empty() && self.to_append.is_empty();
        is_sent && self.afloat == 0 && self.on_way == 0 && self.shore.is_empty()
    }

    /// Events are in the log.
    pub(crate) fn land(&mut self, committed: &Committed, events: Vec<Told>) {
        self.begins_at(committed.begin);
        self.end = self.end.max(Some(committed.end));
        self.shore.push(Landed { begin: committed.begin, end: committed.end, events }, self.recent_bytes);
        self.unsettled = true;
    }

    pub(crate) fn land_delayed(&mut self, due: Timestamp, id: EventId) {
        if self.shore.delayed.len() < Shore::MOST_DELAYED {
            self.shore.delayed.push((due, id));
        } else {
            self.shore.has_forgotten = true;
        }
        self.unsettled = true;
    }

    /// The beginning of a subscription is marked, was marked before, or has to be marked again.
    pub(crate) fn marked(&mut self, name: &Arc<str>, landed: &Result<Committed, CommitError>) {
        self.on_way -= 1;
        match landed {
            Ok(committed) => self.land(committed, Vec::new()),
            Err(error) if error.is_loss() => self.to_mark.push_back(Arc::clone(name)),
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => tracing::error!(subscription = &**name, %error, "where it begins cannot be marked"),
        }
    }

    /// The store has failed: nothing goes there until the partition is claimed again.
    pub(crate) fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
        self.unsettled = true;
    }

    /// Where the log ended when it was claimed. What was handed over before may be in it or not: then its landing says
    /// where the log began.
    pub(crate) fn claimed_at(&mut self, end: Seq) {
        if self.on_way == 0 {
            self.begins_at(end);
        }
    }

    /// A commit of the dispatcher has moved the end. Where it is not known where the log began, that says nothing: what lies before
    /// it may have landed after somebody wanted all that comes.
    pub(crate) fn ends_at(&mut self, end: Seq) {
        self.end = self.end.map(|known| known.max(end));
    }

    /// Where the log ended before anything of this process was in it; none while that is not known.
    pub(crate) fn began(&self) -> Option<Seq> {
        self.began
    }

    fn begins_at(&mut self, end: Seq) {
        self.began.get_or_insert(end);
        if self.end.is_none() {
            self.end = Some(end);
            for start in self.starts.drain(..) {
                start.get_or_init(|| end);
            }
        }
    }

    /// Where a subscription begins that wants only what comes: told now, or once that is known. Whoever trims has to know of
    /// it before.
    pub(crate) fn start_at_end(&mut self, start: &Arc<OnceLock<Seq>>) {
        // It may have much to read, though nothing new comes.
        self.unsettled = true;
        match self.end {
            Some(end) => {
                start.get_or_init(|| end);
            }
            None => self.starts.push(Arc::clone(start)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Draft, IdSource, Lineage};

    fn landed(ids: &IdSource, begin: u64, bytes: &[usize]) -> Landed {
        let told = |(seq, &bytes): (u64, &usize)| {
            let id = ids.next(Timestamp::EPOCH);
            let event = Envelope::new(Draft::json("a", 1.into()), id, Timestamp::EPOCH, Lineage::root(id));
            Told { seq: Seq(seq), event: Arc::new(event), bytes }
        };
        let events: Vec<_> = (begin..).zip(bytes).map(told).collect();
        Landed { begin: Seq(begin), end: Seq(begin + bytes.len() as u64), events }
    }

    #[test]
    fn what_has_landed_is_bounded_by_bytes_and_the_oldest_goes() {
        let (ids, mut shore) = (IdSource::new(1), Shore::default());
        for begin in [0, 2, 4] {
            shore.push(landed(&ids, begin, &[30, 30]), 130);
        }
        assert_eq!(shore.take_forgotten(), Some((Seq(0), Seq(2))));
        assert_eq!(shore.take().iter().map(|landed| landed.begin.0).collect::<Vec<_>>(), [2, 4]);
        shore.push(landed(&ids, 6, &[131]), 130);
        assert!(!shore.is_empty() && shore.take().is_empty(), "one that is too large is read in the log");
        assert_eq!((shore.take_forgotten(), shore.is_empty()), (Some((Seq(6), Seq(7))), true));
        shore.push(landed(&ids, 7, &[130]), 130);
        assert_eq!(shore.take().len(), 1);
    }
}
