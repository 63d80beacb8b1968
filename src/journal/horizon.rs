//! The delayed events that are due next: their keys alone, however many wait on disk.

use std::collections::BTreeSet;

use bytes::Bytes;
use millstream_operators::Timestamp;

/// A delayed event: when it is due, and its id.
pub(crate) type DueKey = (Timestamp, u128);

/// The first keys in the order of their due times. What lies beyond is read when it comes near.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    keys: BTreeSet<DueKey>,
    /// From here on there may be more in the store than here; none where all of it is here.
    beyond: Option<DueKey>,
    /// What came while the store was being read, which may not have seen it; none while it is not.
    meanwhile: Option<BTreeSet<DueKey>>,
}

/// The key of a delayed event's row, read.
pub(crate) fn parse_key(key: &[u8]) -> Option<DueKey> {
    let (due, id) = key.split_at_checked(8)?;
    let due = Timestamp::from_nanos(u64::from_be_bytes(due.try_into().ok()?));
    Some((due, u128::from_be_bytes(id.try_into().ok()?)))
}

/// The key of a delayed event's row, to be written.
pub(crate) fn row_key((due, id): DueKey) -> Bytes {
    [&due.as_nanos().to_be_bytes()[..], &id.to_be_bytes()].concat().into()
}

impl Horizon {
    /// The most keys that are kept.
    pub(crate) const MOST: usize = 2_048;

    /// Adds the next rows of the store; whether they were the last ones.
    pub(crate) fn extend(&mut self, keys: impl IntoIterator<Item = DueKey>, is_all: bool) {
        let mut last = None;
        self.keys.extend(keys.into_iter().inspect(|key| last = Some(*key)));
        self.beyond = if is_all { None } else { last.or(self.beyond) };
        let beyond = self.beyond;
        let near = self.meanwhile.take().into_iter().flatten();
        self.keys.extend(near.filter(|key| beyond.is_none_or(|beyond| *key <= beyond)));
        self.shorten();
    }

    /// A new row is in the store.
    pub(crate) fn add(&mut self, key: DueKey) {
        if self.beyond.is_none_or(|beyond| key <= beyond) {
            self.keys.insert(key);
            self.shorten();
        } else if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.insert(key);
        }
    }

    /// Whether this one is known to wait.
    pub(crate) fn has(&self, key: DueKey) -> bool {
        self.keys.contains(&key)
    }

    /// The store is read from here on: what came before is seen there.
    pub(crate) fn looks(&mut self) {
        self.meanwhile = Some(BTreeSet::new());
    }

    /// The store cannot be read: what is there is all that there is.
    pub(crate) fn give_up(&mut self) {
        self.extend([], true);
    }

    /// Not while the store is read: what is dropped now lies before what comes of that, and would not be read again.
    fn shorten(&mut self) {
        while self.meanwhile.is_none() && self.keys.len() > Self::MOST {
            self.keys.pop_last();
            self.beyond = self.keys.last().copied();
        }
    }

    /// Something was forgotten that may be in the store.
    pub(crate) fn forget(&mut self) {
        *self = Self { beyond: Some((Timestamp::EPOCH, 0)), ..Self::default() };
    }

    /// Where to read on in the store, if it is time for that.
    pub(crate) fn wants(&self) -> Option<Bytes> {
        self.beyond.filter(|_| self.keys.len() < Self::MOST / 4).map(row_key)
    }

    /// When the next one is due. Only once nothing is to be read is it sure that nothing is due before.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.keys.first().map(|(due, _)| *due)
    }

    /// Takes out up to `most` that are due.
    pub(crate) fn take_due(&mut self, now: Timestamp, most: usize) -> Vec<DueKey> {
        let due: Vec<_> = self.keys.iter().take_while(|(due, _)| *due <= now).take(most).copied().collect();
        for key in &due {
            self.keys.remove(key);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_on(horizon: &mut Horizon, store: &BTreeSet<DueKey>) {
        while let Some(from) = horizon.wants() {
            let from = parse_key(&from).unwrap();
            let next: Vec<_> =
                store.range((std::ops::Bound::Excluded(from), std::ops::Bound::Unbounded)).copied().collect();
            let page: Vec<_> = next.iter().take(700).copied().collect();
            horizon.extend(page.iter().copied(), page.len() == next.len());
        }
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = (Timestamp::from_millis(7), 42);
        assert_eq!(parse_key(&row_key(key)), Some(key));
        assert_eq!(parse_key(b"short"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// However rows come and go, they leave in the order of their times, and none is forgotten.
        #[test]
        fn all_rows_are_due_once_in_order(first in 0_u64..6_000, steps in proptest::collection::vec((0_u64..4_000, 0_u64..500), 0..60)) {
            let key = |number: u64| (Timestamp::from_nanos(number % 4_000), u128::from(number) + 1);
            let mut store: BTreeSet<DueKey> = (0..first).map(key).collect();
            let (mut horizon, mut fresh, mut now) = (Horizon::default(), 1_000_000, 0);
            horizon.forget();
            read_on(&mut horizon, &store);
            for (later, due) in steps {
                let added = (Timestamp::from_nanos(now + later + 1), fresh);
                fresh += 1;
                store.insert(added);
                horizon.add(added);
                now += due;
                loop {
                    read_on(&mut horizon, &store);
                    let expected: Vec<_> =
                        store.iter().take_while(|(at, _)| at.as_nanos() <= now).take(64).copied().collect();
                    let taken = horizon.take_due(Timestamp::from_nanos(now), 64);
                    prop_assert_eq!(&taken, &expected);
                    for key in &taken {
                        store.remove(key);
                    }
                    if taken.is_empty() { break }
                }
            }
            prop_assert!(horizon.keys.len() <= Horizon::MOST && horizon.meanwhile.is_none());
        }
    }
}
