//! How to take a chunk through a plain chain: item by item with branches, or operator by operator without.
//!
//! A branch that the processor foresees costs nothing, one that it does not costs more than all the rest. So one chunk in
//! 64 is watched: a small model of a branch predictor counts how often it would have been wrong about which items pass.

use crate::{Operator, Timestamp};

/// Below this, there is nothing to gain.
const SMALL: usize = 64;
/// One chunk in so many is watched.
const WATCHED: u32 = 64;
/// How many of the last answers the model looks at.
const HISTORY: u32 = 10;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    chunks: u32,
    branchless: bool,
}

/// Two bits for each recent history, as in every text book: two wrong guesses in a row change the guess.
struct Predictor {
    guesses: [u8; 1 << HISTORY],
    history: usize,
    wrong: usize,
}

impl Predictor {
    fn see(&mut self, passes: bool) {
        let guess = &mut self.guesses[self.history];
        self.wrong += usize::from((*guess > 1) != passes);
        *guess = if passes { (*guess + 1).min(3) } else { guess.saturating_sub(1) };
        self.history = (self.history << 1 | usize::from(passes)) & ((1 << HISTORY) - 1);
    }
}

impl Pace {
    /// Whether items of this kind, so many of them, could be faster without branches.
    #[inline]
    pub(crate) fn worth_it<T>(items: &[T]) -> bool {
        let small = const { !std::mem::needs_drop::<T>() && size_of::<T>() <= 16 && size_of::<T>() > 0 };
        small && items.len() >= SMALL
    }

    /// Takes the items through; `items` is left empty.
    #[inline]
    pub(crate) fn chunk<I, O: Operator<I>>(
        &mut self,
        operator: &O,
        state: &mut O::State,
        items: &mut Vec<I>,
        at: Timestamp,
        out: &mut impl FnMut(O::Out, Timestamp),
    ) {
        let watched = self.chunks.is_multiple_of(WATCHED);
        self.chunks = self.chunks.wrapping_add(1);
        if watched {
            self.watch(operator, state, items, at, out);
        } else if self.branchless {
            for item in operator.select(std::mem::take(items)) {
                out(item, at);
            }
        } else {
            operator.on_chunk(state, items, at, out);
        }
    }

    fn watch<I, O: Operator<I>>(
        &mut self,
        operator: &O,
        state: &mut O::State,
        items: &mut Vec<I>,
        at: Timestamp,
        out: &mut impl FnMut(O::Out, Timestamp),
    ) {
        let all = items.len();
        let mut predictor = Predictor { guesses: [1; 1 << HISTORY], history: 0, wrong: 0 };
        for item in items.drain(..) {
            let mut passes = false;
            operator.on_item(state, item, at, &mut |item, at| {
                passes = true;
                out(item, at);
            });
            predictor.see(passes);
        }
        // A wrong guess costs about as much as five items without branches.
        self.branchless = predictor.wrong > all / 5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain;

    fn branchless(item: impl Fn(u64) -> u64) -> bool {
        let (mut pace, chain) = (Pace::default(), chain().filter(|x: &u64| x.is_multiple_of(2)));
        let mut items = (0..1_024).map(item).collect();
        pace.chunk(&chain, &mut ((), ()), &mut items, Timestamp::EPOCH, &mut |_, _| {});
        pace.branchless
    }

    #[test]
    fn only_what_cannot_be_foreseen_goes_without_branches() {
        assert!(!branchless(|_| 0));
        assert!(!branchless(|x| x));
        assert!(!branchless(|x| x / 7));
        assert!(branchless(|x| (x + 1).wrapping_mul(x).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40));
    }

    #[test]
    fn both_ways_give_the_same() {
        let chain = chain().filter(|x: &u64| !x.is_multiple_of(3)).map(|x| x + 1).filter(|x| x.is_multiple_of(2));
        for branchless in [false, true] {
            let (mut pace, mut seen) = (Pace { chunks: 1, branchless }, Vec::new());
            let mut state = chain.init();
            pace.chunk(&chain, &mut state, &mut (0..99).collect(), Timestamp::EPOCH, &mut |x, _| seen.push(x));
            assert_eq!(seen, chain.run_now(0..99));
        }
    }
}
