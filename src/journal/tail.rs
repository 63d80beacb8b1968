//! The end of the log, in memory: what was written last, in the order of the log, for all subscriptions that keep up.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{event::Envelope, intake::Landed, store::Seq};

/// The last events of the log. It begins somewhere and has no hole from there on.
#[derive(Debug)]
pub(crate) struct Tail {
    from: Seq,
    next: Seq,
    events: VecDeque<(Seq, Arc<Envelope>)>,
    /// What has landed behind something that nobody has told yet.
    early: BTreeMap<Seq, Early>,
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
    Events(Vec<(Seq, Arc<Envelope>)>),
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

    pub(crate) fn at(end: Seq) -> Self {
        Self { from: end, next: end, events: VecDeque::new(), early: BTreeMap::new() }
    }

    /// The first place from which on it has everything.
    pub(crate) fn from(&self) -> Seq {
        self.from
    }

    /// Behind the last event that was told.
    pub(crate) fn next(&self) -> Seq {
        self.next
    }

    /// What was written together has landed.
    pub(crate) fn land(&mut self, landed: Landed) {
        // What was claimed with the partition is read from the log.
        if landed.begin >= self.next {
            self.early.insert(landed.begin, Early::Told(landed));
        }
    }

    /// As [`land`](Self::land), where nobody has the events.
    pub(crate) fn land_unread(&mut self, begin: Seq, end: Seq) {
        if begin >= self.next {
            self.early.insert(begin, Early::Unread { end });
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
        let Landed { end, events, .. } = match first.remove() {
            Early::Told(landed) => landed,
            Early::Unread { end } => return self.skip_to(end),
        };
        self.next = end;
        self.events.extend(events.iter().cloned());
        while self.events.len() > Self::MOST
            && let Some((oldest, _)) = self.events.pop_front()
        {
            self.from = oldest.next();
        }
        Step::Events(events)
    }

    fn skip_to(&mut self, end: Seq) -> Step {
        let told = self.next;
        (self.from, self.next) = (end, end);
        self.events.clear();
        Step::Gap { told }
    }

    /// The events at or after a place, if it has all of them.
    pub(crate) fn since(&self, seq: Seq) -> Option<impl Iterator<Item = &(Seq, Arc<Envelope>)>> {
        let first = self.events.partition_point(|(at, _)| *at < seq);
        (seq >= self.from).then(|| self.events.range(first..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landed(begin: u64, end: u64) -> Landed {
        Landed { begin: Seq(begin), end: Seq(end), events: Vec::new() }
    }

    #[test]
    fn what_lands_early_waits_for_what_lies_before() {
        let mut tail = Tail::at(Seq(5));
        tail.land(landed(7, 9));
        assert!(matches!(tail.step(true), Step::Nothing));
        tail.land(landed(5, 7));
        assert!(matches!(tail.step(true), Step::Events(_)) && tail.next() == Seq(7));
        assert!(matches!(tail.step(true), Step::Events(_)) && tail.next() == Seq(9));
        assert!(matches!(tail.step(true), Step::Nothing));
    }

    #[test]
    fn a_hole_that_nobody_fills_begins_the_tail_anew() {
        let mut tail = Tail::at(Seq(5));
        tail.land(landed(7, 9));
        assert!(matches!(tail.step(false), Step::Gap { told: Seq(5) }));
        assert!(matches!(tail.step(false), Step::Events(_)));
        assert!(tail.since(Seq(6)).is_none() && tail.since(Seq(7)).is_some());
    }

    #[test]
    fn what_was_there_when_it_began_is_not_told_again() {
        let mut tail = Tail::at(Seq(5));
        tail.land(landed(3, 5));
        assert!(matches!(tail.step(false), Step::Nothing));
    }
}
