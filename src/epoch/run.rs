//! Stepping the chain: records in the order of the log, and before each the deadlines that are due, each at its own time.
//!
//! Nothing waits in here, so that lanes, chunks and epochs change nothing in what comes out: the order is that of the
//! records, and within what a record brings about that of (deadline, timers before items, key).

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
};

use millstream_operators::{Timestamp, durable::Durable};

use super::{
    StageItem, StateKey,
    border::{Cause, Death, Origin},
    contained::Contained,
    driven::{CHUNK, Decoded, Driven, Item, Replayed, Taken},
    entry::{Live, Touch, Waiting},
    moment::{Kind, Moment},
    status::Parked,
};
use crate::{
    event::{Draft, Envelope, IntoDraft},
    store::{PageRecord, Seq},
};

/// How many timers are fired in one step at most.
const FIRES: usize = 8_192;

/// How often a deadline may fire at one and the same time before it is taken for stuck.
const STUCK: u32 = 100_000;

/// How many bytes an epoch's records or outputs may have, beyond which it is cut.
const EPOCH_BYTES: usize = 4 << 20;

/// What leaves the chain, in order.
pub(super) enum Effect {
    Out(Box<Output>),
    Dead(PageRecord, Death),
}

pub(super) struct Output {
    draft: Draft,
    at: Timestamp,
    origin: Option<Origin>,
    depth: u32,
    key: StateKey,
    timer: Option<Timestamp>,
    touch: Touch,
}

/// What was being done when the chain panicked, or what an output came from that cannot be emitted.
#[derive(Clone, Debug)]
pub(super) enum Blame {
    /// The stage's own doing.
    Nobody,
    Event(Seq),
    Timer(StateKey, Timestamp),
}

impl Blame {
    pub(super) fn of(touch: Touch, key: &StateKey) -> Self {
        match touch {
            Touch::Load => Self::Nobody,
            Touch::Item(seq) => Self::Event(seq),
            Touch::Timer(at) => Self::Timer(key.clone(), at),
        }
    }
}

/// The text of a panic.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a value that is no text".to_owned())
}

