//! Four lanes with turns: deficit round-robin between classes, round-robin between the fair keys of a class.

use std::{
    collections::{HashMap, VecDeque, vec_deque::Drain},
    hash::Hash,
};

use super::{CLASSES, SHARES};

/// What waits, by class and fair key.
///
/// Deficit round-robin after Shreedhar and Varghese (SIGCOMM 1995), with every item of size one: in a round a class may
/// send as many items as its share, the most urgent class with credit first; a round ends when no class that waits has
/// credit left. An urgent item therefore overtakes at once while its class has credit.
#[derive(Debug)]
pub(crate) struct Lanes<F, T> {
    classes: [Lane<F, T>; CLASSES],
    credit: [u32; CLASSES],
    len: usize,
}

/// One class. `turns` holds each fair key with something waiting exactly once; `None` is who gave none.
#[derive(Debug)]
struct Lane<F, T> {
    alone: VecDeque<(u64, T)>,
    fair: HashMap<F, VecDeque<(u64, T)>, foldhash::fast::RandomState>,
    turns: VecDeque<Option<F>>,
    len: usize,
}

impl<F, T> Default for Lane<F, T> {
    fn default() -> Self {
        Self { alone: VecDeque::new(), fair: HashMap::default(), turns: VecDeque::new(), len: 0 }
    }
}

impl<F, T> Default for Lanes<F, T> {
    fn default() -> Self {
        Self { classes: Default::default(), credit: SHARES, len: 0 }
    }
}

impl<F: Hash + Eq + Clone, T> Lanes<F, T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len_of(&self, class: usize) -> usize {
        self.classes[class].len
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the item goes to its place without a copy between")]
    pub(crate) fn push(&mut self, class: usize, fair: Option<&F>, sequence: u64, item: T) {
        self.classes[class].push(fair, sequence, item);
        self.len += 1;
    }

    /// Puts an item before those of its fair key that have a higher sequence.
    pub(crate) fn insert(&mut self, class: usize, fair: Option<&F>, sequence: u64, item: T) {
        self.classes[class].insert(fair, sequence, item);
        self.len += 1;
    }

    /// The next item, with its class and sequence.
    pub(crate) fn pop(&mut self) -> Option<(usize, u64, T)> {
        self.pop_where(|_| true)
    }

    /// The next item of a class that may move now.
    pub(crate) fn pop_where(&mut self, may_move: impl Fn(usize) -> bool) -> Option<(usize, u64, T)> {
        if self.len == 0 {
            return None;
        }
        let next =
            |credit: &[u32; CLASSES]| (0..CLASSES).find(|&c| credit[c] > 0 && self.classes[c].len > 0 && may_move(c));
        let class = next(&self.credit).or_else(|| {
            self.credit = SHARES;
            next(&self.credit)
        })?;
        self.credit[class] -= 1;
        let (sequence, item) = self.take_from(class)?;
        Some((class, sequence, item))
    }

    /// Takes out up to `most` items, as so many calls of [`pop`](Self::pop) would.
    pub(crate) fn pop_many<P>(&mut self, most: usize, out: &mut VecDeque<P>, make: impl Fn((u64, T)) -> P) {
        if let Some(class) = self.only_class() {
            let count = most.min(self.len);
            self.spend(class, count);
            self.len -= count;
            out.extend(self.classes[class].take_alone(count).map(make));
        } else {
            let popped = std::iter::from_fn(|| self.pop()).take(most);
            out.extend(popped.map(|(_, sequence, item)| make((sequence, item))));
        }
    }

    /// The class that everything waits in, where nothing there has a fair key: nobody takes turns then.
    fn only_class(&self) -> Option<usize> {
        let has_all = |lane: &Lane<F, T>| lane.len > 0 && lane.len == self.len && lane.fair.is_empty();
        self.classes.iter().position(has_all)
    }

    /// What `count` pops of the only class that waits do to the credit: each time it is spent, a new round begins.
    fn spend(&mut self, class: usize, count: usize) {
        let (credit, share) = (self.credit[class] as usize, SHARES[class] as usize);
        let left = if let Some(left) = credit.checked_sub(count) {
            left
        } else {
            self.credit = SHARES;
            (share - (count - credit) % share) % share
        };
        self.credit[class] = u32::try_from(left).unwrap_or(SHARES[class]);
    }

    /// What waits in a class, in no order.
    pub(crate) fn iter_of(&self, class: usize) -> impl Iterator<Item = &T> {
        let lane = &self.classes[class];
        lane.fair.values().chain([&lane.alone]).flatten().map(|(_, item)| item)
    }

