//! Dead letters: list, replay, purge.

use std::{num::NonZeroU32, time::Duration};

use super::Runtime;
use crate::{
    dead_letter::{DeadLetter, DeadLetterFilter},
    dispatch::{Command, Replay as Replayed},
};

/// Which dead letters to deliver again, how many, and how fast. Default: all, at once.
///
/// ```
/// use millstream::{DeadLetterFilter, Replay};
///
/// let gently = Replay::of(DeadLetterFilter::all().subscription("mailer")).limit(500).rate(50.try_into()?);
/// # let _ = gently;
/// # Ok::<(), std::num::TryFromIntError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Replay {
    filter: DeadLetterFilter,
    limit: usize,
    rate: Option<NonZeroU32>,
}

/// What a replay has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayReport {
    /// Deliveries and events that are on their way again.
    pub replayed: usize,
    /// Letters that stay, because their subscription is gone or there is no room for their event.
    pub kept: usize,
}

impl Replay {
    /// All dead letters.
    pub fn all() -> Self {
        Self::of(DeadLetterFilter::all())
    }

    /// Those that a filter selects.
    pub fn of(filter: DeadLetterFilter) -> Self {
        Self { filter, limit: usize::MAX, rate: None }
    }

    /// So many at most, the oldest first.
    pub fn limit(mut self, letters: usize) -> Self {
        self.limit = letters;
        self
    }

    /// So many a second: their due times are spread.
    pub fn rate(mut self, per_second: NonZeroU32) -> Self {
        self.rate = Some(per_second);
        self
    }
}

impl Runtime {
    /// The dead letters that a filter selects, oldest first.
    pub fn dead_letters(&self, filter: &DeadLetterFilter) -> Vec<DeadLetter> {
        self.shared.letters().list(filter)
    }

    /// Delivers dead letters again: the same event with the same id, to its own subscription alone, with all its
    /// attempts. An event that was given up before any subscription got it is emitted once more, as a new event.
    ///
    /// # Ordering
    /// Where a key was halted, its head goes first and the rest follows.
    pub fn replay(&self, replay: &Replay) -> ReplayReport {
        let taken = self.shared.letters().take(&replay.filter, replay.limit);
        let (mut replays, mut kept) = (Vec::new(), Vec::new());
        let mut report = ReplayReport::default();
        let step = replay.rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.get());
        let mut due = self.clock().now();
        for letter in taken {
            let is_begun = match letter.subscription.as_deref() {
                None => self.emit_again(&letter, due),
                Some(name) => match self.shared.registry.by_name(name) {
                    Some(entry) => {
                        replays.push(Replayed { letter: letter.clone(), entry, due });
                        true
                    }
                    None => false,
                },
            };
            if is_begun {
                report.replayed += 1;
                due = due + step;
            } else {
                kept.push(letter);
            }
        }
        report.kept = kept.len();
        let gone = self.shared.letters().put_back(kept);
        if !gone.is_empty() {
            self.shared.command(Command::LetGo(gone));
        }
        self.shared.command(Command::Replay(replays));
        report
    }

    fn emit_again(&self, letter: &DeadLetter, due: millstream_operators::Timestamp) -> bool {
        self.emit((*letter.event).clone().into_draft().at(due)).is_ok()
    }

    /// Forgets the dead letters that a filter selects, and returns them. Keys that were halted behind them go on.
    pub fn purge(&self, filter: &DeadLetterFilter) -> Vec<DeadLetter> {
        let purged = self.shared.letters().take(filter, usize::MAX);
        self.shared.command(Command::LetGo(purged.clone()));
        purged
    }
}
