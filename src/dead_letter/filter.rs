//! Which dead letters are meant.

use std::collections::BTreeSet;

use super::{DeadLetter, Death};
use crate::event::{EventId, Key, Pattern, Tenant};

/// Selects dead letters; everything that is set must agree, and nothing set selects all.
///
/// ```
/// use millstream::{Death, DeadLetterFilter};
///
/// let filter = DeadLetterFilter::all().subscription("mailer").death(Death::Exhausted);
/// # let _ = filter;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct DeadLetterFilter {
    numbers: Option<BTreeSet<u64>>,
    subscription: Option<String>,
    event: Option<Pattern>,
    id: Option<EventId>,
    key: Option<Key>,
    tenant: Option<Tenant>,
    death: Option<Death>,
}

impl DeadLetterFilter {
    /// All of them.
    pub fn all() -> Self {
        Self::default()
    }

    /// Those of these numbers.
    pub fn numbers(mut self, numbers: impl IntoIterator<Item = u64>) -> Self {
        self.numbers = Some(numbers.into_iter().collect());
        self
    }

    /// Those of one subscription.
    pub fn subscription(mut self, name: impl Into<String>) -> Self {
        self.subscription = Some(name.into());
        self
    }

    /// Those whose event's name a pattern selects.
    pub fn event(mut self, pattern: Pattern) -> Self {
        self.event = Some(pattern);
        self
    }

    /// Those of one event.
    pub fn id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// Those of events with this key.
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Those of one tenant.
    pub fn tenant(mut self, tenant: impl Into<Tenant>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Those that died of this.
    pub fn death(mut self, death: Death) -> Self {
        self.death = Some(death);
        self
    }

    /// The numbers, where nothing else is asked of a letter, so that one can be meant that cannot be read.
    pub(crate) fn mere_numbers(&self) -> Vec<u64> {
        let Self { numbers, subscription, event, id, key, tenant, death } = self;
        let is_mere = subscription.is_none() && event.is_none() && id.is_none() && key.is_none() && tenant.is_none();
        let numbers = numbers.iter().filter(|_| is_mere && death.is_none());
        numbers.flatten().copied().collect()
    }

    pub(crate) fn selects(&self, letter: &DeadLetter) -> bool {
        let event = &letter.event;
        self.numbers.as_ref().is_none_or(|numbers| numbers.contains(&letter.number))
            && self.subscription.as_ref().is_none_or(|name| letter.subscription.as_ref() == Some(name))
            && self.event.as_ref().is_none_or(|pattern| pattern.matches(event.name.as_str()))
            && self.id.is_none_or(|id| event.id == id)
            && self.key.as_ref().is_none_or(|key| event.key.as_ref() == Some(key))
            && self.tenant.as_ref().is_none_or(|tenant| event.tenant.as_ref() == Some(tenant))
            && self.death.is_none_or(|death| letter.death == death)
    }
}