    /// Takes out the first item of a class that `is_wanted` says, whoever's turn it is.
    pub(crate) fn take_where(&mut self, class: usize, is_wanted: impl Fn(&T) -> bool) -> Option<T> {
        let taken = self.classes[class].take_where(is_wanted)?;
        self.len -= 1;
        Some(taken)
    }

    /// The item of a class that would come next, whatever the classes' turns.
    fn take_from(&mut self, class: usize) -> Option<(u64, T)> {
        let taken = self.classes[class].pop()?;
        self.len -= 1;
        Some(taken)
    }

    /// The item of a class that has waited longest, whoever's turn it is.
    pub(crate) fn take_oldest(&mut self, class: usize) -> Option<(u64, T)> {
        let taken = self.classes[class].pop_oldest()?;
        self.len -= 1;
        Some(taken)
    }

    /// The lowest sequence that waits.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.classes.iter().filter_map(Lane::oldest).min()
    }

    /// Takes out what `unwanted` says, keeping the order of the rest.
    pub(crate) fn sweep(&mut self, mut unwanted: impl FnMut(&T) -> bool) -> Vec<(usize, T)> {
        let mut swept = Vec::new();
        for (class, lane) in self.classes.iter_mut().enumerate() {
            lane.sweep(&mut unwanted, &mut |item| swept.push((class, item)));
        }
        self.len -= swept.len();
        swept
    }
}

impl<F: Hash + Eq + Clone, T> Lane<F, T> {
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the item goes to its place without a copy between")]
    fn push(&mut self, fair: Option<&F>, sequence: u64, item: T) {
        let queue = match fair {
            None => &mut self.alone,
            Some(key) => self.fair.entry(key.clone()).or_default(),
        };
        if queue.is_empty() {
            self.turns.push_back(fair.cloned());
        }
        queue.push_back((sequence, item));
        self.len += 1;
    }

    fn insert(&mut self, fair: Option<&F>, sequence: u64, item: T) {
        let queue = match fair {
            None => &mut self.alone,
            Some(key) => self.fair.entry(key.clone()).or_default(),
        };
        if queue.is_empty() {
            self.turns.push_back(fair.cloned());
        }
        queue.insert(queue.partition_point(|&(other, _)| other < sequence), (sequence, item));
        self.len += 1;
    }

    fn pop(&mut self) -> Option<(u64, T)> {
        let queue = match self.turns.front()? {
            None => &mut self.alone,
            Some(key) => self.fair.get_mut(key)?,
        };
        let item = queue.pop_front();
        if queue.is_empty() {
            if let Some(key) = self.turns.pop_front()? {
                self.fair.remove(&key);
            }
        } else if self.turns.len() > 1 {
            self.turns.rotate_left(1);
        }
        self.len -= 1;
        item
    }

    fn pop_oldest(&mut self) -> Option<(u64, T)> {
        let alone = self.alone.front().map(|&(sequence, _)| (sequence, None));
        let fair = self.fair.iter().filter_map(|(key, queue)| Some((queue.front()?.0, Some(key))));
        let owner = fair.chain(alone).min_by_key(|&(sequence, _)| sequence)?.1.cloned();
        self.remove(owner, 0)
    }

    fn take_where(&mut self, is_wanted: impl Fn(&T) -> bool) -> Option<T> {
        let place = |queue: &VecDeque<(u64, T)>| queue.iter().position(|(_, item)| is_wanted(item));
        let alone = place(&self.alone).map(|at| (None, at));
        let mut fair = self.fair.iter().filter_map(|(key, queue)| Some((Some(key.clone()), place(queue)?)));
        let (owner, at) = alone.or_else(|| fair.next())?;
        self.remove(owner, at).map(|(_, item)| item)
    }

    /// Takes out the item at a place of the queue of a fair key, or of those who gave none.
    fn remove(&mut self, owner: Option<F>, at: usize) -> Option<(u64, T)> {
        let queue = match &owner {
            None => &mut self.alone,
            Some(key) => self.fair.get_mut(key)?,
        };
        let item = queue.remove(at)?;
        if queue.is_empty() {
            self.turns.retain(|turn| *turn != owner);
            if let Some(key) = owner {
                self.fair.remove(&key);
            }
        }
        self.len -= 1;
        Some(item)
    }

