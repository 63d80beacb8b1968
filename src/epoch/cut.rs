//! Cutting an epoch: all that it changed becomes one batch.
//!
//! The batch has the outputs, the states that changed as a delta, about a hundredth of the keys that no row has written
//! back, the deltas that nobody needs any more removed, and the header with the cursor. The write-back goes through the keys
//! in their order, round and round, so that it touches few pages.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::{BufMut, Bytes};
use millstream_operators::durable::Durable;

use super::{
    StageItem, StateKey,
    border::Death,
    delta::Chunks,
    driven::{Draftwork, Driven, Flight},
    entry::{Entry, Kept, Row, Touch},
    header::Header,
    moment::Moment,
    parts::Save,
    rows::{DELTAS, HEADERS, PARKED, STATES, TIMERS},
    run::{Blame, panic_text},
    states::{LoadError, States},
    value::{Preface, write_waiting},
};
use crate::{
    event::IntoDraft,
    stage::Since,
    store::{MAX_BATCH_BYTES, Op, Reader, Tenure},
};

/// Up to so many keys are written as rows at once: then there is no delta.
const DIRECT: usize = 16;

/// The part of all keys without a row that an epoch writes back.
const SHARE: usize = 100;

/// How much of what has no row an epoch writes back, by weight, which is over twice a state's bytes: so at most a quarter of a
/// batch, or one state.
const SWEPT: usize = MAX_BATCH_BYTES / 2;

/// What an epoch has made of a key; none where it is forgotten.
type Changed = (StateKey, Option<Bytes>);

impl<In, O: Durable<In>> States<In, O> {
    /// All keys that the epoch under way has changed.
    fn touched(&self) -> Vec<StateKey> {
        let mut touched: Vec<_> = self.lanes.iter().flat_map(|lane| lane.touched().iter().cloned()).collect();
        touched.sort_unstable();
        touched
    }

    /// Whether so few keys have no row that all are written at once.
    fn is_direct(&self) -> bool {
        let touched: usize = self.lanes.iter().map(|lane| lane.touched().len()).sum();
        !self.is_spared && self.dirty.len() + touched <= DIRECT && self.dirty_bytes <= SWEPT
    }

    /// The keys whose rows the next cut writes, besides those that it changes.
    fn next_swept(&self) -> Vec<StateKey> {
        if self.is_direct() {
            return self.dirty.iter().cloned().collect();
        }
        if self.is_spared {
            return Vec::new();
        }
        let beyond = self.dirty_bytes.saturating_sub(self.memory / 2);
        let for_memory = (self.dirty.len() * beyond).div_ceil(self.dirty_bytes.max(1));
        let count = self.dirty.len().div_ceil(SHARE).max(for_memory);
        let Some(swept) = &self.swept else { return self.light(self.dirty.iter().take(count)) };
        let after = self.dirty.range::<StateKey, _>((Excluded(swept), Unbounded));
        let before = self.dirty.range::<StateKey, _>(..=swept);
        self.light(after.chain(before).take(count))
    }

