//! The end of the log, in memory: what was written last, in the order of the log, for all subscriptions that keep up.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    intake::{Landed, Told},
    store::Seq,
};

/// The last events of the log. It begins somewhere and has no hole from there on.
#[derive(Debug)]
pub(crate) struct Tail {
    from: Seq,
    next: Seq,
    events: VecDeque<Told>,
    bytes: usize,
    /// What has landed behind something that nobody has told yet.
    early: BTreeMap<Seq, Early>,
    early_events: usize,
    early_bytes: usize,
    most_bytes: usize,
}

/// What was written together, and whether its events are here.
#[derive(Debug)]
enum Early {
    Told(Landed),
    /// They are in the log alone.
    Unread {
        end: Seq,
    },
}

/// What came of a look at what has landed.
#[derive(Debug)]
pub(crate) enum Step {
    /// The next events.
    Events(Vec<Told>),
    /// Something lies between that nobody will tell: the tail begins anew behind it. The events before are in the log.
    Gap {
        /// Up to here all were told.
        told: Seq,
    },
    /// Nothing, for now.
    Nothing,
}

impl Tail {
    /// The most events that are kept.
    pub(crate) const MOST: usize = 8_192;

    /// One that keeps events whose records take so many bytes at most, and as much again of what has landed early.
    pub(crate) fn at(end: Seq, most_bytes: usize) -> Self {
        Self {
            from: end,
            next: end,
            events: VecDeque::new(),
            bytes: 0,
            early: BTreeMap::new(),
            early_events: 0,
            early_bytes: 0,
            most_bytes,
        }
    }

    /// The first place from which on it has everything.
    pub(crate) fn from(&self) -> Seq {
        self.from
    }

    /// Behind the last event that was told.
    pub(crate) fn next(&self) -> Seq {
        self.next
    }

    /// What was written together has landed. Where there is no room for it, it is in the log alone.
    pub(crate) fn land(&mut self, landed: Landed) {
        // What was claimed with the partition is read from the log.
        if landed.begin < self.next {
            return;
        }
        if landed.begin == landed.end {
            // It says that the log goes as far as that, unless somebody has told what lies there.
            self.early.entry(landed.begin).or_insert(Early::Told(landed));
            return;
        }
        let (events, bytes) = (self.early_events + landed.events.len(), self.early_bytes + landed.bytes());
        if events <= Self::MOST && bytes <= self.most_bytes {
            (self.early_events, self.early_bytes) = (events, bytes);
            self.early.insert(landed.begin, Early::Told(landed));
        } else {
            self.land_unread(landed.begin, landed.end);
        }
    }

    /// As [`land`](Self::land), where nobody has the events.
    pub(crate) fn land_unread(&mut self, begin: Seq, end: Seq) {
        let begin = begin.max(self.next);
        if begin < end {
            let before = self.early.insert(begin, Early::Unread { end });
            self.forget_early(before);
        }
    }

    fn forget_early(&mut self, early: Option<Early>) {
        if let Some(Early::Told(landed)) = early {
            self.early_events -= landed.events.len();
            self.early_bytes -= landed.bytes();
        }
    }

    /// Where the log ends, as far as anybody has told.
    pub(crate) fn end(&self) -> Seq {
        let early = self.early.last_key_value().map(|(_, early)| match early {
            Early::Told(landed) => landed.end,
            Early::Unread { end } => *end,
        });
        early.unwrap_or(self.next).max(self.next)
    }

    /// The next events, in the order of the log. `more` says that what is missing may still be told.
    pub(crate) fn step(&mut self, more: bool) -> Step {
        let Some(first) = self.early.first_entry() else { return Step::Nothing };
        if *first.key() != self.next {
            if more {
                return Step::Nothing;
            }
            let begin = *first.key();
            return self.skip_to(begin);
        }
        let landed = match first.remove() {
            Early::Told(landed) => landed,
            Early::Unread { end } => return self.skip_to(end),
        };
        let bytes = landed.bytes();
        self.early_events -= landed.events.len();
        self.early_bytes -= bytes;
        self.bytes += bytes;
        let Landed { end, events, .. } = landed;
        self.next = end;
        self.events.extend(events.iter().cloned());
        while (self.events.len() > Self::MOST || self.bytes > self.most_bytes)
            && let Some(oldest) = self.events.pop_front()
        {
            self.bytes -= oldest.bytes;
            self.from = oldest.seq.next();
        }
        Step::Events(events)
    }

    fn skip_to(&mut self, end: Seq) -> Step {
        let told = self.next;
        (self.from, self.next) = (end, end);
        self.events.clear();
        self.bytes = 0;
        while let Some(passed) = self.early.first_entry().filter(|first| *first.key() < end) {
            let passed = passed.remove();
            self.forget_early(Some(passed));
        }
        Step::Gap { told }
    }

