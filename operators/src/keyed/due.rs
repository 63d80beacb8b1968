//! One ordered index of deadlines, for millions of keys.
//!
//! A radix heap: deadlines lie in buckets by the highest bit in which they differ from the last that was taken. Since
//! time does not go back, taking the next only ever spreads one bucket over lower ones, by walking along it: no jumps
//! through memory as in a binary heap. Ahuja, Mehlhorn, Orlin and Tarjan, "Faster algorithms for the shortest path
//! problem", 1990.

use crate::Timestamp;

/// A deadline, the birth of its key, and where the key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    pub(super) at: Timestamp,
    pub(super) born: u64,
    pub(super) id: u32,
}

const BUCKETS: usize = u64::BITS as usize + 1;

/// Deadlines in order, and at one time in the order of the keys' births.
#[derive(Clone, Debug)]
pub(super) struct Deadlines {
    /// The first holds what is due at `last` or before, latest first.
    buckets: [Vec<Due>; BUCKETS],
    last: Timestamp,
    first: Option<Timestamp>,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { buckets: [const { Vec::new() }; BUCKETS], last: Timestamp::EPOCH, first: None }
    }
}

impl Deadlines {
    /// The earliest.
    #[inline]
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.first
    }

    pub(super) fn clear(&mut self) {
        self.buckets.iter_mut().for_each(Vec::clear);
        self.first = None;
    }

    fn bucket(&self, at: Timestamp) -> usize {
        let differs = at.max(self.last).as_nanos() ^ self.last.as_nanos();
        (u64::BITS - differs.leading_zeros()) as usize
    }

    #[inline]
    pub(super) fn push(&mut self, due: Due) {
        let bucket = self.bucket(due.at);
        let list = &mut self.buckets[bucket];
        if bucket == 0 {
            let place = list.partition_point(|other| *other > due);
            list.insert(place, due);
        } else {
            list.push(due);
        }
        self.first = Some(self.first.map_or(due.at, |first| first.min(due.at)));
    }

    /// Takes the earliest, if it is due at `to` or before.
    pub(super) fn pop(&mut self, to: Timestamp) -> Option<Due> {
        let first = self.first.filter(|first| *first <= to)?;
        if self.buckets[0].is_empty() {
            self.spread(first);
        }
        let due = self.buckets[0].pop();
        self.first = self.buckets[0].last().map(|next| next.at).or_else(|| {
            let lowest = self.buckets.iter().find(|bucket| !bucket.is_empty())?;
            lowest.iter().map(|due| due.at).min()
        });
        due
    }

    /// Spreads the lowest bucket that holds anything, now that `first` is its earliest.
    fn spread(&mut self, first: Timestamp) {
        self.last = first;
        let Some(lowest) = self.buckets.iter().position(|bucket| !bucket.is_empty()) else { return };
        let mut list = std::mem::take(&mut self.buckets[lowest]);
        for due in list.drain(..) {
            let bucket = self.bucket(due.at);
            self.buckets[bucket].push(due);
        }
        // Its room is kept for those that come.
        if self.buckets[lowest].is_empty() {
            self.buckets[lowest] = list;
        }
        self.buckets[0].sort_unstable_by(|a, b| b.cmp(a));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_come_in_order_whatever_is_pushed_between(steps in prop::collection::vec((0_u64..50, 0_u64..9), 0..99)) {
            let (mut deadlines, mut model, mut now) = (Deadlines::default(), std::collections::BTreeSet::new(), 0);
            for (born, (ahead, passes)) in (0..).zip(steps) {
                let at = Timestamp::from_nanos(now + ahead);
                deadlines.push(Due { at, born, id: 0 });
                model.insert((at, born));
                now += passes;
                while let Some(due) = deadlines.pop(Timestamp::from_nanos(now)) {
                    prop_assert_eq!(model.pop_first(), Some((due.at, due.born)));
                }
                prop_assert_eq!(deadlines.first(), model.first().map(|(at, _)| *at));
            }
        }
    }
}
