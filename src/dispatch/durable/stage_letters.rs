//! Dead letters of stages that are replayed: the stage takes the event once more, with the same id, and the letter goes in the epoch
//! that has the outcome.

use std::sync::PoisonError;

use millstream_operators::Timestamp;

use super::{
    Durable,
    outcome::bytes_of,
    stages::{Next, Runner},
};
use crate::{
    dead_letter::DeadLetter,
    dispatch::{Dispatcher, commands::Replay},
    epoch::Replayed,
    store::{PageRecord, Seq},
};

impl Runner {
    /// Gives the stage what is due to be replayed. Before it is restored it takes nothing.
    pub(super) fn give_due(&mut self, now: Timestamp) {
        let Some(stage) = self.stage.as_mut().filter(|_| self.next != Next::Restore) else { return };
        let due = self.queued.extract_if(.., |(due, _)| *due <= now);
        for (_, replayed) in due {
            stage.replay(replayed);
            if matches!(self.next, Next::Idle { .. }) {
                self.next = Next::Step;
            }
        }
    }

    /// The partition is lost: all letters are read again.
    pub(super) fn forget_replays(&mut self) {
        self.queued.clear();
        self.replaying.clear();
        self.take_replays_back();
    }

    /// What the stage was given before a loss is its business no more.
    pub(super) fn take_replays_back(&mut self) {
        if let Some(stage) = &mut self.stage {
            stage.take_back(true);
        }
    }

    /// What the stage was given and did not do is queued again, or, where it is parked, is a dead letter again.
    fn return_replays(&mut self, now: Timestamp) -> Vec<DeadLetter> {
        let is_parked = self.next == Next::Parked;
        let Some(stage) = &mut self.stage else { return Vec::new() };
        let mut back = stage.take_back(is_parked);
        if is_parked {
            back.extend(self.queued.drain(..).map(|(_, replayed)| replayed.number));
            return back.into_iter().filter_map(|number| self.replaying.remove(&number)).collect();
        }
        let again = back.into_iter().filter_map(|number| record_of(self.replaying.get(&number)?));
        self.queued.extend(again.map(|replayed| (now, replayed)));
        Vec::new()
    }
}

impl Dispatcher {
    /// A stage's dead letter is taken once more; it stays one where the stage cannot take it.
    pub(in crate::dispatch) fn replay_in_stage(&mut self, letter: DeadLetter, due: Timestamp) {
        let (number, record) = (letter.number, record_of(&letter));
        let runner = self.durable.as_mut().and_then(|durable| durable.runner_of(letter.subscription.as_deref()));
        match (runner.filter(|runner| runner.next != Next::Parked), record) {
            (Some(runner), Some(record)) => {
                runner.replaying.insert(number, letter);
                runner.queued.push((due, record));
            }
            _ => self.keep_again(letter),
        }
    }

    /// Letters that a tool has asked to be replayed, of stages that are there.
    pub(super) fn replay_asked(&mut self) {
        let Some(durable) = self.durable.as_ref().filter(|durable| durable.tenure().is_some()) else { return };
        let is_there = |name: &str| durable.stages.iter().any(|runner| &*runner.border().stage == name);
        let mut letters = self.parts.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, reading) = (letters.take_asked(is_there), letters.readings());
        drop(letters);
        for (letter, due) in asked {
            self.replay(Replay { letter, entry: None, due, reading });
        }
    }

    /// Sees to what a stage did not do of what it was given.
    pub(super) fn return_replays(&mut self, place: usize) {
        let Some(durable) = &mut self.durable else { return };
        for letter in durable.stages[place].return_replays(self.now) {
            self.keep_again(letter);
        }
    }
}

impl Durable {
    fn runner_of(&mut self, stage: Option<&str>) -> Option<&mut Runner> {
        self.stages.iter_mut().find(|runner| Some(&*runner.border().stage) == stage)
    }

    /// A letter's row went with an epoch that has landed.
    pub(super) fn has_replayed(&mut self, number: u64) {
        for runner in &mut self.stages {
            runner.replaying.remove(&number);
        }
    }
}

/// A letter's event as it lay in the log; none where it cannot be written any more.
fn record_of(letter: &DeadLetter) -> Option<Replayed> {
    let (event, seq) = (&letter.event, Seq(letter.place?));
    let record = PageRecord { seq, name: event.name.to_shared(), time: event.time(), bytes: bytes_of(event)? };
    Some(Replayed { number: letter.number, record })
}
