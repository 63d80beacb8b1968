//! Routes: which subscriptions take the events of a name, in which order.

use std::{collections::HashMap, sync::Arc};

use slab::Slab;

use super::subscriber::Subscriber;
use crate::event::EventName;

/// Names whose routes are remembered.
const MOST: usize = 10_000;

/// The routes by name, and the one of the last event: events of one name often follow each other.
pub(super) struct Routes {
    by_name: HashMap<EventName, Arc<[usize]>, foldhash::fast::RandomState>,
    current: (EventName, Arc<[usize]>),
}

impl Default for Routes {
    fn default() -> Self {
        Self { by_name: HashMap::default(), current: Self::none() }
    }
}

impl Routes {
    /// Of no event: its name is none.
    fn none() -> (EventName, Arc<[usize]>) {
        (EventName::unchecked_static(""), Arc::default())
    }

    /// Subscriptions have come or gone.
    pub(super) fn forget(&mut self) {
        self.by_name.clear();
        self.current = Self::none();
    }

    /// Makes the route of this name the current one: the subscriptions that take events of it.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "it is asked for each event, and mostly nothing has changed")]
    pub(super) fn find(&mut self, name: &EventName, subscribers: &Slab<Subscriber>) {
        if !self.current.0.is_same(name) {
            self.current = (name.clone(), self.of(name, subscribers));
        }
    }

    /// How many subscriptions are on the current route.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.current.1.len()
    }

    /// A subscription on the current route, in its turn.
    #[inline]
    pub(super) fn at(&self, turn: usize) -> usize {
        self.current.1[turn]
    }

    fn of(&mut self, name: &EventName, subscribers: &Slab<Subscriber>) -> Arc<[usize]> {
        if let Some(route) = self.by_name.get(name) {
            return Arc::clone(route);
        }
        let matching = subscribers.iter().filter(|(_, s)| s.is_subscribed && s.entry.pattern.matches(name.as_str()));
        let mut route: Vec<_> =
            matching.map(|(place, s)| (-i64::from(s.entry.options.priority), s.entry.id, place)).collect();
        route.sort_unstable();
        let route: Arc<[usize]> = route.into_iter().map(|(.., place)| place).collect();
        if self.by_name.len() >= MOST {
            self.by_name.clear();
        }
        self.by_name.insert(name.clone(), Arc::clone(&route));
        route
    }
}
