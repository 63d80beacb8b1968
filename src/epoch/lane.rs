//! A lane: the keys that hash to it, and their deadlines in order.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    fmt,
};

use foldhash::fast::RandomState;

use super::{
    StateKey,
    entry::{Entry, Kept, Row, Touch},
    moment::{Bound, Moment, Next},
};

/// How many keys are looked at to find some that can be taken out of memory.
const LOOKED_AT: usize = 16_384;

/// How many places in the order of use may be of keys that went by themselves, however few there are in memory.
const LEFT_BEHIND: usize = 1_024;

/// Some of a stage's keys. A lane owns all that it needs of them; lanes share nothing.
pub(super) struct Lane<In, S> {
    entries: HashMap<StateKey, Entry<In, S>, RandomState>,
    /// What is due, in order: for every key in memory, and for those on disk up to where the index was read.
    near: BTreeSet<Moment>,
    /// Of `near`, how many are of keys that are not in memory.
    absent: usize,
    /// Keys that the epoch under way has changed.
    touched: Vec<StateKey>,
    touched_bytes: usize,
    /// Each key in memory, about in the order of their last use; and some that are there no more, or there again.
    order: VecDeque<(u64, StateKey)>,
    bytes: usize,
}

impl<In, S> Default for Lane<In, S> {
    fn default() -> Self {
        Self {
            entries: HashMap::default(),
            near: BTreeSet::new(),
            absent: 0,
            touched: Vec::new(),
            touched_bytes: 0,
            order: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<In, S> fmt::Debug for Lane<In, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("keys", &self.entries.len()).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<In, S> Lane<In, S> {
    pub(super) fn get(&self, key: &StateKey) -> Option<&Entry<In, S>> {
        self.entries.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &StateKey) -> Option<&mut Entry<In, S>> {
        self.entries.get_mut(key)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn first(&self) -> Option<&Moment> {
        self.near.first()
    }

    pub(super) fn due(&self) -> impl Iterator<Item = &Moment> {
        self.near.iter()
    }

    pub(super) fn absent(&self) -> usize {
        self.absent
    }

    /// Adds a key that was not in memory. Its place in the index, if it had one there, is its own now.
    pub(super) fn insert(&mut self, key: &StateKey, entry: Entry<In, S>) {
        if let Row::Present(Some(next)) = entry.row
            && self.near.remove(&Moment { next, key: key.clone() })
        {
            self.absent -= 1;
        }
        self.bytes += entry.bytes;
        self.order.push_back((entry.used, key.clone()));
        self.entries.insert(key.clone(), entry);
        if self.order.len() > 2 * self.entries.len() + LEFT_BEHIND {
            self.tidy_order();
        }
    }

    /// Each key in memory once.
    fn tidy_order(&mut self) {
        let Self { entries, order, .. } = self;
        let mut seen = HashSet::with_capacity(entries.len());
        order.retain(|(_, key)| entries.get_key_value(key).is_some_and(|(key, _)| seen.insert(key)));
    }

    /// Sees a row of the index on disk. What is in memory knows better.
    pub(super) fn found(&mut self, moment: Moment) {
        if !self.entries.contains_key(&moment.key) && self.near.insert(moment) {
            self.absent += 1;
        }
    }

    /// Forgets what the index said of a key that turned out not to be there.
    pub(super) fn drop_absent(&mut self, moment: &Moment) {
        if self.near.remove(moment) {
            self.absent -= 1;
        }
    }

    /// Says what a key in memory waits for. A key that `is_listed` says no to keeps its place on disk alone.
    pub(super) fn set_next(&mut self, key: &StateKey, next: Option<Next>, is_listed: bool) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.next == next {
            return;
        }
        if let Some(before) = entry.next.take() {
            self.near.remove(&Moment { next: before, key: key.clone() });
        }
        entry.next = next;
        if let Some(next) = next
            && is_listed
        {
            self.near.insert(Moment { next, key: key.clone() });
        }
    }

    /// Takes a key out of the index; in memory it stays.
    pub(super) fn unlist(&mut self, key: &StateKey) {
        if let Some(next) = self.entries.get(key).and_then(|entry| entry.next) {
            self.near.remove(&Moment { next, key: key.clone() });
        }
    }

    /// Puts it back.
    pub(super) fn list(&mut self, key: &StateKey) {
        if let Some(next) = self.entries.get(key).and_then(|entry| entry.next) {
            self.near.insert(Moment { next, key: key.clone() });
        }
    }

    /// Notes that the epoch under way changes a key.
    pub(super) fn touch(&mut self, key: &StateKey, touch: Touch, landed: u64, used: u64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.used = used;
        if entry.touched.is_none() {
            self.touched.push(key.clone());
            self.touched_bytes += entry.bytes;
            if entry.is_settled(landed) && matches!(entry.row, Row::Present(_)) {
                entry.kept = Kept::OnDisk;
            }
        }
        entry.touched = Some(touch);
    }

    pub(super) fn touched(&self) -> &[StateKey] {
        &self.touched
    }

    pub(super) fn touched_bytes(&self) -> usize {
        self.touched_bytes
    }

    pub(super) fn take_touched(&mut self) -> Vec<StateKey> {
        self.touched_bytes = 0;
        std::mem::take(&mut self.touched)
    }

    pub(super) fn weigh(&mut self, key: &StateKey, bytes: usize) {
        if let Some(entry) = self.entries.get_mut(key) {
            self.bytes = self.bytes - entry.bytes + bytes;
            entry.bytes = bytes;
        }
    }

    /// Takes a key out of memory. The index keeps what the disk says of it, as far as it was read.
    pub(super) fn remove(&mut self, key: &StateKey, read_to: &Bound, is_listed: bool) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.bytes -= entry.bytes;
        if let Some(next) = entry.next {
            self.near.remove(&Moment { next, key: key.clone() });
        }
        if let Row::Present(Some(next)) = entry.row
            && is_listed
        {
            let moment = Moment { next, key: key.clone() };
            if read_to.covers(&moment) && self.near.insert(moment) {
                self.absent += 1;
            }
        }
    }

    /// Takes clean keys out of memory, about the least recently used first, until no more than `limit` bytes are left.
    pub(super) fn evict(&mut self, limit: usize, landed: u64, read_to: &Bound, is_listed: impl Fn(&StateKey) -> bool) {
        for _ in 0..self.order.len().min(LOOKED_AT) {
            if self.bytes <= limit {
                return;
            }
            let Some((used, key)) = self.order.pop_front() else { return };
            match self.entries.get(&key) {
                None => {}
                Some(entry) if entry.used == used && entry.is_clean(landed) => {
                    let is_listed = is_listed(&key);
                    self.remove(&key, read_to, is_listed);
                }
                Some(entry) => self.order.push_back((entry.used, key)),
            }
        }
    }

    /// Forgets what was read of the index beyond `bound`, but for keys in memory.
    pub(super) fn forget_beyond(&mut self, bound: &Moment) {
        let Self { near, entries, absent, .. } = self;
        let beyond = near.split_off(bound);
        near.extend(beyond.into_iter().filter(|moment| {
            let stays = moment == bound || entries.contains_key(&moment.key);
            *absent -= usize::from(!stays);
            stays
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_comes_and_goes_leaves_nothing_behind() {
        let mut lane = Lane::<(), ()>::default();
        for number in 0..100_000_u64 {
            let key = StateKey::new(None, &(number % 50_000).to_string());
            lane.insert(&key, Entry { used: number, ..Entry::new(Kept::Gone, Row::Absent) });
            lane.remove(&key, &Bound::Nothing, true);
        }
        let kept = (lane.entries.len(), lane.near.len(), lane.bytes);
        assert!(kept == (0, 0, 0) && lane.order.len() < 2_000, "{kept:?} {}", lane.order.len());
    }

    #[test]
    fn keys_that_are_there_keep_their_place_in_the_order_of_use() {
        let mut lane = Lane::<(), ()>::default();
        let key = |number: u64| StateKey::new(None, &number.to_string());
        for number in 0..100 {
            lane.insert(&key(number), Entry { used: number, ..Entry::new(Kept::Gone, Row::Absent) });
        }
        for number in 100..10_000 {
            lane.insert(&key(number), Entry { used: number, ..Entry::new(Kept::Gone, Row::Absent) });
            lane.remove(&key(number), &Bound::Nothing, true);
        }
        let half = lane.bytes() / 2;
        lane.evict(half, 0, &Bound::Nothing, |_| true);
        assert_eq!(lane.len(), 50);
        assert!((50..100).all(|number| lane.get(&key(number)).is_some()), "those that were used last");
    }
}
