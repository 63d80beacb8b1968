//! The ends of streams in a durable runtime. They are told what lands, as those are who keep up; what nobody tells they read in the
//! log, all together. They have no place there that outlives the process.

use std::{
    collections::BTreeSet,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    Pending,
    gap::Found,
    read::{found, in_order},
};
use crate::{
    dispatch::{Dispatcher, registry::Entry, subscriber::Subscriber},
    event::Envelope,
    intake::{MARK, Told},
    queue::CLASSES,
    store::{PageRecord, Seq, StoreError, Wanted},
};

/// How far the ends of streams are.
pub(super) struct Taps {
    at: At,
    /// They have had all before it.
    given: Seq,
    pages: Option<Pending<Result<Vec<Found>, StoreError>>>,
}

/// Whether it is the end of a stream that is still there.
fn is_tap(subscriber: &Subscriber) -> bool {
    subscriber.entry.options.is_tap && subscriber.is_subscribed
}

#[derive(Clone, Copy)]
enum At {
    /// Where this process began to write, which is not known yet; and where the log ended when it was claimed first.
    Beginning(Option<Seq>),
    /// They read on here.
    Log(Seq),
    /// They are told.
    Tail,
}

impl Taps {
    pub(super) fn new() -> Self {
        Self { at: At::Beginning(None), given: Seq(0), pages: None }
    }

    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.at, At::Tail)
    }

    /// What they have not read is not trimmed, where that can wait.
    pub(super) fn floor(&self) -> Seq {
        match self.at {
            At::Beginning(_) => Seq(0),
            At::Log(from) => from,
            At::Tail => Seq(u64::MAX),
        }
    }

    /// All before `told` was told, and what follows is not.
    pub(super) fn fall_behind(&mut self, told: Seq) {
        if matches!(self.at, At::Tail) {
            self.at = At::Log(told.max(self.given));
        }
    }

    /// The partition is lost.
    pub(super) fn lose(&mut self) {
        self.pages = None;
    }

    /// The partition is claimed: the tail begins at its end, and all before `told` was told under the claim before.
    pub(super) fn claimed(&mut self, told: Seq, end: Seq) {
        self.fall_behind(told);
        if let At::Beginning(None) = self.at {
            self.at = At::Beginning(Some(end));
        }
    }

    /// Whether the event at a place is to be told.
    pub(super) fn follows(&self, seq: Seq) -> bool {
        matches!(self.at, At::Tail) && seq >= self.given
    }

    fn follow(&mut self, from: Seq) {
        (self.at, self.pages) = (At::Tail, None);
        self.given = self.given.max(from);
    }
}

impl Dispatcher {
    /// A stream begins with what was not dispatched when it was made; before the first claim that is all that this process writes.
    pub(in crate::dispatch) fn begin_tap(&mut self, entry: &Entry) {
        let Some(durable) = &mut self.durable else { return };
        // It may want what nobody has asked for yet.
        durable.taps.pages = None;
        if !matches!(durable.taps.at, At::Beginning(None)) {
            entry.start.get_or_init(|| durable.told);
        }
    }

    /// Streams read what nobody has told. Whether anything moved.
    pub(super) fn read_for_streams(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(from) = self.unread_by_streams() else { return false };
        let Some(durable) = &mut self.durable else { return false };
        if durable.taps.pages.is_none() && from >= durable.tail.from() {
            self.catch_streams_up(from, cx);
            return true;
        }
        if durable.is_stuffed() {
            return false;
        }
        let Some(pages) = self.pages_for_streams(from) else { return false };
        let Poll::Ready(found) = pages.as_mut().poll(cx) else { return false };
        if let Some(durable) = &mut self.durable {
            durable.taps.pages = None;
        }
        match found {
            Ok(found) => self.give_streams(from, found, cx),
            Err(error @ StoreError::Corrupt { .. }) => self.pass_over_for_streams(from, &error),
            Err(error) => self.lose(error),
        }
        true
    }

    /// Where they read on, if they do not follow the tail and are there.
    fn unread_by_streams(&mut self) -> Option<Seq> {
        let is_any = self.subscribers.iter().any(|(_, subscriber)| is_tap(subscriber));
        let durable = self.durable.as_mut()?;
        let next = durable.tail.next();
        if !is_any {
            durable.taps.follow(next);
        }
        if let At::Beginning(Some(end)) = durable.taps.at {
            let state = self.parts.intake.lock();
            let began = state.log.began().or_else(|| (state.log.on_way == 0).then_some(end))?;
            durable.taps.at = At::Log(began.min(end));
        }
        if let At::Log(from) = durable.taps.at { Some(from) } else { None }
    }