    /// The first of these keys, as many as have room in a batch beside what the epoch has; one at least.
    fn light<'a>(&self, keys: impl Iterator<Item = &'a StateKey>) -> Vec<StateKey> {
        let mut weight = 0;
        let light = keys.enumerate().take_while(|(place, key)| {
            weight += self.get(key).map_or(0, |entry| entry.bytes);
            *place == 0 || weight <= SWEPT
        });
        light.map(|(_, key)| key.clone()).collect()
    }

    /// Looks at the rows that the next cut will write over and that nobody has looked at since the restart: it must know
    /// their places in the timer index.
    ///
    /// # Cancel safety
    /// What was read is kept.
    pub(super) async fn look_at_rows(&mut self, reader: &dyn Reader) -> Result<(), LoadError> {
        let is_unknown = |key: &StateKey| self.get(key).is_some_and(|entry| entry.row == Row::Unknown);
        let keys: Vec<_> = self.next_swept().into_iter().filter(is_unknown).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = keys.iter().map(|key| self.rows.state(key)).collect();
        for (key, value) in keys.iter().zip(reader.get(STATES, &rows).await?) {
            let row = match value {
                None => Row::Absent,
                Some(value) => {
                    let preface = Preface::read(&mut &value[..]);
                    let unfit = |_| LoadError::Unfit(format!("the state of key `{}` is damaged", key.key()));
                    Row::Present(preface.map_err(unfit)?.next)
                }
            };
            if let Some(entry) = self.get_mut(key) {
                entry.row = row;
            }
        }
        Ok(())
    }

    /// What every changed key has become, or who is to blame that it cannot be written.
    fn encode(&mut self, blame: &mut Blame) -> Result<Vec<Changed>, String> {
        let (mut changed, mut out) = (Vec::new(), Vec::new());
        for key in self.touched() {
            let touch = self.get(&key).and_then(|entry| entry.touched).unwrap_or(Touch::Load);
            *blame = Blame::of(touch, &key);
            out.clear();
            let value = if self.encode_one(&key, &mut out).map_err(|error| error.to_string())? {
                Some(Bytes::copy_from_slice(&out))
            } else {
                None
            };
            changed.push((key, value));
        }
        *blame = Blame::Nobody;
        Ok(changed)
    }

    /// Writes a state, unless it is as good as fresh.
    fn encode_one(&mut self, key: &StateKey, out: &mut Vec<u8>) -> Result<bool, rmp_serde::encode::Error> {
        let lane = self.lane_of(key);
        let Self { lanes, chain, labels, version, .. } = self;
        let Some(live) = lanes[lane].get_mut(key).and_then(|entry| entry.live.as_mut()) else { return Ok(false) };
        if live.waiting.is_empty() && chain.vacant(&live.state) {
            return Ok(false);
        }
        let next = live.next(chain);
        // Whoever has no timer gives nothing out but for an event. That has a depth of its own, and the state's counts only
        // where the last one had the same root.
        let origin = live.origin.filter(|_| O::TIMED || live.depth > 0);
        Preface { version: *version, next, depth: live.depth, origin, is_started: live.is_started }.write(out);
        #[expect(clippy::cast_possible_truncation, reason = "nobody writes a chain of 65,536 operators")]
        out.put_u16(labels.len() as u16);
        chain.parts(&mut live.state, None, &mut Save { labels: labels.iter(), out })?;
        write_waiting(out, live.waiting.iter().map(|waiting| (waiting.at, &waiting.record)));
        Ok(true)
    }

    /// Takes what changed into the books, and writes it.
    fn take_in(&mut self, epoch: u64, changed: Vec<Changed>) -> Vec<Op> {
        let is_direct = self.is_direct();
        let swept = self.next_swept();
        let mut chunks = Chunks::default();
        let mut flushed: BTreeSet<_> = swept.iter().cloned().collect();
        for (key, value) in changed {
            if !self.change(epoch, &key, value.as_ref()) {
                continue;
            }
            if is_direct {
                flushed.insert(key);
            } else {
                chunks.push(&key, value.as_deref());
            }
        }
        self.lanes.iter_mut().for_each(|lane| drop(lane.take_touched()));
        let mut ops = Vec::new();
        for key in &flushed {
            self.flush(epoch, key, &mut ops);
        }
        if !is_direct {
            self.swept = swept.last().cloned().or_else(|| self.swept.take());
        }
        ops.extend(self.deltas.drop_dead(&self.rows));
        if self.deltas.has(epoch) {
            let parts: Vec<_> = (0..).zip(chunks.finish()).collect();
            self.deltas.wrote(epoch, parts.iter().map(|(part, _)| part + 1).max().unwrap_or_default());
            let put = |(part, value)| Op::Put { table: DELTAS, key: self.rows.delta(epoch, part), value };
            ops.extend(parts.into_iter().map(put));
        }
        ops
    }

    /// Notes what an epoch has made of a key. Says no where there never was anything to write.
    fn change(&mut self, epoch: u64, key: &StateKey, value: Option<&Bytes>) -> bool {
        let (landed, read_to, is_listed) = (self.landed, self.read_to.clone(), !self.parked.contains_key(key));
        let lane = self.lane(key);
        let Some(entry) = lane.get_mut(key) else { return false };
        entry.touched = None;
        let weight = Entry::<In, O::State>::weight(key.as_bytes().len(), value.map_or(0, Bytes::len));
        let before = entry.bytes;
        if value.is_none() {
            let has_no_trace = matches!(entry.kept, Kept::Gone) && entry.is_settled(landed);
            entry.live = None;
            if has_no_trace {
                lane.remove(key, &read_to, is_listed);
                return false;
            }
        }
        entry.kept = value.map_or(Kept::Gone, |value| Kept::Value(value.clone()));
        let old = entry.delta.replace(epoch);
        if value.is_none() {
            lane.set_next(key, None, is_listed);
        }
        lane.weigh(key, weight);
        if let Some(old) = old {
            self.deltas.take_off(old);
            self.dirty_bytes -= before;
        } else {
            self.dirty.insert(key.clone());
        }
        self.dirty_bytes += weight;
        self.deltas.add(epoch);
        true
    }

    /// Writes a key's row, and its place in the timer index.
    fn flush(&mut self, epoch: u64, key: &StateKey, ops: &mut Vec<Op>) {
        let state_row = self.rows.state(key);
        let Some(entry) = self.get_mut(key) else { return };
        let Some(delta) = entry.delta.take() else { return };
        entry.flushed = epoch;
        let (was, weight) = (entry.row, entry.bytes);
        let next = match &entry.kept {
            Kept::Value(value) => {
                ops.push(Op::Put { table: STATES, key: state_row, value: value.clone() });
                let next = Preface::read(&mut &value[..]).map_or(None, |preface| preface.next);
                entry.row = Row::Present(next);
                next
            }
            Kept::Gone | Kept::OnDisk => {
                if was != Row::Absent {
                    ops.push(Op::Delete { table: STATES, key: state_row });
                }
                entry.row = Row::Absent;
                None
            }
        };
        let before = if let Row::Present(before) = was { before } else { None };
        if before != next {
            let row = |next| self.rows.timer(&Moment { next, key: key.clone() });
            ops.extend(before.map(|before| Op::Delete { table: TIMERS, key: row(before) }));
            ops.extend(next.map(|next| Op::Put { table: TIMERS, key: row(next), value: Bytes::new() }));
        }
        self.deltas.take_off(delta);
        self.dirty.remove(key);
        self.dirty_bytes -= weight;
    }
}

