//! Assertions that say what they saw.

use super::{TestKit, What};
use crate::{
    dead_letter::{DeadLetter, DeadLetterFilter},
    event::{Envelope, Event},
};

impl TestKit {
    /// The events that were emitted so far, delayed ones among them, in order.
    pub fn events(&self) -> Vec<std::sync::Arc<Envelope>> {
        let timeline = self.timeline();
        let emitted = timeline.moments().iter().filter(|m| matches!(m.what, What::Emitted | What::Delayed { .. }));
        emitted.map(|moment| std::sync::Arc::clone(&moment.event)).collect()
    }

    /// The names of the events that were emitted so far.
    pub fn emitted_names(&self) -> Vec<String> {
        self.events().iter().map(|event| event.name().to_string()).collect()
    }

    /// The events of a type that were emitted so far.
    pub fn emitted<T: Event>(&self) -> Vec<T> {
        let events = self.events();
        events.iter().filter(|event| event.name().as_str() == T::NAME).filter_map(|event| event.decode().ok()).collect()
    }

    /// All dead letters.
    pub fn all_dead_letters(&self) -> Vec<DeadLetter> {
        self.dead_letters(&DeadLetterFilter::all())
    }

    /// Fails the test unless both books balance.
    ///
    /// # Panics
    /// As said.
    #[track_caller]
    pub fn assert_balanced(&self) {
        let stats = self.stats();
        assert!(stats.balances(), "the books do not balance: {stats:#?}\n{}", self.timeline());
    }

    /// Fails the test unless exactly these names were emitted, in this order.
    ///
    /// # Panics
    /// As said.
    #[track_caller]
    pub fn assert_emitted_names(&self, expected: &[&str]) {
        let emitted = self.emitted_names();
        let timeline = self.timeline();
        assert!(emitted == expected, "emitted:  {emitted:?}\nexpected: {expected:?}\nthe timeline:\n{timeline}");
    }

    /// Fails the test unless there is no dead letter.
    ///
    /// # Panics
    /// As said.
    #[track_caller]
    pub fn assert_no_dead_letters(&self) {
        let letters = self.all_dead_letters();
        let reasons: Vec<_> =
            letters.iter().map(|letter| format!("{}: {}", letter.event.name(), letter.reason())).collect();
        assert!(letters.is_empty(), "there are dead letters: {reasons:#?}\n{}", self.timeline());
    }

    /// Fails the test unless there is exactly one dead letter, and returns it.
    ///
    /// # Panics
    /// As said.
    #[track_caller]
    pub fn assert_one_dead_letter(&self) -> DeadLetter {
        let mut letters = self.all_dead_letters();
        assert_eq!(letters.len(), 1, "expected one dead letter\n{}", self.timeline());
        letters.remove(0)
    }
}
