//! A map that forgets: after a time, and beyond a size. Time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

/// Each entry has a life of its own; beyond `capacity` the one that expires first goes.
#[derive(Debug)]
pub(crate) struct Expiring<K, V> {
    capacity: usize,
    entries: HashMap<K, (Due, V), RandomState>,
    order: BTreeMap<Due, K>,
    serial: u64,
}

/// A life that is too long for the clock.
const FOR_EVER: Duration = Duration::from_hours(24 * 365 * 100);

/// When an entry expires, and a number that makes it unique.
type Due = (Instant, u64);

impl<K: Hash + Eq + Clone, V> Expiring<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), entries: HashMap::default(), order: BTreeMap::new(), serial: 0 }
    }

    pub(crate) fn get(&mut self, key: &K, now: Instant) -> Option<&mut V> {
        self.expire(now);
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// Puts `value` in place of what was there; it lives for `life` from `now` on.
    pub(crate) fn insert(&mut self, key: K, value: V, life: Duration, now: Instant) {
        self.expire(now);
        self.remove(&key);
        self.serial += 1;
        let due = (now.checked_add(life).unwrap_or_else(|| now + FOR_EVER), self.serial);
        self.order.insert(due, key.clone());
        self.entries.insert(key, (due, value));
        while self.entries.len() > self.capacity {
            self.drop_first();
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (due, value) = self.entries.remove(key)?;
        self.order.remove(&due);
        Some(value)
    }

    pub(crate) fn len(&mut self, now: Instant) -> usize {
        self.expire(now);
        self.entries.len()
    }

    fn expire(&mut self, now: Instant) {
        while self.order.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, key)) = self.order.pop_first() {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn it_forgets_after_its_time_and_beyond_its_size() {
        let start = now();
        let mut map = Expiring::new(3);
        for n in 0..5 {
            map.insert(n, n, S * 10, start + S * n);
        }
        assert_eq!(map.len(start + S * 5), 3);
        assert_eq!(map.get(&1, start + S * 5), None);
        assert_eq!(map.get(&4, start + S * 13), Some(&mut 4));
        assert_eq!(map.len(start + S * 14), 0);
    }

    #[test]
    fn a_replaced_entry_has_the_life_of_its_replacement() {
        let start = now();
        let mut map = Expiring::new(10);
        map.insert(1, "old", S * 100, start);
        map.insert(1, "new", S * 10, start + S * 5);
        assert_eq!(map.get(&1, start + S * 11), Some(&mut "new"));
        assert_eq!(map.get(&1, start + S * 15), None);
    }

    #[test]
    fn changes_leave_nothing_behind() {
        let start = now();
        let mut map = Expiring::new(1_000);
        for n in 0..100_000_u32 {
            map.insert(n % 10, n, S, start);
            map.remove(&(n % 7));
        }
        assert_eq!(map.order.len(), map.entries.len());
        assert!(map.len(start) <= 10);
    }
}
