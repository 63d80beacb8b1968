//! Claiming the partition, and what to do when it is lost: nobody trusts what he has in memory.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use millstream_operators::Timestamp;

use super::{Batch, Durable, Hold, read::unread, stages::STAGE, trial::Trial};
use crate::{
    dispatch::{Command, Dispatcher},
    intake::chain,
    journal::{Dead, Restored, Tail, Unclaimed, letter_number, parse_key, restore},
    request::NoAnswer,
    storage::StorageError,
    store::{StoreError, Tenure},
};

/// How long until a claim that came to nothing is tried again: doubling, from the first to the last.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// After so many losses in a row a claim alone says nothing: a write has to land before anything is handled, or handlers would be
/// begun in vain, again and again.
const DOUBTED: u32 = 2;

/// How long until the next claim, after so many that came to nothing.
fn patience(failures: u32) -> Duration {
    PATIENCE.0.saturating_mul(1 << failures.min(10)).min(PATIENCE.1)
}

impl Dispatcher {
    /// Claims the partition where it is not held.
    pub(super) fn hold_partition(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(durable) = &mut self.durable else { return false };
        match &mut durable.hold {
            Hold::Held(_) => false,
            Hold::Lost { until } if *until > self.now => false,
            Hold::Lost { .. } => {
                let home = durable.home.clone();
                durable.lost_delayed.extend(self.parts.intake.lock().log.shore.take_unknown());
                let lost = durable.lost_delayed.clone();
                let is_doubted = durable.losses >= DOUBTED;
                let claim = async move { restore(&*home.store, home.partition, lost, is_doubted).await };
                durable.hold = Hold::Claiming(Box::pin(claim));
                self.hold_partition(cx);
                true
            }
            Hold::Claiming(claim) => match claim.as_mut().poll(cx) {
                Poll::Pending => false,
                Poll::Ready(Ok((tenure, restored))) => {
                    self.claimed(tenure, restored);
                    true
                }
                Poll::Ready(Err(Unclaimed { error, fence })) => {
                    durable.care.has_claimed(fence);
                    self.not_claimed(error);
                    true
                }
            },
        }
    }

    fn not_claimed(&mut self, error: StoreError) {
        self.drop_given_up();
        let Some(durable) = &mut self.durable else { return };
        let wait = patience(durable.failures);
        durable.failures += 1;
        tracing::error!(error = %chain(&error), ?wait, "the store cannot be claimed");
        self.parts.intake.lock().log.failure = Some(chain(&error));
        durable.error = Some(error);
        durable.hold = Hold::Lost { until: self.now + wait };
    }

    fn claimed(&mut self, tenure: Tenure, restored: Restored) {
        self.drop_given_up();
        if self.has_new_subscribers() {
            // A stream that was made before this has what is emitted from then on.
            self.catch_up();
        }
        let Some(durable) = &mut self.durable else { return };
        let Restored { names, stage_cursors, dead, horizon, landed, last_now, harmed_clock, endings } = restored;
        durable.lost_delayed = landed;
        durable.failures = 0;
        durable.error = None;
        durable.last_id = durable.last_id.max(names.last_id);
        // The mark of one that begins may be on its way.
        let marked = std::mem::replace(&mut durable.starts, names.starts);
        for (name, start) in marked.into_iter().filter(|(name, _)| !names.known.contains_key(name)) {
            durable.starts.entry(name).or_insert(start);
        }
        (durable.known, durable.harmed) = (names.known, names.harmed);
        durable.harmed_stages = names.harmed_stages;
        let dropped = durable.dropped_for_good(&dead);
        durable.harmed_letters = dead.harmed;
        durable.stage_cursors = stage_cursors;
        durable.horizon = horizon;
        durable.taps.claimed(durable.told, tenure.end);
        durable.tail = Tail::at(tenure.end, durable.recent_bytes);
        durable.told = tenure.end;
        durable.saved_now = durable.saved_now.max(last_now);
        durable.batch.ops.extend(durable.care.claimed(&tenure, endings));
        // Before it is said that the store is well: whoever replays from then on takes what is dead now.
        let mut letters = self.parts.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = letters.restore(dead.letters, dead.last);
        drop(letters);
        let mut state = self.parts.intake.lock();
        state.log.claimed_at(tenure.end);
        state.log.failure = None;
        drop(state);
        // What waited for that goes on.
        self.parts.intake.pump();
        durable.hold = Hold::Held(Arc::new(tenure));
        let writes = std::mem::take(&mut durable.writes);
        // Nothing of before lands from now on. Whoever has read until now may have read too early.
        self.parts.shelf.lose();
        self.count_dropped(dropped);
        self.let_all_go(gone);
        self.tell_harm(harmed_clock);
        for write in writes {
            self.write(write);
        }
        self.replay_asked();
        self.tell_orphans();
    }

