//! Rows that cannot be read when a partition is claimed or a subscription opened: each stays where it is, stops nobody but whom it
//! belongs to, and is said in health until it is gone.

use bytes::Bytes;
use metrics::counter;

use super::{Durable, read::unread};
use crate::{
    dispatch::Dispatcher,
    journal::{HarmedRow, letter_number},
    store::{Op, StoreError, Table, tables},
};

/// What is said of a damaged reading of the clock.
const CLOCK: &str = "the clock's last reading cannot be read";

/// What is said of damaged dead letters.
const LETTERS: &str = "dead letters that cannot be read stay where they are";

impl Dispatcher {
    /// Says what the claim could not read.
    pub(super) fn tell_harm(&mut self, clock: Option<StoreError>) {
        let Some(durable) = &self.durable else { return };
        let names = durable.harmed.iter().map(|(name, harmed)| (unread(name), with_advice(&harmed.why)));
        let stages = durable.harmed_stages.iter().map(|(name, harmed)| (unread_stage(name), stage_advice(&harmed.why)));
        let clock = clock.map(|why| (CLOCK.to_owned(), format!("{why}; it is written anew with the next commits")));
        let all: Vec<_> = names.chain(stages).chain(clock).collect();
        for (what, why) in &all {
            tracing::error!(what, why, "the store has damaged rows");
        }
        self.parts.intake.lock().log.damage.extend(all);
        self.tell_harmed_letters();
    }

    /// The clock's reading is written anew.
    pub(super) fn clock_is_whole(&self) {
        self.parts.intake.lock().log.damage.remove(CLOCK);
    }

    /// Why a stage cannot begin: what the store has of it cannot be read, or its name is somebody else's.
    pub(super) fn harm_of_stage(&self, stage: &str) -> Option<String> {
        let durable = self.durable.as_ref()?;
        let is_anothers = durable.known.contains_key(stage) && !durable.stage_cursors.contains_key(stage);
        let anothers = || {
            "the store knows a subscription of this name: give the stage another one, or `forget` the subscription"
                .to_owned()
        };
        let harmed = durable.harmed_stages.get(stage).map(|harmed| stage_advice(&harmed.why));
        harmed.or_else(|| is_anothers.then(anothers)).or_else(|| durable.stray_of(stage))
    }

    fn tell_harmed_letters(&mut self) {
        let Some(durable) = &mut self.durable else { return };
        let harmed = std::mem::take(&mut durable.harmed_letters);
        durable.count_harmed("dead_letters", tables::DEAD, &harmed);
        let mut state = self.parts.intake.lock();
        match harmed.first() {
            None => drop(state.log.damage.remove(LETTERS)),
            Some((_, why)) => {
                let numbers: Vec<_> = harmed
                    .iter()
                    .map(|(key, _)| letter_number(key).map_or("?".to_owned(), |n| n.to_string()))
                    .collect();
                let why = format!(
                    "{} ({}), the first: {why}; `purge` forgets them by number",
                    harmed.len(),
                    numbers.join(", ")
                );
                state.log.damage.insert(LETTERS.to_owned(), why);
            }
        }
        drop(state);
        durable.harmed_letters = harmed;
    }

    /// Deliveries of a subscription that left the log and cannot be read. Whether it may go on: not where one of them may be the
    /// head of a key that halts, for what waits behind it would overtake it.
    pub(super) fn meets_harmed_rows(&mut self, place: usize, harmed: &[HarmedRow]) -> bool {
        let Some((_, why)) = harmed.first() else { return true };
        let entry = &self.subscribers[place].entry;
        let (name, halts) = (entry.name().clone(), entry.options.halt);
        if halts {
            self.cannot_read(place, &[], why.clone());
            return false;
        }
        tracing::error!(subscription = &*name, rows = harmed.len(), error = %why, "deliveries that wait cannot be read");
        if let Some(durable) = &mut self.durable {
            durable.count_harmed(&name, tables::FAILED, harmed);
        }
        let why = format!("{}, the first: {why}", harmed.len());
        self.parts.intake.lock().log.damage.insert(unread_rows(&name), why);
        true
    }

