//! Lanes with a bound.

use std::{collections::VecDeque, hash::Hash};

use serde::{Deserialize, Serialize};

use super::{CLASSES, Lanes, Room};

/// What becomes of an event for which the queue has no room. Each loss is counted; waiting for room is a method of the
/// emitter, not a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overflow {
    /// The emitter gets the event back. The default.
    #[default]
    Refuse,
    /// The oldest event that waits in its class, else in the lowest class below it, makes room. Where there is none
    /// (all are being handled, or more urgent) the event is refused.
    DropOldest,
    /// The new event is dropped, and its receipt says so.
    DropNewest,
}

/// What became of an item that was offered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer<T> {
    /// It waits.
    Queued,
    /// It waits, and the item given here, of that class, does not any more; its room has gone to the new one.
    Displaced(usize, T),
    /// No room: the item again.
    Refused(T),
    /// No room, and the policy is to drop what is new: the item again, to be counted.
    Dropped(T),
}

/// A bounded queue: [`Lanes`] whose items hold [`Room`].
#[derive(Debug)]
pub(crate) struct Bounded<F, T> {
    lanes: Lanes<F, T>,
    room: Room,
    overflow: Overflow,
    sequence: u64,
}

impl<F: Hash + Eq + Clone, T> Bounded<F, T> {
    pub(crate) fn new(room: Room, overflow: Overflow) -> Self {
        Self { lanes: Lanes::default(), room, overflow, sequence: 0 }
    }

    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(crate) fn len_by_class(&self) -> [usize; CLASSES] {
        std::array::from_fn(|class| self.lanes.len_of(class))
    }

    /// The lowest sequence that waits.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.lanes.oldest()
    }

    /// Queues an item if there is room, else does what the policy says.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the item goes to its place without a copy between")]
    pub(crate) fn offer(&mut self, class: usize, fair: Option<&F>, item: T) -> Offer<T> {
        if self.room.has(class) {
            self.room.hold(class);
            self.push_held(class, fair, item);
            return Offer::Queued;
        }
        self.overflow(class, fair, item)
    }

    #[cold]
    fn overflow(&mut self, class: usize, fair: Option<&F>, item: T) -> Offer<T> {
        match self.overflow {
            Overflow::Refuse => Offer::Refused(item),
            Overflow::DropNewest => Offer::Dropped(item),
            Overflow::DropOldest => self.displace(class, fair, item),
        }
    }

    fn displace(&mut self, class: usize, fair: Option<&F>, item: T) -> Offer<T> {
        let victims = [class].into_iter().chain((class + 1..CLASSES).rev());
        for victim in victims {
            if self.lanes.len_of(victim) == 0 {
                continue;
            }
            self.room.release(victim, 1);
            if !self.room.has(class) {
                self.room.hold(victim);
                continue;
            }
            if let Some((_, old)) = self.lanes.take_oldest(victim) {
                self.room.hold(class);
                self.push_held(class, fair, item);
                return Offer::Displaced(victim, old);
            }
        }
        Offer::Refused(item)
    }

    /// Holds room for an item that comes later; `false` where there is none.
    pub(crate) fn hold(&mut self, class: usize) -> bool {
        let has_room = self.room.has(class);
        if has_room {
            self.room.hold(class);
        }
        has_room
    }

    /// Queues an item that already holds its room.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the item goes to its place without a copy between")]
    pub(crate) fn push_held(&mut self, class: usize, fair: Option<&F>, item: T) {
        self.sequence += 1;
        self.lanes.push(class, fair, self.sequence, item);
    }

    /// Queues an item whether there is room or not.
    pub(crate) fn overdraw(&mut self, class: usize, fair: Option<&F>, item: T) {
        self.room.hold(class);
        self.push_held(class, fair, item);
    }

    #[cfg(test)]
    fn pop(&mut self) -> Option<(usize, u64, T)> {
        self.lanes.pop()
    }

    /// Takes out up to `most` items in their turn. They hold their room until that is released.
    pub(crate) fn pop_many<P>(&mut self, most: usize, out: &mut VecDeque<P>, make: impl Fn((u64, T)) -> P) {
        self.lanes.pop_many(most, out, make);
    }

    /// Gives room back.
    pub(crate) fn release(&mut self, class: usize, count: usize) {
        self.room.release(class, count);
    }

    /// Takes out what `unwanted` says, room included.
    pub(crate) fn sweep(&mut self, unwanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let swept = self.lanes.sweep(unwanted);
        swept.into_iter().map(|(class, item)| (self.room.release(class, 1), item).1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(capacity: usize, overflow: Overflow) -> Bounded<&'static str, u32> {
        Bounded::new(Room::new(capacity, [0; CLASSES]), overflow)
    }

    #[test]
    fn a_full_queue_hands_the_item_back_and_room_comes_with_release_not_with_pop() {
        let mut queue = queue(1, Overflow::Refuse);
        assert_eq!(queue.offer(2, None, 1), Offer::Queued);
        assert_eq!(queue.offer(0, None, 2), Offer::Refused(2));
        assert_eq!(queue.pop(), Some((2, 1, 1)));
        assert_eq!(queue.offer(0, None, 2), Offer::Refused(2));
        queue.release(2, 1);
        assert_eq!(queue.offer(0, None, 2), Offer::Queued);
    }

    #[test]
    fn drop_oldest_takes_from_its_class_then_from_the_lowest_below() {
        let mut queue = queue(3, Overflow::DropOldest);
        for (class, item) in [(3, 30), (2, 20), (0, 1)] {
            assert_eq!(queue.offer(class, None, item), Offer::Queued);
        }
        assert_eq!(queue.offer(2, None, 21), Offer::Displaced(2, 20));
        assert_eq!(queue.offer(1, None, 10), Offer::Displaced(3, 30));
        assert_eq!(queue.offer(3, None, 31), Offer::Refused(31), "nothing less urgent waits");
        assert_eq!(queue.room().held(), 3);
    }

    #[test]
    fn drop_oldest_takes_nothing_where_that_would_make_no_room() {
        let mut queue = Bounded::<&str, u32>::new(Room::new(2, [1, 0, 0, 0]), Overflow::DropOldest);
        assert_eq!(queue.offer(0, None, 1), Offer::Queued);
        assert_eq!(queue.offer(2, None, 2), Offer::Queued);
        assert_eq!(queue.pop().map(|(class, ..)| class), Some(0));
        assert_eq!(queue.pop().map(|(class, ..)| class), Some(2));
        assert_eq!(queue.offer(0, None, 3), Offer::Refused(3), "both are being handled");
    }

    #[test]
    fn drop_newest_hands_it_back_to_be_counted() {
        let mut queue = queue(1, Overflow::DropNewest);
        assert_eq!(queue.offer(2, None, 1), Offer::Queued);
        assert_eq!(queue.offer(2, None, 2), Offer::Dropped(2));
    }

    #[test]
    fn what_is_overdrawn_is_paid_back_first() {
        let mut queue = queue(1, Overflow::Refuse);
        queue.overdraw(2, None, 1);
        queue.overdraw(2, None, 2);
        assert_eq!(queue.room().held(), 2);
        queue.release(2, 1);
        assert!(!queue.hold(2));
        queue.release(2, 1);
        assert!(queue.hold(2));
    }
}
