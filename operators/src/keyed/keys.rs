//! The states of all keys, and one ordered index of their deadlines.

use std::{
    fmt,
    hash::{BuildHasher, Hash},
};

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::due::{Deadlines, Due};
use crate::{
    Operator, Timestamp,
    steps::{advance, feed},
};

const NEVER: Timestamp = Timestamp::MAX;

/// One key. `armed` is the earliest entry in the index that speaks for it: at or before its true deadline.
#[derive(Clone)]
struct Slot<K, S> {
    hash: u64,
    born: u64,
    armed: Timestamp,
    at: Option<(K, S)>,
}

/// The states of all keys that are not vacant, and one index of their deadlines: a million idle keys cost memory and no
/// time.
///
/// Keys whose deadlines fall on one moment fire in the order in which the keys were first seen.
#[derive(Clone)]
pub struct Keys<K, S> {
    table: HashTable<u32>,
    slots: Vec<Slot<K, S>>,
    free: Vec<u32>,
    due: Deadlines,
    births: u64,
    hasher: RandomState,
    ended: bool,
}

impl<K, S> Default for Keys<K, S> {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            due: Deadlines::default(),
            births: 0,
            hasher: RandomState::default(),
            ended: false,
        }
    }
}

impl<K, S> Keys<K, S> {
    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Each key with its state, in the order in which the keys were first seen.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &S)> {
        self.by_birth().into_iter().filter_map(|slot| slot.at.as_ref()).map(|(key, state)| (key, state))
    }

    fn by_birth(&self) -> Vec<&Slot<K, S>> {
        let mut slots: Vec<_> = self.slots.iter().filter(|slot| slot.at.is_some()).collect();
        slots.sort_unstable_by_key(|slot| slot.born);
        slots
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    #[inline]
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.due.first()
    }

    fn arm(&mut self, id: u32, deadline: Option<Timestamp>) {
        let slot = &mut self.slots[id as usize];
        if let Some(due) = deadline
            && due < slot.armed
        {
            slot.armed = due;
            self.due.push(Due { at: due, born: slot.born, id });
        }
    }

    fn forget(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        slot.at = None;
        if let Ok(entry) = self.table.find_entry(slot.hash, |other| *other == id) {
            entry.remove();
        }
        self.free.push(id);
    }
}

impl<K: Hash + Eq, S> Keys<K, S> {
    /// Where the key is, and whether it is new there.
    #[inline]
    fn find(&mut self, key: K, fresh: impl FnOnce() -> S) -> (u32, bool) {
        let Self { table, slots, free, .. } = self;
        let hash = self.hasher.hash_one(&key);
        let is_it = |id: &u32| {
            let slot = &slots[*id as usize];
            slot.hash == hash && slot.at.as_ref().is_some_and(|(other, _)| *other == key)
        };
        let vacant = match table.entry(hash, is_it, |id| slots[*id as usize].hash) {
            Entry::Occupied(entry) => return (*entry.get(), false),
            Entry::Vacant(vacant) => vacant,
        };
        self.births += 1;
        let slot = Slot { hash, born: self.births, armed: NEVER, at: Some((key, fresh())) };
        let id = free.pop().unwrap_or_else(|| u32::try_from(slots.len()).expect("under four billion keys"));
        vacant.insert(id);
        match slots.get_mut(id as usize) {
            Some(free) => *free = slot,
            None => slots.push(slot),
        }
        (id, true)
    }

    #[inline]
    pub(super) fn item<I, O: Operator<I, State = S>>(
        &mut self,
        operator: &O,
        key: K,
        item: I,
        at: Timestamp,
        out: &mut impl FnMut(O::Out, Timestamp),
    ) {
        let (id, new) = self.find(key, || operator.init());
        let Some((_, state)) = &mut self.slots[id as usize].at else { return };
        if new {
            operator.on_start(state, at, out);
        }
        feed(operator, state, item, at, out);
        let (vacant, deadline) = (operator.vacant(state), operator.deadline(state));
        if vacant {
            self.forget(id);
        } else if O::TIMED {
            self.arm(id, deadline);
        }
    }

    /// Fires every deadline up to and with `now`.
    pub(super) fn advance<I, O: Operator<I, State = S>>(
        &mut self,
        operator: &O,
        now: Timestamp,
        out: &mut impl FnMut(O::Out, Timestamp),
    ) {
        while let Some(Due { at: due, born, id }) = self.due.pop(now) {
            let slot = &mut self.slots[id as usize];
            if slot.born != born || slot.armed != due {
                continue;
            }
            slot.armed = NEVER;
            let Some((_, state)) = &mut slot.at else { continue };
            advance(operator, state, due, out);
            let (vacant, deadline) = (operator.vacant(state), operator.deadline(state));
            if vacant {
                self.forget(id);
            } else {
                self.arm(id, deadline);
            }
        }
    }

    /// Ends every key, in the order in which they were first seen. Only true deadlines are left: a stale one would hold
    /// up the end.
    pub(super) fn end<I, O: Operator<I, State = S>>(
        &mut self,
        operator: &O,
        at: Timestamp,
        out: &mut impl FnMut(O::Out, Timestamp),
    ) {
        self.ended = true;
        self.due.clear();
        let mut order: Vec<_> = (0..).zip(&self.slots).map(|(id, slot): (u32, _)| (slot.born, id)).collect();
        order.sort_unstable();
        for (_, id) in order {
            let slot = &mut self.slots[id as usize];
            slot.armed = NEVER;
            let Some((_, state)) = &mut slot.at else { continue };
            if !operator.closed(state) {
                operator.on_end(state, at, out);
            }
            let deadline = operator.deadline(state);
            self.arm(id, deadline);
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Keys")]
struct Saved<Entry> {
    ended: bool,
    keys: Vec<Entry>,
}

impl<K: Serialize, S: Serialize> Serialize for Keys<K, S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let keys = self.by_birth().into_iter().filter_map(|slot| slot.at.as_ref().map(|at| (at, slot.armed)));
        Saved { ended: self.ended, keys: keys.collect() }.serialize(serializer)
    }
}

impl<'de, K, S> Deserialize<'de> for Keys<K, S>
where
    K: Deserialize<'de> + Hash + Eq,
    S: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let saved = Saved::<((K, S), Timestamp)>::deserialize(deserializer)?;
        let mut keys = Self { ended: saved.ended, ..Self::default() };
        for ((key, state), armed) in saved.keys {
            let (id, _) = keys.find(key, || state);
            keys.arm(id, Some(armed).filter(|armed| *armed != NEVER));
        }
        Ok(keys)
    }
}

impl<K: fmt::Debug, S: fmt::Debug> fmt::Debug for Keys<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Equal where both remember the same keys in the same states.
impl<K: PartialEq, S: PartialEq> PartialEq for Keys<K, S> {
    fn eq(&self, other: &Self) -> bool {
        self.ended == other.ended && self.iter().eq(other.iter())
    }
}
