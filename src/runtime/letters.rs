//! Dead letters: list, replay, purge.

use super::Runtime;
use crate::{
    dead_letter::{DeadLetter, DeadLetterFilter, Replay, ReplayReport},
    dispatch::{Command, Replay as Replayed},
};

impl Runtime {
    /// The dead letters that a filter selects, oldest first.
    pub fn dead_letters(&self, filter: &DeadLetterFilter) -> Vec<DeadLetter> {
        self.shared.letters().list(filter)
    }

    /// Delivers dead letters again: the same event with the same id, to its own subscription alone, with all its
    /// attempts. An event that was given up before any subscription got it is emitted once more, as a new event.
    ///
    /// What an operator stage gave up is taken by that stage once more, as an event that comes now: what it makes of it is in its state
    /// and among its outputs exactly once, and the letter goes in the same commit. Where it gives the event up again, for it panics
    /// again, its key is parked or the watermark has passed it, that is a new letter. A stage that is parked takes none.
    ///
    /// In a durable runtime whose store has failed no letter is replayed until somebody who drives has opened it again; one
    /// that was on its way then stays dead.
    ///
    /// # Ordering
    /// Where a key was halted, its head goes first and the rest follows.
    pub fn replay(&self, replay: &Replay) -> ReplayReport {
        let (taken, reading) = self.take_letters(&replay.filter, replay.limit);
        let (mut replays, mut kept) = (Vec::new(), Vec::new());
        let mut report = ReplayReport::default();
        let mut due = self.clock().now();
        for letter in taken {
            let is_begun = match letter.subscription.as_deref() {
                None if self.shared.intake.pump.is_some() => {
                    replays.push(Replayed { letter: letter.clone(), entry: None, due, reading });
                    true
                }
                None => self.emit_again(&letter, due),
                Some(name) => match self.shared.registry.by_name(name) {
                    Some(entry) => {
                        replays.push(Replayed { letter: letter.clone(), entry: Some(entry), due, reading });
                        true
                    }
                    None if self.shared.registry.has_stage(name) => {
                        replays.push(Replayed { letter: letter.clone(), entry: None, due, reading });
                        true
                    }
                    None => false,
                },
            };
            if is_begun {
                report.replayed += 1;
                due = due + replay.step();
            } else {
                kept.push(letter);
            }
        }
        report.kept = kept.len();
        let mut letters = self.shared.letters();
        let gone = letters.put_back(kept);
        letters.count_dropped(gone.len());
        drop(letters);
        self.shared.command(Command::LetGo { letters: gone, reading });
        self.shared.command(Command::Replay(replays));
        report
    }

    fn emit_again(&self, letter: &DeadLetter, due: millstream_operators::Timestamp) -> bool {
        self.emit((*letter.event).clone().into_draft().at(due)).is_ok()
    }

    /// Forgets the dead letters that a filter selects, and returns them. Keys that were halted behind them go on. While the
    /// store of a durable runtime has failed, it forgets none.
    ///
    /// A letter whose row is damaged, as [`health`](Self::health) says, is not among those returned. It is forgotten where the filter
    /// gives [numbers](DeadLetterFilter::numbers), its own among them, and nothing else.
    pub fn purge(&self, filter: &DeadLetterFilter) -> Vec<DeadLetter> {
        let (purged, reading) = self.take_letters(filter, usize::MAX);
        self.shared.command(Command::LetGo { letters: purged.clone(), reading });
        if self.shared.intake.pump.is_some() {
            self.shared.command(Command::LetHarmedGo(filter.mere_numbers()));
        }
        purged
    }

    /// Takes letters out, and says after how many readings of the store. None while the store has failed: nobody could
    /// write what becomes of them.
    fn take_letters(&self, filter: &DeadLetterFilter, limit: usize) -> (Vec<DeadLetter>, u64) {
        let has_failed = self.shared.intake.lock().log.failure.is_some();
        let mut letters = self.shared.letters();
        let taken = if has_failed { Vec::new() } else { letters.take(filter, limit) };
        (taken, letters.readings())
    }
}