    /// The events at or after a place, if it has all of them.
    pub(crate) fn since(&self, seq: Seq) -> Option<impl Iterator<Item = &Told>> {
        let first = self.events.partition_point(|told| told.seq < seq);
        (seq >= self.from).then(|| self.events.range(first..))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_operators::Timestamp;

    use super::*;
    use crate::event::{Draft, Envelope, IdSource, Lineage};

    const MOST: usize = 100;

    /// Events of so many bytes each.
    fn told(begin: u64, bytes: &[usize]) -> Landed {
        let ids = IdSource::new(begin);
        let told = |(seq, &bytes): (u64, &usize)| {
            let id = ids.next(Timestamp::EPOCH);
            let event = Envelope::new(Draft::json("a", 1.into()), id, Timestamp::EPOCH, Lineage::root(id));
            Told { seq: Seq(seq), event: Arc::new(event), bytes }
        };
        let events: Vec<_> = (begin..).zip(bytes).map(told).collect();
        Landed { begin: Seq(begin), end: Seq(begin + bytes.len() as u64), events }
    }

    #[test]
    fn it_keeps_no_more_bytes_than_it_may_however_few_events_they_are() {
        let mut tail = Tail::at(Seq(5), MOST);
        for begin in [5, 7, 9] {
            tail.land(told(begin, &[30, 30]));
            assert!(matches!(tail.step(false), Step::Events(events) if events.len() == 2));
        }
        assert_eq!((tail.from(), tail.next()), (Seq(8), Seq(11)));
        assert_eq!(tail.since(Seq(8)).map(Iterator::count), Some(3));
        assert!(tail.since(Seq(7)).is_none());
    }

    #[test]
    fn what_lands_early_beyond_its_bytes_is_read_in_the_log() {
        let mut tail = Tail::at(Seq(5), MOST);
        for begin in [7, 9, 11] {
            tail.land(told(begin, &[30, 30]));
        }
        tail.land(told(5, &[1, 1]));
        assert_eq!((tail.early_events, tail.early_bytes, tail.end()), (4, 62, Seq(13)));
        assert!(matches!(tail.step(true), Step::Events(_)));
        assert!(matches!(tail.step(true), Step::Events(_)) && tail.next() == Seq(9));
        assert!(matches!(tail.step(true), Step::Gap { told: Seq(9) }) && tail.next() == Seq(11));
        assert!(matches!(tail.step(true), Step::Gap { told: Seq(11) }) && tail.next() == Seq(13));
        assert_eq!((tail.early_events, tail.early_bytes, tail.bytes), (0, 0, 0));
        tail.land(told(13, &[101]));
        assert!(matches!(tail.step(true), Step::Gap { .. }) && tail.next() == Seq(14));
    }

    #[test]
    fn what_was_told_within_what_is_read_in_the_log_is_read_there() {
        let mut tail = Tail::at(Seq(5), MOST);
        tail.land(told(7, &[30]));
        tail.land_unread(Seq(3), Seq(9));
        tail.land(told(9, &[30]));
        assert!(matches!(tail.step(true), Step::Gap { told: Seq(5) }) && tail.next() == Seq(9));
        assert!(matches!(tail.step(true), Step::Events(_)) && tail.next() == Seq(10));
        assert_eq!((tail.early_events, tail.early_bytes), (0, 0));
        tail.land_unread(Seq(3), Seq(9));
        assert!(matches!(tail.step(false), Step::Nothing), "that was before");
    }

    fn landed(begin: u64, end: u64) -> Landed {
        Landed { begin: Seq(begin), end: Seq(end), events: Vec::new() }
    }

    #[test]
    fn what_lands_early_waits_for_what_lies_before() {
        let mut tail = Tail::at(Seq(5), MOST);
        tail.land(landed(7, 9));
        assert!(matches!(tail.step(true), Step::Nothing));
        tail.land(landed(5, 7));
        assert!(matches!(tail.step(true), Step::Events(_)) && tail.next() == Seq(7));
        assert!(matches!(tail.step(true), Step::Events(_)) && tail.next() == Seq(9));
        assert!(matches!(tail.step(true), Step::Nothing));
    }

    #[test]
    fn what_has_no_events_takes_nobodys_place() {
        for is_first in [true, false] {
            let mut tail = Tail::at(Seq(5), MOST);
            let both = [told(7, &[1, 1]), landed(7, 7)];
            let both =
                if is_first { both } else { both.into_iter().rev().collect::<Vec<_>>().try_into().expect("two") };
            for landed in both {
                tail.land(landed);
            }
            tail.land(told(5, &[1, 1]));
            for next in [7, 9] {
                let Step::Events(events) = tail.step(true) else { panic!("they are told") };
                assert_eq!((events.len(), tail.next()), (2, Seq(next)));
            }
            assert_eq!((tail.early_events, tail.early_bytes), (0, 0));
        }
        let mut tail = Tail::at(Seq(5), MOST);
        tail.land(landed(7, 7));
        assert!(matches!(tail.step(false), Step::Gap { told: Seq(5) }), "what lies before is read in the log");
    }

    #[test]
    fn a_hole_that_nobody_fills_begins_the_tail_anew() {
        let mut tail = Tail::at(Seq(5), MOST);
        tail.land(landed(7, 9));
        assert!(matches!(tail.step(false), Step::Gap { told: Seq(5) }));
        assert!(matches!(tail.step(false), Step::Events(_)));
        assert!(tail.since(Seq(6)).is_none() && tail.since(Seq(7)).is_some());
    }

    #[test]
    fn what_was_there_when_it_began_is_not_told_again() {
        let mut tail = Tail::at(Seq(5), MOST);
        tail.land(landed(3, 5));
        assert!(matches!(tail.step(false), Step::Nothing));
    }
}