    /// Takes the first `count` out, where nothing has a fair key.
    fn take_alone(&mut self, count: usize) -> Drain<'_, (u64, T)> {
        self.len -= count;
        if self.len == 0 {
            self.turns.clear();
        }
        self.alone.drain(..count)
    }

    fn oldest(&self) -> Option<u64> {
        let fronts = self.fair.values().filter_map(VecDeque::front).chain(self.alone.front());
        fronts.map(|&(sequence, _)| sequence).min()
    }

    fn sweep(&mut self, unwanted: &mut impl FnMut(&T) -> bool, swept: &mut impl FnMut(T)) {
        let before = self.len;
        for queue in self.fair.values_mut().chain([&mut self.alone]) {
            for (sequence, item) in std::mem::take(queue) {
                if unwanted(&item) {
                    self.len -= 1;
                    swept(item);
                } else {
                    queue.push_back((sequence, item));
                }
            }
        }
        if self.len < before {
            self.fair.retain(|_, queue| !queue.is_empty());
            self.turns.retain(|turn| match turn {
                None => !self.alone.is_empty(),
                Some(key) => self.fair.contains_key(key),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(lanes: &mut Lanes<&'static str, u64>) -> Vec<(usize, u64)> {
        std::iter::from_fn(|| lanes.pop().map(|(class, _, item)| (class, item))).collect()
    }

    #[test]
    fn classes_share_64_to_16_to_4_to_1_and_each_stays_in_order() {
        let mut lanes = Lanes::<&str, u64>::default();
        for item in 0..400 {
            (0..CLASSES).for_each(|class| lanes.push(class, None, item, item));
        }
        let popped: Vec<_> = std::iter::from_fn(|| lanes.pop()).take(85 * 4).collect();
        for (class, share) in SHARES.into_iter().enumerate() {
            let of_class: Vec<_> = popped.iter().filter(|(c, ..)| *c == class).map(|&(.., item)| item).collect();
            assert_eq!(of_class, (0..u64::from(share) * 4).collect::<Vec<_>>(), "class {class}");
        }
    }

    #[test]
    fn an_urgent_item_overtakes_at_once() {
        let mut lanes = Lanes::<&str, u64>::default();
        (0..50).for_each(|item| lanes.push(3, None, item, item));
        assert_eq!(lanes.pop().map(|(class, ..)| class), Some(3));
        lanes.push(0, None, 99, 99);
        assert_eq!(lanes.pop(), Some((0, 99, 99)));
    }

    #[test]
    fn fair_keys_take_turns_and_leave_nothing_behind() {
        let mut lanes = Lanes::default();
        (0..6).for_each(|item| lanes.push(2, Some(&"flood"), item, item));
        (10..12).for_each(|item| lanes.push(2, Some(&"small"), item, item));
        lanes.push(2, None, 20, 20);
        assert_eq!(drain(&mut lanes).iter().map(|&(_, item)| item).collect::<Vec<_>>(), [0, 10, 20, 1, 11, 2, 3, 4, 5]);
        assert!(lanes.is_empty() && lanes.classes[2].fair.is_empty() && lanes.classes[2].turns.is_empty());
    }

    #[test]
    fn many_pops_at_once_are_the_same_as_one_by_one() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut at_once, mut by_one) = (Lanes::<&str, u64>::default(), Lanes::<&str, u64>::default());
        for item in 0..20_000 {
            let class = if random.u8(..) < 250 { 2 } else { random.usize(..CLASSES) };
            let fair = (random.u8(..) > 250).then_some(&"fair");
            at_once.push(class, fair, item, item);
            by_one.push(class, fair, item, item);
            if random.u8(..) < 20 {
                let most = random.usize(..40);
                let mut many = VecDeque::new();
                at_once.pop_many(most, &mut many, |waited| waited);
                let ones = std::iter::from_fn(|| by_one.pop()).take(most).map(|(_, sequence, item)| (sequence, item));
                assert_eq!(many, ones.collect::<VecDeque<_>>());
                assert_eq!((at_once.credit, at_once.len), (by_one.credit, by_one.len));
                assert_eq!(at_once.classes[2].turns, by_one.classes[2].turns);
            }
        }
    }

    #[test]
    fn a_sweep_keeps_order_and_turns() {
        let mut lanes = Lanes::default();
        (0..4).for_each(|item| lanes.push(2, Some(&"a"), item, item));
        (4..6).for_each(|item| lanes.push(1, Some(&"b"), item, item));
        assert_eq!(lanes.oldest(), Some(0));
        assert_eq!(lanes.sweep(|&item| item != 3), [(1, 4), (1, 5), (2, 0), (2, 1), (2, 2)]);
        assert_eq!((lanes.len(), lanes.oldest()), (1, Some(3)));
        assert_eq!(drain(&mut lanes), [(2, 3)]);
    }

    #[test]
    fn a_class_that_may_not_move_is_passed_over() {
        let mut lanes = Lanes::<&str, u64>::default();
        lanes.push(0, None, 0, 0);
        lanes.push(3, None, 1, 1);
        assert_eq!(lanes.pop_where(|class| class != 0), Some((3, 1, 1)));
        assert_eq!(lanes.pop_where(|class| class != 0), None);
        assert_eq!(lanes.len(), 1);
    }
}
