//! How much may be held, in all and by class.

use super::CLASSES;

/// Counts what is held against a capacity of which classes may reserve a part.
///
/// A class first uses its own reserve, then what nobody reserved. What is overdrawn (events that handlers returned)
/// counts as held; while more is held than the capacity, nobody has room.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    capacity: usize,
    reserved: [usize; CLASSES],
    held: [usize; CLASSES],
    /// What `held` comes to in all.
    total: usize,
    /// What of it lies beyond the classes' reserves.
    shared: usize,
    /// The part of the capacity that nobody reserved.
    common: usize,
}

impl Room {
    /// The reserves together must not exceed the capacity: whoever builds it has checked.
    pub(crate) fn new(capacity: usize, reserved: [usize; CLASSES]) -> Self {
        let common = capacity.saturating_sub(reserved.iter().sum());
        Self { capacity, reserved, held: [0; CLASSES], total: 0, shared: 0, common }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn held(&self) -> usize {
        self.total
    }

    /// Whether one more of this class may be held.
    pub(crate) fn has(&self, class: usize) -> bool {
        self.total < self.capacity && (self.held[class] < self.reserved[class] || self.shared < self.common)
    }

    /// Holds one more, whether there is room or not.
    pub(crate) fn hold(&mut self, class: usize) {
        self.shared += usize::from(self.held[class] >= self.reserved[class]);
        self.held[class] += 1;
        self.total += 1;
    }

    pub(crate) fn release(&mut self, class: usize, count: usize) {
        debug_assert!(self.held[class] >= count, "released more than was held");
        let count = count.min(self.held[class]);
        self.shared -= count.min(self.held[class].saturating_sub(self.reserved[class]));
        self.held[class] -= count;
        self.total -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_stays_free_for_its_class() {
        let mut room = Room::new(10, [2, 0, 0, 0]);
        (0..8).for_each(|_| room.hold(3));
        assert!(!room.has(3) && !room.has(2) && room.has(0));
        (0..2).for_each(|_| room.hold(0));
        assert!(!room.has(0));
        room.release(3, 1);
        assert!(room.has(0) && room.has(2), "what nobody reserved is anybody's");
    }

    #[test]
    fn nobody_has_room_while_it_is_overdrawn() {
        let mut room = Room::new(4, [2, 0, 0, 0]);
        (0..5).for_each(|_| room.hold(2));
        assert!(!room.has(0) && !room.has(2));
        room.release(2, 2);
        assert!(room.has(0) && !room.has(2));
    }
}