    /// The places of the streams' ends.
    fn taps(&self) -> Vec<usize> {
        self.subscribers.iter().filter(|(_, subscriber)| is_tap(subscriber)).map(|(place, _)| place).collect()
    }

    /// From now on they are told, once they have what was told before.
    fn catch_streams_up(&mut self, from: Seq, cx: &mut Context<'_>) {
        let Some(durable) = &mut self.durable else { return };
        let told: Vec<Told> = durable.tail.since(from).into_iter().flatten().cloned().collect();
        durable.taps.follow(from);
        for Told { seq, event, .. } in told {
            self.tap_all(seq, &event, cx);
        }
    }

    /// The pages that are being read.
    fn pages_for_streams(&mut self, from: Seq) -> Option<&mut Pending<Result<Vec<Found>, StoreError>>> {
        let is_begun = self.durable.as_ref()?.taps.pages.is_some();
        if !is_begun {
            let patterns = self.taps().into_iter().map(|place| self.subscribers[place].entry.pattern.as_exact());
            // Patterns without wildcards name what they want.
            let names = patterns.map(|name| name.map(|name: &str| Arc::from(name))).collect::<Option<BTreeSet<_>>>();
            let durable = self.durable.as_mut()?;
            let tenure = Arc::clone(durable.tenure()?);
            let from = (0..CLASSES).map(|class| (class, from)).collect();
            durable.taps.pages = Some(Box::pin(found(tenure, from, Wanted { names, ..Wanted::default() })));
        }
        self.durable.as_mut()?.taps.pages.as_mut()
    }

    /// What was read goes to all who want it, in the order of the log.
    fn give_streams(&mut self, from: Seq, found: Vec<Found>, cx: &mut Context<'_>) {
        let gaps = found.iter().enumerate().filter_map(|(class, found)| found.gap(class));
        let missed: u64 = gaps.map(|(_, from, first)| first.0.saturating_sub(from.0)).max().unwrap_or_default();
        let classes: Vec<usize> = (0..CLASSES).collect();
        let (known_to, records) = in_order(&classes, found);
        self.count_missed(missed.min(known_to.0 - from.0.min(known_to.0)), known_to, None);
        for (_, record) in records.into_iter().filter(|(_, record)| record.name.as_ref() != MARK) {
            self.give_record(&record, cx);
        }
        if let Some(durable) = &mut self.durable {
            durable.taps.at = At::Log(known_to);
        }
    }

    fn give_record(&mut self, record: &PageRecord, cx: &mut Context<'_>) {
        let taps = self.taps();
        if !taps.iter().any(|&place| self.subscribers[place].entry.pattern.matches(&record.name)) {
            return;
        }
        match Envelope::from_record(&record.bytes) {
            Ok(event) => self.tap_all(record.seq, &Arc::new(event), cx),
            Err(error) => {
                tracing::error!(place = record.seq.0, %error, "a record of the log is no event: streams miss it");
                self.count_missed(1, record.seq.next(), Some(&record.name));
            }
        }
    }

    fn tap_all(&mut self, seq: Seq, event: &Arc<Envelope>, cx: &mut Context<'_>) {
        for place in self.taps() {
            if self.subscribers[place].entry.pattern.matches(event.name.as_str()) {
                self.tap(place, seq, event, cx);
            }
        }
    }

    /// What cannot be read they miss, and go on with what is in memory.
    fn pass_over_for_streams(&mut self, from: Seq, error: &StoreError) {
        tracing::error!(%error, "streams miss events that cannot be read");
        let Some(durable) = &mut self.durable else { return };
        let to = durable.tail.from();
        durable.taps.at = At::Log(to);
        self.count_missed(to.0.saturating_sub(from.0), to, None);
    }

    /// Places of the log before `end` that are gone, or cannot be read, perhaps of a name that is known. A stream that was made behind
    /// them, or that wants no such name, misses nothing.
    fn count_missed(&self, places: u64, end: Seq, name: Option<&str>) {
        if places == 0 {
            return;
        }
        for place in self.taps() {
            let entry = &self.subscribers[place].entry;
            let is_behind = entry.start.get().is_some_and(|&start| start >= end);
            if is_behind || name.is_some_and(|name| !entry.pattern.matches(name)) {
                continue;
            }
            tracing::error!(subscription = &**entry.name(), places, "a stream misses what is not in the log any more");
            metrics::counter!("millstream_dropped_total", "stage" => entry.name().to_string(), "reason" => "trimmed")
                .increment(places);
            entry.meter.trimmed.add(places);
        }
    }
}
