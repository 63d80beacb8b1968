//! What others ask of the dispatcher: replay, let go, cancel, abort.

use std::sync::{Arc, PoisonError};

use millstream_operators::Timestamp;
use tokio::sync::oneshot;

use super::{
    dispatcher::Dispatcher,
    durable::NewStage,
    job::{Job, OpenEvent, Stake},
    registry::Entry,
    running::InFlight,
    subscriber::Subscriber,
};
use crate::{
    dead_letter::DeadLetter,
    epoch::StateKey,
    event::Envelope,
    intake::Held,
    request::NoAnswer,
    storage::{Stale, StorageError, Writes},
};

/// What others ask of the dispatcher.
#[derive(Debug)]
pub(crate) enum Command {
    /// Deliver dead letters again, each to its own subscription.
    Replay(Vec<Replay>),
    /// The heads of these letters will not be replayed: let their keys go on.
    LetGo {
        letters: Vec<DeadLetter>,
        /// As in [`Replay`].
        reading: u64,
    },
    /// Letters of these numbers are forgotten that cannot be read.
    LetHarmedGo(Vec<u64>),
    /// See who has left.
    CatchUp,
    /// A durable subscription that nobody claims any more is forgotten.
    Forget(String),
    /// The timers of a parked key of a stage fire again.
    Unpark { stage: String, key: StateKey },
    /// An operator stage joins.
    Stage(NewStage),
    /// Somebody writes to the storage from outside of handlers.
    Write(Write),
}

#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) letter: DeadLetter,
    /// None for an event that no subscription got, which is emitted once more, and for a stage's.
    pub(crate) entry: Option<Arc<Entry>>,
    pub(crate) due: Timestamp,
    /// The letter was taken out after so many readings of the store. Is it read again, it is dead again.
    pub(crate) reading: u64,
}

/// What somebody writes to the storage, and who waits for it.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) writes: Writes,
    pub(crate) reply: oneshot::Sender<Result<Result<(), Stale>, StorageError>>,
}

impl Command {
    /// Whether nothing comes of it that does not come of those before it: so whoever asks again and again, and nobody drives,
    /// makes no list that grows. What the others ask of is taken out of elsewhere, once.
    pub(crate) fn is_idle_after(&self, before: &[Self]) -> bool {
        match self {
            Self::Replay(replays) => replays.is_empty(),
            Self::LetGo { letters, .. } => letters.is_empty(),
            Self::LetHarmedGo(numbers) => numbers.is_empty(),
            Self::CatchUp => before.iter().any(|other| matches!(other, Self::CatchUp)),
            Self::Forget(name) => before.iter().any(|other| matches!(other, Self::Forget(same) if same == name)),
            Self::Unpark { stage, key } => {
                let is_same =
                    |other: &Self| matches!(other, Self::Unpark { stage: s, key: k } if s == stage && k == key);
                before.iter().any(is_same)
            }
            Self::Stage(_) | Self::Write(_) => false,
        }
    }
}

