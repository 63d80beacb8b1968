//! How far a subscription has read a class.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::store::{Class, Seq};

/// All below `high` is done, but for what is in `open`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) high: Seq,
    open: BTreeSet<Seq>,
    /// Whether it says more than what was written last.
    pub(crate) is_dirty: bool,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    high: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    open: Vec<u64>,
}

/// The key of a cursor's row.
pub(crate) fn cursor_key(subscription: u32, class: Class) -> Bytes {
    let mut key = subscription.to_be_bytes().to_vec();
    key.push(class.0);
    key.into()
}

impl Cursor {
    /// The most events that may be open.
    pub(crate) const MOST_OPEN: usize = 4_096;

    #[cfg(test)]
    fn at(high: Seq) -> Self {
        Self { high, ..Self::default() }
    }

    /// One that begins there, and is not written yet.
    pub(crate) fn fresh(high: Seq) -> Self {
        Self { high, is_dirty: true, ..Self::default() }
    }

    /// Takes an event on: it is open until it is [`done`](Self::done).
    pub(crate) fn take(&mut self, seq: Seq) {
        self.high = self.high.max(seq.next());
        self.open.insert(seq);
    }

    /// An event is handled, or has left the log.
    pub(crate) fn done(&mut self, seq: Seq) {
        self.is_dirty |= self.open.remove(&seq);
    }

    /// What is open from one place to another is done with: nobody can read it. How many they are.
    pub(crate) fn lose(&mut self, from: Seq, below: Seq) -> u64 {
        let lost: Vec<_> = self.open.range(from..below.max(from)).copied().collect();
        for &seq in &lost {
            self.done(seq);
        }
        lost.len() as u64
    }

    /// Passes over what nobody wants.
    pub(crate) fn pass(&mut self, high: Seq) {
        self.high = self.high.max(high);
    }

    /// All below it is done.
    pub(crate) fn floor(&self) -> Seq {
        self.open.first().copied().unwrap_or(self.high)
    }

    pub(crate) fn first_open(&self) -> Option<Seq> {
        self.open.first().copied()
    }

    pub(crate) fn is_open(&self, seq: Seq) -> bool {
        self.open.contains(&seq)
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = Seq> + '_ {
        self.open.iter().copied()
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// How many are open before a place.
    pub(crate) fn open_before(&self, place: Seq) -> usize {
        self.open.range(..place).count()
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        let written = Written { high: self.high.0, open: self.open().map(|seq| seq.0).collect() };
        serde_json::to_vec(&written).unwrap_or_default().into()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> serde_json::Result<Self> {
        let Written { high, open } = serde_json::from_slice(bytes)?;
        if open.iter().any(|&seq| seq >= high) {
            return Err(serde::de::Error::custom("what is open lies behind what was read"));
        }
        Ok(Self { high: Seq(high), open: open.into_iter().map(Seq).collect(), is_dirty: false })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_open_holds_the_floor_and_nothing_else() {
        let mut cursor = Cursor::at(Seq(10));
        [10, 12, 15].into_iter().map(Seq).for_each(|seq| cursor.take(seq));
        assert_eq!((cursor.floor(), cursor.high), (Seq(10), Seq(16)));
        cursor.done(Seq(10));
        cursor.done(Seq(15));
        assert_eq!((cursor.floor(), cursor.open_count()), (Seq(12), 1));
        cursor.done(Seq(12));
        cursor.pass(Seq(20));
        assert_eq!(cursor.floor(), Seq(20));
    }

    #[test]
    fn done_twice_is_done_once() {
        let mut cursor = Cursor::at(Seq(1));
        cursor.take(Seq(1));
        cursor.done(Seq(1));
        cursor.is_dirty = false;
        cursor.done(Seq(1));
        assert!(!cursor.is_dirty);
    }

    proptest! {
        #[test]
        fn it_is_read_as_it_was_written(high: u64, mut open: BTreeSet<u64>) {
            open.retain(|&seq| seq < high);
            let cursor = Cursor { high: Seq(high), open: open.into_iter().map(Seq).collect(), is_dirty: false };
            prop_assert_eq!(Cursor::from_bytes(&cursor.to_bytes()).unwrap(), cursor);
        }

        /// In whatever order events end, what a restart reads again is what has not ended.
        #[test]
        fn any_order_of_completion_leaves_exactly_the_rest(count in 1_u64..60, done in proptest::collection::vec(0_u64..60, 0..80)) {
            let mut cursor = Cursor::default();
            (0..count).map(Seq).for_each(|seq| cursor.take(seq));
            done.iter().copied().map(Seq).for_each(|seq| cursor.done(seq));
            let rest: Vec<u64> = (0..count).filter(|seq| !done.contains(seq)).collect();
            let restored = Cursor::from_bytes(&cursor.to_bytes()).unwrap();
            prop_assert_eq!(restored.open().map(|seq| seq.0).collect::<Vec<_>>(), rest.clone());
            prop_assert_eq!(restored.floor().0, rest.first().copied().unwrap_or(count));
        }
    }
}