    /// The partition is lost: all that is not written is forgotten, and done again from what the store says.
    pub(super) fn lose(&mut self, error: StoreError) {
        tracing::warn!(error = %chain(&error), "the partition is lost and claimed again");
        let Some(durable) = &mut self.durable else { return };
        let appended: usize =
            durable.batch.events.len() + durable.committing.iter().map(|commit| commit.events.len()).sum::<usize>();
        let delayed = durable.committing.iter().flat_map(|commit| &commit.delayed).chain(&durable.batch.delayed);
        // One of them may have landed: then it is new to the books when it is due.
        let delayed: Vec<_> = delayed.copied().collect();
        let late = delayed.len() as u64;
        durable.lost_delayed.extend(delayed);
        // The same goes for those that are being tried, which are taken off with their deliveries, and for what stages have written,
        // which is in no book yet.
        durable.lost_delayed.extend(durable.trial.iter().flat_map(Trial::delayed));
        durable.lost_delayed.extend(durable.stages.iter().flat_map(|stage| stage.border().take_delayed()));
        // What fires again was taken off already.
        durable.lost_delayed.extend(durable.firing.drain().filter_map(|key| parse_key(&key)));
        let roots = durable.committing.iter_mut().map(|commit| &mut commit.roots).chain([&mut durable.batch.roots]);
        let roots: Vec<_> = roots.flat_map(std::mem::take).collect();
        durable.answer_all(&chain(&error));
        let dropped =
            durable.committing.iter_mut().map(|commit| &mut commit.dropped).chain([&mut durable.batch.dropped]);
        dropped.for_each(|dropped| durable.lost_dropped.append(dropped));
        durable.batch = Batch::default();
        durable.committing.clear();
        durable.opening.clear();
        durable.reading.clear();
        durable.taps.lose();
        (durable.due, durable.looking) = (None, None);
        durable.forgetting.lose();
        durable.closing.clear();
        durable.replays.clear();
        durable.has_left_behind = false;
        durable.kept.forget();
        durable.stages.iter_mut().for_each(super::stages::Runner::lose);
        durable.horizon.forget();
        // At once, the first time.
        let wait = durable.losses.checked_sub(1).map_or(Duration::ZERO, patience);
        durable.losses += 1;
        durable.hold = Hold::Lost { until: self.now + wait };
        durable.error = Some(error);
        let mut state = self.parts.intake.lock();
        state.log.damage.clear();
        state.log.fail(durable.error.as_ref().map_or_else(String::new, |error| chain(error)));
        // What handlers returned and did not land is returned again when they are.
        state.log.afloat -= appended as u64;
        state.tally.undelay(late);
        state.tally.unsaved += appended as u64 + late;
        drop(state);
        // Returned again, they would count again.
        self.parts.intake.take_back_lineage(&roots);
        self.forget_deliveries();
        self.parts.shelf.lose();
    }

    /// Whether the store failed on the way of an emitted event: it may fail on ours, and is opened again.
    pub(super) fn an_emit_failed(&mut self) -> bool {
        let Some(reason) = self.parts.intake.lock().log.failure.clone() else { return false };
        self.lose(StoreError::Io {
            what: "a write of emitted events".to_owned(),
            source: Arc::new(std::io::Error::other(reason)),
        });
        true
    }