    /// Whether the store knows a stage of a name, which nobody else may have.
    pub(super) fn is_of_a_stage(&self, name: &str) -> bool {
        let knows = |durable: &Durable| durable.stage_cursors.contains_key(name) && !durable.known.contains_key(name);
        self.durable.as_deref().is_some_and(knows)
    }

    /// A subscription has the name of a stage that the store knows: its rows and letters would be taken for each other's.
    pub(super) fn cannot_open(&mut self, place: usize) {
        let subscriber = &mut self.subscribers[place];
        subscriber.is_broken = true;
        let name = subscriber.entry.name();
        tracing::error!(subscription = &**name, "the store knows a stage of this name");
        let why = "the store knows a stage of this name: give it another one, or `forget` the stage, and it begins"
            .to_owned();
        self.parts.intake.lock().log.damage.insert(unread(name), why);
    }

    /// Why a name cannot be opened: what the store has of it, or may have, cannot be read.
    pub(super) fn harm_of(&self, name: &str, was: Option<&str>) -> Option<StoreError> {
        let durable = self.durable.as_ref()?;
        let is_known = |name: &str| durable.known.contains_key(name);
        if is_known(name) {
            return None;
        }
        let own = durable.harmed.get(name).or_else(|| durable.harmed.get(was?));
        if own.is_some() || was.is_some_and(is_known) {
            return own.map(|harmed| harmed.why.clone());
        }
        // One whose very name is damaged, and which is nobody else's.
        let mut strays =
            durable.harmed.iter().filter(|(other, harmed)| harmed.may_be_another && !self.is_claimed(other));
        strays.next().map(|(other, harmed)| {
            let why =
                if let StoreError::Corrupt { what } = &harmed.why { what.clone() } else { harmed.why.to_string() };
            StoreError::Corrupt { what: format!("{why} (it may be this one's; `forget` `{other}` where it is not)") }
        })
    }

    /// Forgets dead letters that cannot be read, where they are named by their numbers.
    pub(in crate::dispatch) fn purge_harmed(&mut self, numbers: Vec<u64>) {
        let Some(durable) = &mut self.durable else { return };
        if durable.tenure().is_none() {
            return durable.purged_numbers.extend(numbers);
        }
        let is_meant = |(key, _): &mut HarmedRow| letter_number(key).is_some_and(|number| numbers.contains(&number));
        let gone: Vec<_> = durable.harmed_letters.extract_if(.., is_meant).collect();
        for (key, _) in gone {
            durable.batch.push(Op::Delete { table: tables::DEAD, key });
        }
        self.tell_harmed_letters();
    }
}

/// What is said of a stage whose header or beginning is damaged.
pub(super) fn unread_stage(name: &str) -> String {
    format!("stage `{name}` cannot go on")
}

/// Why a stage cannot go on, and what to do about it.
fn stage_advice(why: &StoreError) -> String {
    format!("{why}; where it is never to be read, `forget` it, and the stage begins anew where it is to start")
}

/// Why a subscription cannot read on, and what to do about it.
pub(super) fn with_advice(why: &StoreError) -> String {
    format!("{why}; where it is never to be read, `forget` it, and whoever has the name begins where he wants to start")
}

/// What is said of a subscription some of whose deliveries cannot be read.
pub(super) fn unread_rows(name: &str) -> String {
    format!("deliveries of subscription `{name}` that wait and cannot be read stay where they are")
}

impl Durable {
    /// What may be a stage's that has no header: one whose very name may be damaged, and which nobody else runs.
    fn stray_of(&self, stage: &str) -> Option<String> {
        if self.stage_cursors.contains_key(stage) {
            return None;
        }
        let runs = |name: &str| self.stages.iter().any(|runner| &*runner.border().stage == name);
        let mut strays = self.harmed_stages.iter().filter(|(name, harmed)| harmed.may_be_another && !runs(name));
        let (other, harmed) = strays.next()?;
        Some(format!("{} (it may be this one's; `forget` `{other}` where it is not)", harmed.why))
    }

    fn count_harmed(&mut self, stage: &str, table: Table, rows: &[HarmedRow]) {
        let new = rows.iter().filter(|(key, _)| self.counted.insert((table, Bytes::clone(key)))).count();
        if new > 0 {
            counter!("millstream_dropped_total", "stage" => stage.to_owned(), "reason" => "damaged")
                .increment(new as u64);
        }
    }
}
