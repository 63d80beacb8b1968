//! What comes in: the classes of a log, merged by sequence.
//!
//! Classes are read one after the other, so one that was read early may have got a record meanwhile that comes before what
//! was read of another. A record is handed out only once every class is known up to it. What is known of a class that was
//! read to its end reaches as far as what had been *seen* of any class before that read began: for records are committed in
//! the order of their sequence.

use std::collections::{BTreeSet, VecDeque};

use millstream_operators::Timestamp;

use crate::{
    event::Pattern,
    store::{CLASSES, Class, PageRecord, Reader, Seq, StoreError, Wanted},
};

/// How much is read of a class at a time, in bytes.
const READ: usize = 256 << 10;

#[derive(Debug, Default)]
struct Log {
    buffer: VecDeque<PageRecord>,
    /// Where to read on.
    next: Seq,
    /// All before it is in the buffer, was handed out, or was never there.
    known: Seq,
    is_end: bool,
}

/// The records that a stage takes, in the order of their sequence.
#[derive(Debug)]
pub(super) struct Input {
    pattern: Pattern,
    wanted: Wanted,
    logs: Vec<Log>,
    ready: VecDeque<PageRecord>,
    /// After the last record that was seen of any class.
    seen: Seq,
    skipped: u64,
}

impl Input {
    pub(super) fn new(pattern: Pattern, from: Seq, since: Option<Timestamp>) -> Self {
        let is_name = !pattern.as_str().split('.').any(|token| matches!(token, "*" | ">"));
        let names = is_name.then(|| BTreeSet::from([pattern.as_str().into()]));
        let log = || Log { next: from, known: from, ..Log::default() };
        Self {
            pattern,
            wanted: Wanted { names, since, ..Wanted::default() },
            logs: (0..CLASSES).map(|_| log()).collect(),
            ready: VecDeque::new(),
            seen: from,
            skipped: 0,
        }
    }

    /// Reads until a record can be handed out or every class is at its end.
    ///
    /// # Cancel safety
    /// What was read is kept.
    pub(super) async fn fill(&mut self, reader: &dyn Reader) -> Result<(), StoreError> {
        let mut is_first = true;
        while self.ready.is_empty() {
            let head = self.logs.iter().filter_map(|log| log.buffer.front()).map(|record| record.seq).min();
            let stale: Vec<_> = (0..self.logs.len())
                .filter(|&class| {
                    let log = &self.logs[class];
                    log.buffer.is_empty() && head.map_or(is_first || !log.is_end, |head| log.known <= head)
                })
                .collect();
            if stale.is_empty() {
                return Ok(());
            }
            for class in stale {
                self.read(class, reader).await?;
            }
            is_first = false;
            self.release();
        }
        Ok(())
    }

    async fn read(&mut self, class: usize, reader: &dyn Reader) -> Result<(), StoreError> {
        let (seen, from) = (self.seen, self.logs[class].next);
        #[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
        let page = match reader.read(Class(class as u8), from, READ, &self.wanted).await {
            Ok(page) => page,
            Err(StoreError::Trimmed { first }) => {
                let log = &mut self.logs[class];
                (log.next, log.known, log.is_end) = (first.max(from.next()), log.known.max(first), false);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let log = &mut self.logs[class];
        log.next = page.next.max(from);
        log.is_end = page.is_end;
        log.known = if page.is_end { log.next.max(seen) } else { log.next };
        self.seen = self.seen.max(page.records.last().map_or(Seq(0), |last| last.seq.next()));
        log.buffer.extend(page.records);
        Ok(())
    }

    /// Hands out what comes before all that is not known yet.
    fn release(&mut self) {
        loop {
            let known = self.logs.iter().filter(|log| log.buffer.is_empty()).map(|log| log.known).min();
            let heads = self.logs.iter_mut().filter(|log| !log.buffer.is_empty());
            let Some(first) = heads.min_by_key(|log| log.buffer.front().map(|record| record.seq)) else { return };
            let is_next = |record: &mut PageRecord| known.is_none_or(|known| record.seq < known);
            let Some(record) = first.buffer.pop_front_if(is_next) else { return };
            if self.pattern.matches(&record.name) && self.since().is_none_or(|since| record.time >= since) {
                self.ready.push_back(record);
            } else {
                self.skipped += 1;
            }
        }
    }

    /// What came before is not taken.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.wanted.since
    }

    /// The next record.
    pub(super) fn pop(&mut self) -> Option<PageRecord> {
        self.ready.pop_front()
    }

    /// Gives records back, to hand them out again. They come before all others.
    pub(super) fn put_back(&mut self, records: impl DoubleEndedIterator<Item = PageRecord>) {
        records.rev().for_each(|record| self.ready.push_front(record));
    }

    /// All before it was handed out and not given back, is not wanted, or was never there.
    pub(super) fn position(&self) -> Seq {
        let first = |log: &Log| log.buffer.front().map_or(log.known, |record| record.seq);
        let unread = self.logs.iter().map(first).min().unwrap_or_default();
        self.ready.front().map_or(unread, |record| record.seq)
    }

    /// Whether nothing follows for now.
    pub(super) fn is_at_end(&self) -> bool {
        self.ready.is_empty() && self.logs.iter().all(|log| log.buffer.is_empty() && log.is_end)
    }

    /// How many were passed over since this was last asked.
    pub(super) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}
