//! The dead letters of a runtime, in memory.

use std::collections::{HashMap, VecDeque};

use millstream_operators::Timestamp;

use super::{DeadLetter, DeadLetterFilter};
use crate::{
    event::{Key, Tenant},
    tenant::Quotas,
};

/// Bounded: beyond its capacity, or a tenant's quota, the oldest letter is dropped. Whoever drops it counts it, once it is gone for
/// good.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    letters: VecDeque<DeadLetter>,
    by_tenant: HashMap<Tenant, usize>,
    quotas: Quotas,
    capacity: usize,
    last: u64,
    dropped: u64,
    /// How often all of them were read from a store.
    readings: u64,
}

impl DeadLetters {
    pub(crate) fn new(capacity: usize, quotas: Quotas) -> Self {
        Self { letters: VecDeque::new(), by_tenant: HashMap::new(), quotas, capacity, last: 0, dropped: 0, readings: 0 }
    }

    /// A number for a letter that is kept once it is written.
    pub(crate) fn reserve_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The number that the next letter gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.last + 1
    }

    /// What a store has kept replaces what is here; returns the letters that have no room here, for an earlier process may have
    /// had more. Those that this process has there are all kept: some were taken out to be replayed, and new ones have taken their
    /// room. From then on each new one makes an old one go.
    /// No new one gets the number of one that is there, which `last` is the highest of: it may be one that cannot be read.
    #[must_use]
    pub(crate) fn restore(&mut self, letters: Vec<DeadLetter>, last: u64) -> Vec<DeadLetter> {
        (self.letters, self.by_tenant) = (VecDeque::new(), HashMap::new());
        self.readings += 1;
        self.last = letters.iter().map(|letter| letter.number).fold(self.last.max(last), u64::max);
        if self.readings > 1 {
            for letter in letters {
                self.insert(letter);
            }
            return Vec::new();
        }
        letters.into_iter().flat_map(|letter| self.keep(letter)).collect()
    }

    /// Keeps a letter, gives it its number, and returns the letters that had to go for it.
    pub(crate) fn add(&mut self, mut letter: DeadLetter) -> Vec<DeadLetter> {
        self.last += 1;
        letter.number = self.last;
        self.keep(letter)
    }

    /// Takes out the letter of a number.
    pub(crate) fn forget(&mut self, number: u64) -> Option<DeadLetter> {
        self.remove_first(|letter| letter.number == number)
    }

    fn remove_first(&mut self, wanted: impl FnMut(&DeadLetter) -> bool) -> Option<DeadLetter> {
        let place = self.letters.iter().position(wanted)?;
        let letter = self.letters.remove(place)?;
        self.forget_tenant_of(&letter);
        Some(letter)
    }

    fn forget_tenant_of(&mut self, letter: &DeadLetter) {
        if let Some(tenant) = &letter.event.tenant
            && let Some(count) = self.by_tenant.get_mut(tenant)
        {
            *count -= 1;
            if *count == 0 {
                self.by_tenant.remove(tenant);
            }
        }
    }

    /// Keeps a letter that has its number and is written, and returns the letters that had to go for it.
    pub(crate) fn keep_written(&mut self, letter: DeadLetter) -> Vec<DeadLetter> {
        self.keep(letter)
    }

    /// Takes out those of stages that somebody has asked for, and when each is due.
    pub(crate) fn take_asked(&mut self, is_stage: impl Fn(&str) -> bool) -> Vec<(DeadLetter, Timestamp)> {
        let is_asked =
            |letter: &DeadLetter| letter.asked.is_some() && letter.subscription.as_deref().is_some_and(&is_stage);
        let mut asked = Vec::new();
        while let Some(letter) = self.remove_first(is_asked) {
            asked.extend(letter.asked.map(|due| (letter, due)));
        }
        asked
    }

    /// A subscription was taken back: its letters halt no key any more.
    pub(crate) fn halt_nobody(&mut self, subscription: &str) {
        let own = self.letters.iter_mut().filter(|letter| letter.subscription.as_deref() == Some(subscription));
        own.for_each(|letter| letter.halts = false);
    }

    /// The keys of a subscription that are halted behind a letter.
    pub(crate) fn halted(&self, subscription: &str) -> Vec<(Option<Tenant>, Key)> {
        self.letters.iter().filter_map(|letter| letter.halted(subscription)).collect()
    }

    /// How often all of them were read from a store. What was taken out before the last time is here again.
    pub(crate) fn readings(&self) -> u64 {
        self.readings
    }

    /// The letters of a subscription are another's from now on: returns them.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Vec<DeadLetter> {
        let own = self.letters.iter_mut().filter(|letter| letter.subscription.as_deref() == Some(from));
        let renamed = own.map(|letter| {
            letter.subscription = Some(to.to_owned());
            letter.clone()
        });
        renamed.collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.letters.len()
    }

    /// So many were dropped for want of room.
    pub(crate) fn count_dropped(&mut self, letters: usize) {
        self.dropped += letters as u64;
    }

    /// How many were dropped for want of room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn list(&self, filter: &DeadLetterFilter) -> Vec<DeadLetter> {
        self.letters.iter().filter(|letter| filter.selects(letter)).cloned().collect()
    }

    /// Takes out the oldest that the filter selects, up to a limit.
    pub(crate) fn take(&mut self, filter: &DeadLetterFilter, limit: usize) -> Vec<DeadLetter> {
        let (mut taken, mut kept) = (Vec::new(), VecDeque::with_capacity(self.letters.len()));
        for letter in std::mem::take(&mut self.letters) {
            if taken.len() < limit && filter.selects(&letter) {
                self.forget_tenant_of(&letter);
                taken.push(letter);
            } else {
                kept.push_back(letter);
            }
        }
        self.letters = kept;
        taken
    }

    /// Puts back what could not be replayed, in its old place, and returns the letters that had to go for it: others may
    /// have come meanwhile.
    #[must_use]
    pub(crate) fn put_back(&mut self, letters: Vec<DeadLetter>) -> Vec<DeadLetter> {
        let mut gone = Vec::new();
        for letter in letters {
            gone.extend(self.keep(letter));
        }
        gone
    }

    /// Keeps a letter; what is then beyond its tenant's quota or the capacity goes, the oldest first.
    fn keep(&mut self, letter: DeadLetter) -> Vec<DeadLetter> {
        let tenant = letter.event.tenant.clone();
        self.insert(letter);
        let over_quota = tenant.filter(|tenant| {
            let quota = self.quotas.of(tenant).dead_letters;
            quota.is_some_and(|quota| self.by_tenant.get(tenant).is_some_and(|count| *count > quota.get()))
        });
        let own =
            over_quota.and_then(|tenant| self.remove_first(|letter| letter.event.tenant.as_ref() == Some(&tenant)));
        let oldest = if self.letters.len() > self.capacity { self.remove_first(|_| true) } else { None };
        own.into_iter().chain(oldest).collect()
    }

    /// To its place by number, which for a new one is the last. One that was taken out may have been read again meanwhile.
    fn insert(&mut self, letter: DeadLetter) {
        if let Some(tenant) = &letter.event.tenant {
            *self.by_tenant.entry(tenant.clone()).or_default() += 1;
        }
        let place = self.letters.partition_point(|other| other.number < letter.number);
        if self.letters.get(place).is_some_and(|other| other.number == letter.number)
            && let Some(other) = self.letters.remove(place)
        {
            self.forget_tenant_of(&other);
        }
        self.letters.insert(place, letter);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_operators::Timestamp;

    use super::*;
    use crate::{
        dead_letter::Death,
        event::{Draft, Envelope, IdSource, Lineage},
    };

    fn letter(ids: &IdSource) -> DeadLetter {
        let id = ids.next(Timestamp::EPOCH);
        let draft = Draft::json("a", serde_json::json!(1));
        let event = Arc::new(Envelope::new(draft, id, Timestamp::EPOCH, Lineage::root(id)));
        let (death, died_at) = (Death::Exhausted, Timestamp::EPOCH);
        DeadLetter {
            number: 0,
            event,
            subscription: None,
            death,
            attempts: 1,
            failures: Vec::new(),
            died_at,
            halts: false,
            place: None,
            asked: None,
        }
    }

    fn numbers(letters: &[DeadLetter]) -> Vec<u64> {
        letters.iter().map(|letter| letter.number).collect()
    }

    #[test]
    fn what_is_put_back_keeps_to_the_capacity_and_the_oldest_goes() {
        let (ids, mut letters) = (IdSource::new(1), DeadLetters::new(2, Quotas::default()));
        letters.add(letter(&ids));
        letters.add(letter(&ids));
        let taken = letters.take(&DeadLetterFilter::all(), 2);
        assert_eq!(numbers(&taken), [1, 2]);
        letters.add(letter(&ids));
        let gone = letters.put_back(taken);
        assert_eq!((numbers(&gone), letters.len()), (vec![1], 2));
        assert_eq!(numbers(&letters.list(&DeadLetterFilter::all())), [2, 3]);
    }

    #[test]
    fn what_is_put_back_and_was_read_again_meanwhile_is_there_once() {
        let (ids, mut letters) = (IdSource::new(1), DeadLetters::new(2, Quotas::default()));
        letters.add(letter(&ids));
        let kept = letters.list(&DeadLetterFilter::all());
        let taken = letters.take(&DeadLetterFilter::all(), 1);
        assert!(letters.restore(kept, 1).is_empty());
        assert!(letters.put_back(taken).is_empty());
        assert_eq!(numbers(&letters.list(&DeadLetterFilter::all())), [1]);
    }
}