    fn forget_deliveries(&mut self) {
        let (in_flight, waiting) = self.take_all_jobs();
        if let Some(durable) = &mut self.durable {
            durable.care.lose();
        }
        // Before any of them is let go of: nobody writes any more how far he was.
        self.subscribers.iter_mut().for_each(|(_, subscriber)| subscriber.reader = None);
        for job in in_flight.into_iter().chain(waiting) {
            self.done.book.deliveries.abandoned += 1;
            self.end(job, Some(NoAnswer::Abandoned));
        }
        for (_, subscriber) in &mut self.subscribers {
            subscriber.keys.clear();
            (subscriber.is_opening, subscriber.is_broken) = (false, false);
        }
        // The letters that were to be replayed are dead in the store, where they are read again.
        self.parts
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|command| !matches!(command, Command::Replay(_)));
        self.subscribers.retain(|_, subscriber| subscriber.is_subscribed || subscriber.open > 0);
    }

    /// A subscription has gone that had met damage. What the store itself knows of it is still damaged.
    pub(in crate::dispatch) fn forget_damage(&self, name: &str) {
        if self.durable.as_ref().is_none_or(|durable| !durable.harmed.contains_key(name)) {
            self.parts.intake.lock().log.damage.remove(&unread(name));
        }
    }

    /// Whether somebody subscribes by a name.
    pub(super) fn is_claimed(&self, name: &str) -> bool {
        self.subscribers.iter().any(|(_, s)| s.is_subscribed && &**s.entry.name() == name)
    }

    /// Says which names hold what nobody claims: those that were opened once, and those that never were.
    pub(in crate::dispatch) fn tell_orphans(&mut self) {
        let Some(durable) = &self.durable else { return };
        let is_claimed = |name: &str| self.is_claimed(name);
        let runs = |name: &str| durable.stages.iter().any(|stage| &*stage.border().stage == name);
        let (stages, subscriptions): (Vec<&str>, Vec<&str>) =
            durable.starts.keys().map(String::as_str).partition(|name| name.starts_with(STAGE));
        let subscriptions = subscriptions.into_iter().chain(durable.known.keys().map(String::as_str));
        let subscriptions = subscriptions.chain(durable.harmed.keys().map(String::as_str));
        let stages = stages.into_iter().map(|name| &name[STAGE.len_utf8()..]);
        let stages = stages.chain(durable.stage_cursors.keys().map(String::as_str));
        let stages = stages.chain(durable.harmed_stages.keys().map(String::as_str));
        let nobody = subscriptions.filter(|name| !is_claimed(name)).chain(stages.filter(|name| !runs(name)));
        let mut orphans: Vec<_> = nobody.map(str::to_owned).collect();
        orphans.sort_unstable();
        orphans.dedup();
        self.parts.intake.lock().log.orphans = orphans;
    }
}

impl Durable {
    /// Whoever waits for a write learns that nobody knows what became of it.
    pub(in crate::dispatch) fn answer_all(&mut self, reason: &str) {
        let committing = self.committing.iter_mut().flat_map(|commit| std::mem::take(&mut commit.replies));
        for reply in committing.chain(std::mem::take(&mut self.batch.replies)) {
            let _ = reply.send(Err(StorageError::Unknown { reason: reason.to_owned() }));
        }
    }

    /// A dead letter goes for want of room, with the next commit. It is counted when that has landed.
    pub(in crate::dispatch) fn drops(&mut self, letter: u64) {
        self.batch.dropped.push(letter);
    }

    /// How many of the dead letters that were on their way out are gone. One with a number beyond the last may never have been there.
    fn dropped_for_good(&mut self, dead: &Dead) -> usize {
        let harmed = dead.harmed.iter().filter_map(|(key, _)| letter_number(key));
        let there: HashSet<u64> = dead.letters.iter().map(|letter| letter.number).chain(harmed).collect();
        let lost = std::mem::take(&mut self.lost_dropped).into_iter();
        lost.filter(|number| *number <= dead.last && !there.contains(number)).count()
    }

    /// Whether the clock has moved so far that its reading is worth writing.
    pub(super) fn clock_op(&mut self, now: Timestamp) -> Option<crate::store::Op> {
        (now > self.saved_now).then(|| {
            self.saved_now = now;
            crate::store::Op::Put {
                table: crate::store::tables::ENGINE,
                key: bytes::Bytes::from_static(crate::journal::NOW),
                value: bytes::Bytes::copy_from_slice(&now.as_nanos().to_be_bytes()),
            }
        })
    }
}
