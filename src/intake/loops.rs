//! Loop protection: how many events each root has caused.

use std::collections::HashMap;

use millstream_operators::Timestamp;

use crate::event::EventId;

/// Counts by root, bounded in number and in idle time.
///
/// Two generations stand for a least-recently-used list: a root that is counted moves to the young one, and when that
/// is full, or older than the idle time, the old one is forgotten and the young one becomes old. So a root that goes
/// on is never forgotten, and an idle one is within two turns.
#[derive(Debug)]
pub(crate) struct Roots {
    young: Counts,
    old: Counts,
    turned: Timestamp,
}

type Counts = HashMap<EventId, u32, foldhash::fast::RandomState>;

impl Roots {
    /// Roots in a generation.
    const MOST: usize = 65_536;
    /// How long a generation stays young.
    const IDLE: std::time::Duration = std::time::Duration::from_mins(10);

    pub(crate) fn new(now: Timestamp) -> Self {
        Self { young: Counts::default(), old: Counts::default(), turned: now }
    }

    /// Whether the root has caused as many events as allowed.
    pub(crate) fn is_spent(&self, root: EventId, limit: u32) -> bool {
        self.young.get(&root).or_else(|| self.old.get(&root)).is_some_and(|&count| count >= limit)
    }

    /// Counts one more event of this root.
    pub(crate) fn count(&mut self, root: EventId, now: Timestamp) {
        if self.young.len() >= Self::MOST || now.since(self.turned) >= Self::IDLE {
            self.old = std::mem::take(&mut self.young);
            self.turned = now;
        }
        let before = self.old.remove(&root);
        *self.young.entry(root).or_insert(before.unwrap_or(0)) += 1;
    }

    /// One event of this root that was counted is not there after all.
    pub(crate) fn take_back(&mut self, root: EventId) {
        if let Some(count) = self.young.get_mut(&root).or_else(|| self.old.get_mut(&root)) {
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::IdSource;

    #[test]
    fn a_root_that_goes_on_is_not_forgotten_among_many_others() {
        let ids = IdSource::new(1);
        let now = Timestamp::EPOCH;
        let (mut roots, hot) = (Roots::new(now), ids.next(now));
        for round in 0..20 {
            assert!(!roots.is_spent(hot, 20), "round {round}");
            roots.count(hot, now);
            (0..Roots::MOST / 2).for_each(|_| roots.count(ids.next(now), now));
        }
        assert!(roots.is_spent(hot, 20));
        assert!(roots.young.len() + roots.old.len() <= 2 * Roots::MOST);
    }

    #[test]
    fn an_idle_root_is_forgotten_after_two_turns() {
        let root = IdSource::new(1).next(Timestamp::EPOCH);
        let mut roots = Roots::new(Timestamp::EPOCH);
        roots.count(root, Timestamp::EPOCH);
        let other = IdSource::new(2).next(Timestamp::EPOCH);
        roots.count(other, Timestamp::EPOCH + Roots::IDLE);
        assert!(roots.is_spent(root, 1));
        roots.count(other, Timestamp::EPOCH + Roots::IDLE * 2);
        assert!(!roots.is_spent(root, 1));
    }
}