impl Dispatcher {
    pub(super) fn has_commands(&self) -> bool {
        !self.parts.commands.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn obey(&mut self) -> bool {
        let commands = std::mem::take(&mut *self.parts.commands.lock().unwrap_or_else(PoisonError::into_inner));
        let moved = !commands.is_empty();
        self.done.obeyed |= moved;
        if moved && self.has_new_subscribers() {
            self.catch_up();
        }
        for command in commands {
            match command {
                Command::Replay(replays) => replays.into_iter().for_each(|replay| self.replay(replay)),
                Command::LetGo { letters, reading } => self.let_purged_go(letters, reading),
                Command::LetHarmedGo(numbers) => self.purge_harmed(numbers),
                // That was before the first command.
                Command::CatchUp => {}
                Command::Forget(name) => self.forget(name),
                Command::Unpark { stage, key } => self.unpark(&stage, key),
                Command::Stage(stage) => self.add_stage(stage),
                Command::Write(write) => self.write(write),
            }
        }
        moved
    }

    /// Delivers a dead letter again, to its own subscription alone, with all its attempts. It holds no room: it was
    /// bounded among the dead letters.
    pub(super) fn replay(&mut self, replay: Replay) {
        let Some(replay) = self.now_or_later(replay) else { return };
        if !self.is_out(&replay.letter, replay.reading) {
            return;
        }
        let Replay { letter, entry, due, .. } = replay;
        let Some(entry) = entry else {
            let is_stages = letter.subscription.is_some();
            return if is_stages { self.replay_in_stage(letter, due) } else { self.emit_letter(letter, due) };
        };
        let Some(place) = self.place_of(entry.id) else { return self.keep_again(letter) };
        // The letter goes in the commit in which its delivery comes.
        self.make_room_for(&letter.event);
        self.log_letter_gone(&letter);
        let logged = self.logged_of(place, &letter);
        let held = Held { event: letter.event, origin: None };
        let class = held.event.priority.class();
        let event = self.open.insert(OpenEvent { class, open: 0, with_room: 0, failure: None });
        let mut job = self.make_job(held, event, place, 0);
        job.has_key = letter.halts && self.is_halted(place, &job);
        job.stake = Stake::Replayed;
        job.logged = logged;
        self.open[event].with_room = 0;
        self.await_attempt(job, due);
    }

    /// Whether a letter that was taken out after so many readings of the store is out still. Where all were read again since, it
    /// is there again, unless it was done with otherwise; then it is taken out now.
    pub(super) fn is_out(&self, letter: &DeadLetter, reading: u64) -> bool {
        let mut letters = self.parts.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.readings() == reading || letters.forget(letter.number).is_some()
    }

    /// What cannot be replayed stays a dead letter. Where nobody is left whose key it could halt, it halts none.
    pub(super) fn keep_again(&mut self, mut letter: DeadLetter) {
        letter.halts &= self.durable.is_some();
        let gone = self.parts.letters.lock().unwrap_or_else(PoisonError::into_inner).put_back(vec![letter]);
        self.let_all_go(gone);
    }

    pub(super) fn let_purged_go(&mut self, letters: Vec<DeadLetter>, reading: u64) {
        match &mut self.durable {
            Some(durable) if durable.tenure().is_none() => durable.purged.push((letters, reading)),
            _ => {
                for letter in letters {
                    if self.is_out(&letter, reading) {
                        self.let_go(&letter);
                    }
                }
            }
        }
    }

    /// Where a subscription is that was not taken back.
    pub(super) fn place_of(&self, id: u64) -> Option<usize> {
        let mut others = self.subscribers.iter();
        others.find(|(_, other)| other.entry.id == id && other.is_subscribed).map(|(place, _)| place)
    }

    /// A letter is gone: whoever waits behind it goes on. One that did not halt its key lets nobody go on.
    pub(super) fn let_go(&mut self, letter: &DeadLetter) {
        self.log_letter_gone(letter);
        if !letter.halts {
            return;
        }
        let Some(key) = letter.event.key.clone() else { return };
        let key = (letter.event.tenant.clone(), key);
        // One that was taken back may have been of the same name.
        let may_be_its = |s: &Subscriber| s.is_subscribed || self.durable.is_some();
        let mut named =
            self.subscribers.iter().filter(|(_, s)| Some(&**s.entry.name()) == letter.subscription.as_deref());
        let place = named.find(|(_, subscriber)| may_be_its(subscriber));
        if let Some(place) = place.map(|(place, _)| place)
            && self.resume_key(place, &key)
        {
            self.next_of_key(place, &key);
        }
    }

    /// Ends all that waits and whose token is cancelled. What is in flight sees its token and ends itself.
    pub(super) fn sweep_cancelled(&mut self) {
        for job in self.timers.sweep(Job::is_cancelled) {
            self.end_wait(&job);
            self.resume_own_key(&job);
            self.cancel(job);
        }
        for job in self.take_waiting(Job::is_cancelled) {
            self.cancel(job);
        }
    }

    /// Takes out the blocked and parked deliveries that `wanted` says.
    fn take_waiting(&mut self, wanted: impl Fn(&Job) -> bool) -> Vec<Job> {
        let mut blocked = Vec::new();
        let mut parked = 0;
        for (_, subscriber) in &mut self.subscribers {
            blocked.extend(subscriber.for_slot.sweep(&wanted).into_iter().map(|(_, job)| job));
            for line in subscriber.keys.values_mut() {
                let (out, kept) = std::mem::take(&mut line.waiting).into_iter().partition::<Vec<_>, _>(&wanted);
                line.waiting = kept.into();
                parked += if line.is_halted { out.len() } else { 0 };
                blocked.extend(out);
            }
            let early = subscriber.early.extract_if(.., |_, job| wanted(job)).map(|(_, job)| job);
            blocked.extend(early);
        }
        for load in self.loads.values_mut() {
            let (out, kept) = std::mem::take(&mut load.waiting).into_iter().partition::<Vec<_>, _>(&wanted);
            load.waiting = kept.into();
            blocked.extend(out);
        }
        self.done.book.deliveries.blocked -= (blocked.len() - parked) as u64;
        self.done.book.deliveries.parked -= parked as u64;
        for job in &blocked {
            self.subscribers[job.subscriber].entry.meter.waiting.down();
        }
        blocked
    }

    /// Drops all that is in flight and gives up all that waits, for a shutdown whose grace is over. Returns the events
    /// of what was in flight, and those of what waited.
    pub(crate) fn abort_all(&mut self) -> (Vec<Arc<Envelope>>, Vec<Arc<Envelope>>) {
        // An outcome that is on its way to the store will be there: its end is waited for, with the last commit.
        let (in_flight, waiting) = self.spare_trial(Self::take_all_jobs);
        if let Some(durable) = &mut self.durable {
            durable.answer_all("the runtime was shut down");
        }
        // What the log has is neither lost nor handed back: it is handled after a restart.
        let is_here = |job: &&Job| job.logged.is_none();
        let events = |jobs: &[Job]| jobs.iter().filter(is_here).map(|job| Arc::clone(&job.held.event)).collect();
        let report = (events(&in_flight), events(&waiting));
        self.abandon(in_flight.into_iter().chain(waiting));
        report
    }

    fn abandon(&mut self, jobs: impl Iterator<Item = Job>) {
        for job in jobs {
            self.done.book.deliveries.abandoned += 1;
            self.end(job, Some(NoAnswer::Abandoned));
        }
    }

    /// Takes out all deliveries: those in flight, which are dropped, and those that wait for whatever it is.
    pub(super) fn take_all_jobs(&mut self) -> (Vec<Job>, Vec<Job>) {
        let mut in_flight = Vec::new();
        for InFlight { job, abort, .. } in std::mem::take(&mut self.in_flight).into_iter().map(|(_, flight)| flight) {
            abort.abort();
            self.done.book.deliveries.in_flight -= 1;
            self.subscribers[job.subscriber].free_slot(job.class());
            in_flight.push(job);
        }
        self.running.clear();
        self.aborted = 0;
        let mut waiting = self.timers.sweep(|_| true);
        for job in &waiting {
            self.end_wait(job);
        }
        in_flight.extend(self.take_proposed());
        waiting.extend(self.take_waiting(|_| true));
        waiting.extend(std::mem::take(&mut self.ready).into_iter().inspect(|job| {
            self.subscribers[job.subscriber].free_slot(job.class());
        }));
        waiting.extend(self.take_held());
        self.loads.clear();
        (in_flight, waiting)
    }

    /// What was to be replayed and is not begun stays a dead letter.
    fn return_letters(&self, is_durable: bool) {
        let commands = std::mem::take(&mut *self.parts.commands.lock().unwrap_or_else(PoisonError::into_inner));
        let replays = commands.into_iter().filter_map(|c| if let Command::Replay(r) = c { Some(r) } else { None });
        let letters = replays.flatten().map(|replay| replay.letter).collect();
        let gone = self.parts.letters.lock().unwrap_or_else(PoisonError::into_inner).put_back(letters);
        // Nobody waits behind a key any more, so what goes for want of room lets nobody go on. In a store it is there still.
        if !is_durable {
            self.count_dropped(gone.len());
        }
    }

    /// Takes back what was pulled and not dispatched, drops the handlers, and settles the books.
    pub(crate) fn stop(&mut self) -> Vec<Arc<Envelope>> {
        // Outcomes of which nobody knows in time, and what came of those that were refused.
        let (in_flight, waiting) = self.take_all_jobs();
        self.abandon(in_flight.into_iter().chain(waiting));
        let pulled = self.take_batch();
        let mut parked = Vec::new();
        for pulled in pulled {
            self.done.book.parked += 1;
            self.leave(pulled.held.event.priority.class(), pulled.held.event.tenant.as_ref());
            parked.push(pulled.held.event);
        }
        self.drop_handlers();
        // What panics while a stage goes is in these books.
        let is_durable = self.durable.take().is_some();
        self.settle_books();
        self.return_letters(is_durable);
        self.watchdog = None;
        parked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_again_and_again_adds_nothing_to_what_is_asked() {
        let mut commands = Vec::new();
        for round in 0..100 {
            let forget = |n: u32| Command::Forget(format!("s{n}"));
            for command in [
                Command::Replay(Vec::new()),
                Command::LetGo { letters: Vec::new(), reading: 0 },
                forget(1),
                forget(round % 2),
            ] {
                if !command.is_idle_after(&commands) {
                    commands.push(command);
                }
            }
        }
        assert_eq!(commands.len(), 2);
    }
}
