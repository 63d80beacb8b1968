//! Which of many streams have something to say: each is polled only when its own waker was called.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Wake, Waker},
};

/// The wakers' side.
#[derive(Debug, Default)]
struct Woken {
    bits: Vec<u64>,
    parent: Option<Waker>,
}

type Shared = Arc<Mutex<Woken>>;

fn lock(shared: &Mutex<Woken>) -> MutexGuard<'_, Woken> {
    // Nothing panics under this lock but a waker's clone, which leaves it as it was.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Slot {
    index: usize,
    shared: Shared,
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let parent = {
            let mut woken = lock(&self.shared);
            set(&mut woken.bits, self.index);
            woken.parent.take()
        };
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

fn set(bits: &mut Vec<u64>, index: usize) {
    let word = index / 64;
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    bits[word] |= 1 << (index % 64);
}

/// A set of streams by number. Those that were woken come in the order of their numbers, from a first one on.
#[derive(Debug, Default)]
pub(crate) struct ReadySet {
    shared: Shared,
    /// Those found ready in this round.
    round: Vec<u64>,
    wakers: Vec<Waker>,
}

impl ReadySet {
    /// Makes `index` known, and ready.
    pub(crate) fn insert(&mut self, index: usize) {
        while self.wakers.len() <= index {
            let slot = Slot { index: self.wakers.len(), shared: Arc::clone(&self.shared) };
            self.wakers.push(Arc::new(slot).into());
        }
        set(&mut self.round, index);
    }

    /// The waker to poll `index` with.
    pub(crate) fn waker(&self, index: usize) -> &Waker {
        &self.wakers[index]
    }

    /// `index` waits.
    pub(crate) fn clear(&mut self, index: usize) {
        if let Some(word) = self.round.get_mut(index / 64) {
            *word &= !(1 << (index % 64));
        }
    }

    /// Whether `index` is ready in this round.
    pub(crate) fn contains(&self, index: usize) -> bool {
        self.round.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// `index` is ready, but others come first.
    pub(crate) fn defer(&mut self, index: usize) {
        self.clear(index);
        set(&mut lock(&self.shared).bits, index);
    }

    /// The first that is ready, counted from `home` on and then from 0.
    #[inline]
    pub(crate) fn first(&self, home: usize) -> Option<usize> {
        let above = |from: usize| {
            let skipped = from / 64;
            self.round.iter().enumerate().skip(skipped).find_map(|(word, bits)| {
                let bits = if word == skipped { bits & (u64::MAX << (from % 64)) } else { *bits };
                (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
            })
        };
        above(home).or_else(|| if home == 0 { None } else { above(0) })
    }

    /// Begins a round with all that were woken since the last; false where none was, and `cx` will be woken then.
    pub(crate) fn next_round(&mut self, cx: &Context<'_>) -> bool {
        let mut woken = lock(&self.shared);
        let any = woken.bits.iter().any(|bits| *bits != 0);
        if any {
            self.round.resize(self.round.len().max(woken.bits.len()), 0);
            for (round, woken) in self.round.iter_mut().zip(&mut woken.bits) {
                *round |= std::mem::take(woken);
            }
        } else if !woken.parent.as_ref().is_some_and(|parent| parent.will_wake(cx.waker())) {
            woken.parent = Some(cx.waker().clone());
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_come_in_order_from_home_on() {
        let mut set = ReadySet::default();
        for index in [0, 3, 70] {
            set.insert(index);
        }
        assert_eq!((set.first(0), set.first(1), set.first(71)), (Some(0), Some(3), Some(0)));
        set.clear(3);
        assert_eq!(set.first(1), Some(70));
    }

    #[test]
    fn a_wake_is_not_lost() {
        let mut set = ReadySet::default();
        set.insert(2);
        set.clear(2);
        let cx = Context::from_waker(Waker::noop());
        assert!(!set.next_round(&cx));
        set.waker(2).wake_by_ref();
        assert!(set.next_round(&cx));
        assert_eq!(set.first(0), Some(2));
    }
}