impl<In, O> Driven<In, O>
where
    In: StageItem,
    O: Durable<In, Out: IntoDraft, State: Send> + Send,
{
    /// Cuts the epoch under way and hands it over. Where a state cannot be written, the epoch is taken back instead, and done again
    /// in smaller ones until it is known who is to blame.
    pub(super) fn cut(&mut self, tenure: &Arc<Tenure>) {
        let mut blame = Blame::Nobody;
        let encoded = catch_unwind(AssertUnwindSafe(|| self.states.encode(&mut blame)));
        let death = match encoded {
            Ok(Ok(changed)) => {
                self.search_limit = self.search_limit.saturating_mul(2);
                return self.hand_over(changed, tenure);
            }
            Ok(Err(error)) => Death::Refused(format!("the state after it: {error}")),
            Err(panic) => Death::Panicked(panic_text(&*panic)),
        };
        let size = self.work.size();
        if size > 1 && !matches!(blame, Blame::Nobody) {
            self.search_limit = size / 2;
            self.discard();
        } else {
            self.give_up(blame, death);
        }
    }

    fn hand_over(&mut self, changed: Vec<Changed>, tenure: &Arc<Tenure>) {
        self.epoch += 1;
        let cursor = self.taken_to();
        self.counts.skipped += self.input.take_skipped();
        let work = std::mem::take(&mut self.work);
        let size = work.size();
        let Draftwork { taken, mut sink, buried, .. } = work;
        let letters = taken.into_iter().filter_map(|(_, letter)| letter).collect();
        let mut batch = Vec::from(self.states.rows.turns(self.epoch));
        batch.append(&mut sink.take());
        batch.extend(self.states.take_in(self.epoch, changed));
        batch.extend(self.parked_rows());
        batch.push(self.header(cursor.0));
        for seq in buried {
            self.poisoned.remove(&seq);
        }
        self.cut = (self.time.reached, self.counts);
        let commit = Box::pin(tenure.commit_untold(batch));
        let (epoch, done) = (self.epoch, sink.done);
        self.in_flight.push_back(Flight { epoch, cursor, size, done, letters, commit });
    }

    pub(super) fn header(&self, cursor: u64) -> Op {
        let (version, epoch) = (self.states.version, self.epoch);
        let (reached, since) = (self.time.reached, Since::Said(self.input.since()));
        let header = Header { version, epoch, cursor, reached, counts: self.counts, since, is_going: false };
        Op::Put { table: HEADERS, key: self.states.rows.header(), value: header.encode() }
    }

    fn parked_rows(&mut self) -> Vec<Op> {
        let unparked = std::mem::take(&mut self.unparked);
        let removed = unparked.iter().map(|key| Op::Delete { table: PARKED, key: self.states.rows.state(key) });
        let mut ops: Vec<_> = removed.collect();
        for (key, parked) in self.states.parked.iter_mut().filter(|(_, parked)| !parked.is_cut) {
            parked.is_cut = true;
            ops.push(Op::Put { table: PARKED, key: self.states.rows.state(key), value: parked.encode() });
        }
        ops
    }
}
