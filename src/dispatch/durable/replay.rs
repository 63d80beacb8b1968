//! Dead letters that are replayed: the letter goes in the commit in which its delivery, or its event, comes.

use millstream_operators::Timestamp;

use super::{
    Content,
    proposal::{Proposal, Whose},
};
use crate::{
    dead_letter::DeadLetter,
    dispatch::{Dispatcher, commands::Replay},
    intake::Refusal,
};

impl Dispatcher {
    /// What is to be replayed now. In a durable runtime that is only once the subscription knows its rows.
    pub(in crate::dispatch) fn now_or_later(&mut self, replay: Replay) -> Option<Replay> {
        let place = replay.entry.as_ref().map(|entry| self.place_of(entry.id));
        let Some(durable) = &mut self.durable else { return Some(replay) };
        let is_open = match place {
            None | Some(None) => true,
            // What it cannot read, it cannot be given: the letter stays one.
            Some(Some(place)) if self.subscribers[place].is_broken => {
                if self.is_out(&replay.letter, replay.reading) {
                    self.keep_again(replay.letter);
                }
                return None;
            }
            // A stream has no rows.
            Some(Some(place)) => {
                self.subscribers[place].reader.is_some() || self.subscribers[place].entry.options.is_tap
            }
        };
        if durable.tenure().is_some() && is_open && !durable.is_stuffed() {
            return Some(replay);
        }
        durable.replays.push(replay);
        None
    }

    /// Goes on with what had to wait. Whether anything could.
    pub(super) fn replay_deferred(&mut self) -> bool {
        let Some(durable) = &mut self.durable else { return false };
        let (replays, purged) = (std::mem::take(&mut durable.replays), std::mem::take(&mut durable.purged));
        let waited = replays.len();
        let numbers = std::mem::take(&mut durable.purged_numbers);
        let has_purged = !purged.is_empty() || !numbers.is_empty();
        if !numbers.is_empty() {
            self.purge_harmed(numbers);
        }
        for (letters, reading) in purged {
            self.let_purged_go(letters, reading);
        }
        for replay in replays {
            self.replay(replay);
        }
        has_purged || self.durable.as_ref().is_some_and(|durable| durable.replays.len() < waited)
    }

    /// Emits the event of a letter that no subscription got, once more and as a new one.
    pub(in crate::dispatch) fn emit_letter(&mut self, letter: DeadLetter, due: Timestamp) {
        let draft = (*letter.event).clone().into_draft().at(due);
        let intake = &self.parts.intake;
        let prepared = match intake.prepare(intake.clock.now(), draft, None, None) {
            Ok(prepared) => prepared,
            Err(refused) => return self.cannot_emit(letter, &refused.reason),
        };
        let content = Content { events: vec![prepared], ..Content::default() };
        if let Err(refusal) = content.events.iter().try_for_each(|event| self.parts.intake.admit_returned(event)) {
            return self.cannot_emit(letter, &refusal);
        }
        if content.is_conditional() || !self.make_room(content.size()) {
            let proposal = Proposal { whose: Whose::Letter(Box::new(letter)), content };
            if let Some(durable) = &mut self.durable {
                durable.proposals.push_back(proposal);
            }
            return;
        }
        self.log_letter_gone(&letter);
        self.write_content(content);
    }

    fn cannot_emit(&mut self, letter: DeadLetter, refusal: &Refusal) {
        tracing::warn!(number = letter.number, %refusal, "a dead letter cannot be emitted again");
        self.keep_again(letter);
    }
}
