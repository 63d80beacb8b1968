//! The dead letters of a runtime, in memory.

use std::collections::{HashMap, VecDeque};

use super::{DeadLetter, DeadLetterFilter};
use crate::{
    event::{Key, Tenant},
    tenant::Quotas,
};

/// Bounded: beyond its capacity, or a tenant's quota, the oldest letter is dropped and counted.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    letters: VecDeque<DeadLetter>,
    by_tenant: HashMap<Tenant, usize>,
    quotas: Quotas,
    capacity: usize,
    last: u64,
    dropped: u64,
}

impl DeadLetters {
    pub(crate) fn new(capacity: usize, quotas: Quotas) -> Self {
        Self { letters: VecDeque::new(), by_tenant: HashMap::new(), quotas, capacity, last: 0, dropped: 0 }
    }

    /// The number that the next letter gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.last + 1
    }

    /// What a store had kept of an earlier process replaces what is here.
    pub(crate) fn restore(&mut self, letters: Vec<DeadLetter>) {
        (self.letters, self.by_tenant) = (VecDeque::new(), HashMap::new());
        self.last = letters.iter().map(|letter| letter.number).fold(self.last, u64::max);
        self.put_back(letters);
    }

    /// Keeps a letter, gives it its number, and returns the letters that had to go for it.
    pub(crate) fn add(&mut self, mut letter: DeadLetter) -> Vec<DeadLetter> {
        self.last += 1;
        letter.number = self.last;
        if let Some(tenant) = &letter.event.tenant {
            *self.by_tenant.entry(tenant.clone()).or_default() += 1;
        }
        let over_quota = letter.event.tenant.clone().filter(|tenant| {
            let quota = self.quotas.of(tenant).dead_letters;
            quota.is_some_and(|quota| self.by_tenant.get(tenant).is_some_and(|count| *count > quota.get()))
        });
        self.letters.push_back(letter);
        let own =
            over_quota.and_then(|tenant| self.remove_first(|letter| letter.event.tenant.as_ref() == Some(&tenant)));
        let oldest = if self.letters.len() > self.capacity { self.remove_first(|_| true) } else { None };
        let gone: Vec<_> = own.into_iter().chain(oldest).collect();
        self.dropped += gone.len() as u64;
        gone
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

    /// The keys of a subscription that are halted behind a letter.
    pub(crate) fn halted(&self, subscription: &str) -> Vec<(Option<Tenant>, Key)> {
        let own =
            self.letters.iter().filter(|letter| letter.halts && letter.subscription.as_deref() == Some(subscription));
        own.filter_map(|letter| letter.event.key.clone().map(|key| (letter.event.tenant.clone(), key))).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.letters.len()
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

    /// Puts back what could not be replayed, in its old place.
    pub(crate) fn put_back(&mut self, letters: Vec<DeadLetter>) {
        for letter in letters {
            if let Some(tenant) = &letter.event.tenant {
                *self.by_tenant.entry(tenant.clone()).or_default() += 1;
            }
            let place = self.letters.partition_point(|other| other.number < letter.number);
            self.letters.insert(place, letter);
        }
    }
}