impl<In, O> Driven<In, O>
where
    In: StageItem,
    O: Durable<In, Out: IntoDraft, State: Send> + Send,
{
    /// Whether the epoch under way is to be cut.
    pub(super) fn is_full(&self) -> bool {
        let work = &self.work;
        work.size() >= self.epoch_limit.min(self.search_limit)
            || work.taken_bytes.max(work.sink.bytes()) >= EPOCH_BYTES
            || self.states.touched_bytes() >= self.states.memory / 4
    }

    /// Whether there is anything to commit. Events that the stage does not want are no reason, until there are many.
    pub(super) fn has_work(&self) -> bool {
        let work = &self.work;
        let passed_over = self.taken_to().0.saturating_sub(self.cursor.0);
        !work.taken.is_empty()
            || work.fired > 0
            || work.is_parked_changed
            || !work.sink.is_empty()
            || self.states.is_touched()
            || (passed_over >= self.epoch_limit as u64 && self.in_flight.is_empty())
    }

    /// All before it was taken.
    pub(super) fn taken_to(&self) -> Seq {
        let next = self.decoded.iter().find(|decoded| decoded.letter.is_none());
        next.map_or_else(|| self.input.position(), |decoded| decoded.record.seq)
    }

    /// Finds out what the next records are.
    pub(super) fn decode(&mut self) {
        while self.decoded.len() < CHUNK
            && let Some((record, letter)) = self.next_record()
        {
            let item = match self.poisoned.get(&record.seq) {
                Some(death) => Err(death.clone()),
                None => catch_unwind(AssertUnwindSafe(|| self.item_of(&record)))
                    .unwrap_or_else(|panic| Err(Death::Panicked(panic_text(&*panic)))),
            };
            self.decoded.push_back(Decoded { record, letter, item });
        }
    }

    fn next_record(&mut self) -> Option<Taken> {
        match self.replays.pop_front() {
            Some(Replayed { number, record }) => Some((record, Some(number))),
            None => self.input.pop().map(|record| (record, None)),
        }
    }

    fn item_of(&self, record: &PageRecord) -> Result<Item<In>, Death> {
        let (item, envelope) = read_item::<In>(record)?;
        let key = self.key.as_ref().map(|key| key(&item));
        let key = StateKey::new(envelope.tenant(), key.as_ref().map_or("", |key| key.as_str()));
        if key.as_bytes().len() > usize::from(u16::MAX) {
            return Err(Death::Undecodable("its key is longer than 65,535 bytes".to_owned()));
        }
        Ok(Item { value: item.into(), key, time: envelope.time(), origin: origin_of(&envelope) })
    }

    /// Steps the chain as far as memory has what it needs. Says whether anything was done.
    pub(super) fn run(&mut self) -> bool {
        let mut blame = Blame::Nobody;
        let run = catch_unwind(AssertUnwindSafe(|| self.run_and_emit(&mut blame)));
        match run {
            Ok(Ok(progress)) => progress,
            Ok(Err(reason)) => self.give_up(blame, Death::Refused(reason)),
            Err(panic) => self.give_up(blame, Death::Panicked(panic_text(&*panic))),
        }
    }

    fn run_and_emit(&mut self, blame: &mut Blame) -> Result<bool, String> {
        let mut effects = Vec::new();
        let progress = self.run_chunk(&mut effects, blame);
        for effect in effects {
            match effect {
                Effect::Dead(record, death) => {
                    *blame = Blame::Nobody;
                    self.counts.dead += 1;
                    self.border.dead(&record, &death, self.time.reached.now, &mut self.work.sink);
                }
                Effect::Out(output) => {
                    let Output { draft, at, origin, depth, key, timer, touch } = *output;
                    *blame = Blame::of(touch, &key);
                    let cause = Cause { origin: origin.as_ref(), depth, timer, at, key: &key };
                    self.border.emit(draft, &cause, &mut self.work.sink)?;
                    self.counts.emitted += 1;
                }
            }
        }
        Ok(progress)
    }

    fn run_chunk(&mut self, effects: &mut Vec<Effect>, blame: &mut Blame) -> bool {
        let (mut fires, mut progress) = (FIRES, false);
        loop {
            let arrival = match self.decoded.front() {
                Some(Decoded { item: Ok(item), .. }) => self.time.arrival(item.time),
                Some(Decoded { item: Err(_), .. }) => self.time.arrival(self.time.reached.watermark),
                None => break,
            };
            if self.is_full() || !self.fire(arrival.upto, &mut fires, effects, blame) {
                return progress || fires < FIRES;
            }
            let ready = self
                .decoded
                .pop_front_if(|next| next.item.as_ref().map_or(true, |item| self.states.is_awake(&item.key)));
            let Some(Decoded { record, letter, item }) = ready else { return progress || fires < FIRES };
            if let Some(number) = letter {
                self.border.replayed(number, &mut self.work.sink);
            }
            self.work.taken_bytes += record.bytes.len();
            self.work.taken.push((record.clone(), letter));
            self.take(record, item, arrival.at, effects, blame);
            progress = true;
        }
        if !self.is_full() {
            let upto = self.time.upto(self.input.is_at_end());
            self.fire(upto, &mut fires, effects, blame);
        }
        progress || fires < FIRES
    }

    /// Fires what is due at `upto` or before. Says no where that is not all: something is not in memory, or it is enough for
    /// one step.
    fn fire(&mut self, upto: Timestamp, fires: &mut usize, effects: &mut Vec<Effect>, blame: &mut Blame) -> bool {
        loop {
            let moment = match self.states.first() {
                Some(first) if first.next.at <= upto => first.clone(),
                _ if self.states.read_to.covers_time(upto) => {
                    self.time.passed(upto);
                    return true;
                }
                _ => return false,
            };
            let is_ready = self.states.read_to.covers(&moment) && self.states.is_awake(&moment.key);
            if !is_ready || *fires == 0 || self.is_full() {
                return false;
            }
            *fires -= 1;
            if self.states.parked.contains_key(&moment.key) {
                self.states.lane(&moment.key).unlist(&moment.key);
                self.states.lane(&moment.key).drop_absent(&moment);
            } else {
                self.fire_one(&moment, effects, blame);
            }
        }
    }

    fn fire_one(&mut self, moment: &Moment, effects: &mut Vec<Effect>, blame: &mut Blame) {
        self.work.fired += 1;
        let (key, at) = (&moment.key, moment.next.at);
        let waiting = self.states.get_mut(key).and_then(|entry| match (moment.next.kind, entry.live.as_mut()) {
            (Kind::Item, Some(live)) => live.waiting.pop_front(),
            _ => None,
        });
        match waiting {
            Some(waiting) => self.feed_waiting(key, at, waiting, effects, blame),
            None => self.fire_timer(moment, effects, blame),
        }
        self.states.update_next(key);
    }

    fn feed_waiting(
        &mut self,
        key: &StateKey,
        at: Timestamp,
        Waiting { record, item, .. }: Waiting<In>,
        effects: &mut Vec<Effect>,
        blame: &mut Blame,
    ) {
        let touch = Touch::Item(record.seq);
        *blame = Blame::Event(record.seq);
        self.states.touch(key, touch);
        match self.due_item(&record, item) {
            Ok((item, origin)) => self.feed(key, item, Origin { at, ..origin }, touch, effects),
            Err(death) => {
                self.work.buried.push(record.seq);
                effects.push(Effect::Dead(record, death));
            }
        }
    }

    fn fire_timer(&mut self, moment: &Moment, effects: &mut Vec<Effect>, blame: &mut Blame) {
        let (key, at) = (&moment.key, moment.next.at);
        *blame = Blame::Timer(key.clone(), at);
        self.states.touch(key, Touch::Timer(at));
        self.count_repeats(moment);
        self.counts.fired += 1;
        self.step_key(key, Touch::Timer(at), Some(at), effects, |chain, live, mut out| {
            chain.on_time(&mut live.state, at, &mut out);
        });
    }

    /// # Panics
    /// Where it is too often: that is caught as a panic of the chain is, and parks the key.
    fn count_repeats(&mut self, moment: &Moment) {
        if self.repeats.0.as_ref() != Some(moment) {
            self.repeats = (Some(moment.clone()), 0);
        }
        self.repeats.1 += 1;
        assert!(self.repeats.1 < STUCK, "the deadline does not rise after firing");
    }

    /// An item that has waited, unless it is to be given up.
    fn due_item(
        &self,
        record: &PageRecord,
        item: Option<(Contained<In>, Origin)>,
    ) -> Result<(Contained<In>, Origin), Death> {
        if let Some(death) = self.poisoned.get(&record.seq) {
            return Err(death.clone());
        }
        match item {
            Some(item) => Ok(item),
            None => read_item::<In>(record).map(|(item, envelope)| (Contained::from(item), origin_of(&envelope))),
        }
    }

    /// A record comes: what is due before it has fired.
    fn take(
        &mut self,
        record: PageRecord,
        item: Result<Item<In>, Death>,
        at: Timestamp,
        effects: &mut Vec<Effect>,
        blame: &mut Blame,
    ) {
        self.counts.taken += 1;
        let seq = record.seq;
        let Item { value: item, key, origin, .. } = match item {
            Ok(item) => item,
            Err(death) => {
                self.work.buried.push(seq);
                return effects.push(Effect::Dead(record, death));
            }
        };
        if self.states.parked.contains_key(&key) {
            return effects.push(Effect::Dead(record, Death::Parked));
        }
        if self.time.is_late(at) {
            self.counts.late += 1;
            if !self.drops_late {
                let watermark = self.time.reached.watermark;
                effects.push(Effect::Dead(record, Death::Late { at, watermark }));
            }
            return;
        }
        self.time.took(at);
        *blame = Blame::Event(seq);
        self.states.touch(&key, Touch::Item(seq));
        let origin = Origin { at, ..origin };
        if at <= self.time.reached.watermark {
            self.feed(&key, item, origin, Touch::Item(seq), effects);
        } else {
            self.states.live(&key).wait(at, record, item, origin);
        }
        self.states.update_next(&key);
    }

    fn feed(&mut self, key: &StateKey, item: Contained<In>, origin: Origin, touch: Touch, effects: &mut Vec<Effect>) {
        let at = origin.at;
        let live = self.states.live(key);
        let is_fresh = !std::mem::replace(&mut live.is_started, true);
        live.come(origin);
        self.step_key(key, touch, None, effects, |chain, live, mut out| {
            if is_fresh {
                chain.on_start(&mut live.state, at, &mut out);
            }
            for fired in 0.. {
                let Some(due) = chain.deadline(&live.state).filter(|due| *due <= at) else { break };
                assert!(fired < STUCK, "the deadline does not rise after firing");
                chain.on_time(&mut live.state, due, &mut out);
            }
            if !chain.closed(&live.state) {
                chain.on_item(&mut live.state, item.into_inner(), at, &mut out);
            }
        });
    }

    /// Lets the chain see one key's state, and gathers what comes out.
    fn step_key(
        &mut self,
        key: &StateKey,
        touch: Touch,
        timer: Option<Timestamp>,
        effects: &mut Vec<Effect>,
        step: impl FnOnce(&O, &mut Live<In, O::State>, &mut dyn FnMut(O::Out, Timestamp)),
    ) {
        let (chain, live) = self.states.chain_and_live(key);
        let (origin, depth) = (live.origin, live.depth);
        step(chain, live, &mut |out, at| {
            let draft = out.into_draft();
            let output = Output { draft, at, origin, depth, key: key.clone(), timer, touch };
            effects.push(Effect::Out(Box::new(output)));
        });
    }

    /// Takes the epoch under way back, up to the last cut; whoever is to blame will be left out from now on.
    pub(super) fn give_up(&mut self, blame: Blame, death: Death) -> bool {
        let why = match &death {
            Death::Panicked(text) => format!("it panicked: {text}"),
            Death::Refused(text) => format!("its output cannot be emitted: {text}"),
            other => format!("{other:?}"),
        };
        match blame {
            Blame::Nobody => {
                self.park(why);
                return false;
            }
            Blame::Event(seq) => {
                tracing::warn!(stage = self.name, seq = seq.0, why, "an event is given up");
                self.discard();
                self.poisoned.insert(seq, death);
            }
            Blame::Timer(key, at) => {
                tracing::error!(stage = self.name, key = %key.key(), why, "a timer cannot be fired: its key is parked");
                self.discard();
                self.states.park(key, Parked { reason: why, at, is_cut: false });
                self.work.is_parked_changed = true;
            }
        }
        true
    }

    pub(super) fn discard(&mut self) {
        self.states.discard();
        let taken = std::mem::take(&mut self.work.taken);
        let unread = std::mem::take(&mut self.decoded);
        self.border.take_back(std::mem::take(&mut self.work.sink.done));
        let all = taken.into_iter().chain(unread.into_iter().map(|decoded| (decoded.record, decoded.letter)));
        let (mut read, mut replays) = (Vec::new(), VecDeque::new());
        for (record, letter) in all {
            match letter {
                None => read.push(record),
                Some(number) => replays.push_back(Replayed { number, record }),
            }
        }
        self.input.put_back(read.into_iter());
        replays.append(&mut self.replays);
        self.replays = replays;
        let is_parked_changed = self.work.is_parked_changed;
        self.work = super::driven::Draftwork { is_parked_changed, ..Default::default() };
        (self.time.reached, self.counts) = self.cut;
        self.repeats = (None, 0);
    }
}

fn read_item<In: StageItem>(record: &PageRecord) -> Result<(In, std::sync::Arc<Envelope>), Death> {
    let envelope = Envelope::from_record(&record.bytes).map_err(|error| Death::Undecodable(error.to_string()))?;
    let envelope = std::sync::Arc::new(envelope);
    let item = In::from_envelope(&envelope).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Death::Undecodable(format!("{error}{source}"))
    })?;
    Ok((item, envelope))
}

fn origin_of(envelope: &Envelope) -> Origin {
    Origin { event: envelope.id(), lineage: envelope.lineage, at: envelope.time() }
}
