//! From the log to the handlers: the tail for those that keep up, pages for those that do not.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::stream::StreamExt;
use millstream_operators::Timestamp;

use super::{Logged, Pending, Place, gap::Found, harm::with_advice, open::failed_key};

use crate::{
    dispatch::{Dispatcher, registry::Entry},
    event::Envelope,
    intake::{Held, MARK, Told},
    journal::{Cursor, Step},
    queue::CLASSES,
    stage::{HandlerError, Order},
    store::{Class, Page, PageRecord, Seq, StoreError, Tenure, Wanted},
};

/// The reading of pages for one subscription: of one class, or of all where it keeps the order of emission.
pub(super) struct Reading {
    place: usize,
    entry: u64,
    classes: Vec<usize>,
    pages: Pending<Result<Vec<Found>, StoreError>>,
}

/// What is read at a time.
const PAGE_BYTES: usize = 128 << 10;

impl Future for Reading {
    type Output = (usize, u64, Vec<usize>, Result<Vec<Found>, StoreError>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let pages = std::task::ready!(self.pages.as_mut().poll(cx));
        Poll::Ready((self.place, self.entry, std::mem::take(&mut self.classes), pages))
    }
}

impl Dispatcher {
    /// What landed goes to all who keep up, in the order of the log.
    pub(super) fn follow_tail(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Some(durable) = &mut self.durable
            && !durable.is_crowded()
        {
            // While a commit is in flight, what it appends may lie before what has landed already.
            match durable.tail.step(!durable.committing.is_empty()) {
                Step::Nothing => break,
                Step::Gap { told } => self.detach_all(told),
                Step::Events(events) => {
                    for Told { seq, event, .. } in events {
                        self.tell(seq, &event, cx);
                    }
                    if let Some(durable) = &mut self.durable {
                        durable.told = durable.tail.next();
                    }
                }
            }
            moved = true;
        }
        moved
    }

    /// Something was not told: who kept up reads it from the log.
    fn detach_all(&mut self, told: Seq) {
        if let Some(durable) = &mut self.durable {
            durable.taps.fall_behind(told);
        }
        for (_, subscriber) in &mut self.subscribers {
            if let Some(reader) = &mut subscriber.reader {
                reader.detach(told);
            }
        }
    }

    /// One event of the tail to all who want it and keep up.
    fn tell(&mut self, seq: Seq, event: &Arc<Envelope>, cx: &mut Context<'_>) {
        if let Some(durable) = &mut self.durable {
            durable.told = seq;
        }
        if self.has_new_subscribers() {
            self.catch_up();
        }
        self.metrics.wait.record(self.now.since(event.emitted));
        self.routes.find(&event.name, &self.subscribers);
        let class = event.priority.class();
        for turn in 0..self.routes.len() {
            let place = self.routes.at(turn);
            let subscriber = &mut self.subscribers[place];
            let Some(reader) = &mut subscriber.reader else {
                if subscriber.entry.options.is_tap && self.durable.as_ref().is_some_and(|d| d.taps.follows(seq)) {
                    self.tap(place, seq, event, cx);
                }
                continue;
            };
            // What had landed when it read its last page was there before it was told.
            if !reader.is_attached[class] || seq < reader.cursors[class].high {
                continue;
            }
            if reader.is_full(class) || self.durable.as_ref().is_some_and(|durable| durable.is_stuffed()) {
                self.detach(place, class, seq);
                continue;
            }
            self.deliver_logged(place, seq, event, cx);
        }
    }

    /// Whoever was taken back is told no more; what it was told is written before it goes.
    pub(in crate::dispatch) fn detach_unsubscribed(&mut self) {
        let Some(durable) = &self.durable else { return };
        for (_, subscriber) in self.subscribers.iter_mut().filter(|(_, s)| !s.is_subscribed) {
            if let Some(reader) = &mut subscriber.reader {
                reader.detach(durable.told);
            }
        }
    }

    /// It does not keep up any more: from here on it reads the log.
    fn detach(&mut self, place: usize, class: usize, seq: Seq) {
        let subscriber = &mut self.subscribers[place];
        let is_strict = subscriber.entry.options.order == Order::Strict;
        let Some(reader) = &mut subscriber.reader else { return };
        for class in (0..CLASSES).filter(|&other| other == class || is_strict) {
            reader.is_attached[class] = false;
            reader.cursors[class].pass(seq);
        }
    }

    /// A stream's end takes an event at once, whatever quota there is for handlers, and has no place in the log. What it cannot
    /// read is a dead letter.
    pub(super) fn tap(&mut self, place: usize, seq: Seq, event: &Arc<Envelope>, cx: &mut Context<'_>) {
        // It was made behind it.
        if self.subscribers[place].entry.start.get().is_some_and(|&start| seq < start) {
            return;
        }
        let wants = self.wants(place, event);
        let held = Held { event: Arc::clone(event), origin: None };
        match wants {
            Ok(false) => {}
            Ok(true) => {
                let (event, first) = self.deliver_at_once(held.event, None, place, cx);
                if let Some(first) = first {
                    let job = self.roomless_job(Held { event, origin: None }, place);
                    // What its end frees it takes first.
                    self.load_in_flight(job.tenant().cloned());
                    self.go_on(super::super::job::Job { id: first.id, ..job }, first);
                }
            }
            Err(panic) => {
                let job = self.roomless_job(held, place);
                self.done.book.deliveries.panics += 1;
                self.fail(job, &panic, self.now);
            }
        }
    }

    /// One event of the log to one subscription, unless it does not want it.
    fn deliver_logged(&mut self, place: usize, seq: Seq, event: &Arc<Envelope>, cx: &mut Context<'_>) {
        let class = event.priority.class();
        let wants = match self.is_after_start(place, event).then(|| self.wants(place, event)) {
            None | Some(Ok(false)) => {
                if let Some(reader) = &mut self.subscribers[place].reader {
                    reader.cursors[class].done(seq);
                }
                return;
            }
            Some(wants) => wants,
        };
        let Some(reader) = &mut self.subscribers[place].reader else { return };
        reader.cursors[class].take(seq);
        let logged = Logged { key: failed_key(reader.id, class, seq), place: Place::Log };
        let held = Held { event: Arc::clone(event), origin: None };
        if let Err(panic) = wants {
            return self.refuse_logged(held, place, logged, &panic);
        }
        if !self.is_free(place, event) || self.needs_care(logged.key) {
            let job = self.logged_job(held, place, logged);
            if let Some(job) = self.pass_key(job) {
                self.begin(job, cx);
            }
            return;
        }
        let (event, first) = self.deliver_at_once(held.event, None, place, cx);
        match first {
            None => self.log_done(place, logged),
            Some(first) => {
                let held = Held { event, origin: None };
                let job = self.logged_job(held, place, logged);
                self.go_on(super::super::job::Job { id: first.id, ..job }, first);
            }
        }
    }

    fn refuse_logged(&mut self, held: Held, place: usize, logged: Logged, error: &HandlerError) {
        let job = self.logged_job(held, place, logged);
        self.done.book.deliveries.panics += 1;
        self.fail(job, error, self.now);
    }

    fn is_after_start(&self, place: usize, event: &Envelope) -> bool {
        let since = self.subscribers[place].reader.as_ref().and_then(|reader| reader.since);
        since.is_none_or(|since| event.time() >= since)
    }

    /// Reads on for those that do not keep up, the most urgent class first.
    pub(super) fn read_pages(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        let places: Vec<usize> = self
            .subscribers
            .iter()
            .filter(|(_, s)| s.is_subscribed && !s.is_broken && s.reader.as_ref().is_some_and(|r| !r.is_attached()))
            .map(|(place, _)| place)
            .collect();
        for place in places {
            if self.subscribers[place].entry.options.order == Order::Strict {
                moved |= self.read_on(place, &[0, 1, 2, 3], cx);
            } else {
                (0..CLASSES).for_each(|class| moved |= self.read_on(place, &[class], cx));
            }
        }
        while let Some(durable) = &mut self.durable
            && !durable.is_stuffed()
            && let Poll::Ready(Some((place, entry, classes, pages))) = durable.reading.poll_next_unpin(cx)
        {
            moved = true;
            // Whoever was taken back gets nothing more.
            if self.subscribers.get(place).is_none_or(|s| s.entry.id != entry || !s.is_subscribed) {
                continue;
            }
            match pages {
                Ok(found) => self.take_pages(place, &classes, found, cx),
                Err(error) => {
                    if !self.cannot_read(place, &classes, error) {
                        return true;
                    }
                }
            }
        }
        moved
    }

    /// Begins to read the next pages of these classes, or attaches them to the tail.
    fn read_on(&mut self, place: usize, classes: &[usize], cx: &mut Context<'_>) -> bool {
        let Some(durable) = &mut self.durable else { return false };
        let subscriber = &mut self.subscribers[place];
        let (Some(reader), Some(tenure)) = (&mut subscriber.reader, durable.tenure().cloned()) else { return false };
        let is_busy = |&class: &usize| reader.is_attached[class] || reader.is_reading[class] || reader.is_full(class);
        if durable.is_crowded() || classes.iter().any(is_busy) {
            return false;
        }
        let from: Vec<_> = classes.iter().map(|&class| (class, reader.reads_from(class))).collect();
        let can_follow =
            from.iter().all(|&(class, from)| reader.resume[class].is_none() && from >= durable.tail.from());
        if can_follow {
            return self.attach(place, classes, cx);
        }
        for &class in classes {
            reader.is_reading[class] = true;
        }
        // What an earlier process began it may have selected by another pattern, and is done with all the same.
        let resumes = classes.iter().any(|&class| reader.resume[class].is_some());
        let wanted = if resumes { Wanted::default() } else { wanted(&subscriber.entry, reader.since) };
        let pages = Box::pin(found(tenure, from, wanted));
        let entry = subscriber.entry.id;
        durable.reading.push(Reading { place, entry, classes: classes.to_vec(), pages });
        true
    }

    /// It has read as far as the tail goes back: from now on it is told.
    fn attach(&mut self, place: usize, classes: &[usize], cx: &mut Context<'_>) -> bool {
        let Some(durable) = &self.durable else { return false };
        let Some(reader) = &mut self.subscribers[place].reader else { return false };
        let first = classes.iter().map(|&class| reader.cursors[class].high).min().unwrap_or_default();
        let Some(events) = durable.tail.since(first) else { return false };
        let pattern = &self.subscribers[place].entry.pattern;
        let missed: Vec<_> = events
            .filter(|Told { event, .. }| {
                classes.contains(&event.priority.class()) && pattern.matches(event.name.as_str())
            })
            .cloned()
            .collect();
        // A commit on the way says of whoever is attached that all was told: so it is, once it has all of this.
        let mut keeps_up = [true; CLASSES];
        for Told { seq, event, .. } in missed {
            let class = event.priority.class();
            let Some(reader) = &mut self.subscribers[place].reader else { return true };
            if !keeps_up[class] || seq < reader.cursors[class].high {
                continue;
            }
            if reader.is_full(class) || self.durable.as_ref().is_some_and(|durable| durable.is_stuffed()) {
                self.detach(place, class, seq);
                let is_strict = self.subscribers[place].entry.options.order == Order::Strict;
                (0..CLASSES).filter(|&other| other == class || is_strict).for_each(|class| keeps_up[class] = false);
            } else {
                self.deliver_logged(place, seq, &event, cx);
            }
        }
        let Some(reader) = &mut self.subscribers[place].reader else { return true };
        for &class in classes {
            reader.is_attached[class] = keeps_up[class];
        }
        true
    }

    /// Delivers what was read: in the order of the log, as far as it is known of all classes that were asked for.
    fn take_pages(&mut self, place: usize, classes: &[usize], found: Vec<Found>, cx: &mut Context<'_>) {
        let Some(reader) = &mut self.subscribers[place].reader else { return };
        for &class in classes {
            reader.is_reading[class] = false;
        }
        let gaps: Vec<_> = classes.iter().zip(&found).filter_map(|(&class, found)| found.gap(class)).collect();
        let (known_to, records) = in_order(classes, found);
        for (class, from, first) in gaps {
            self.count_trimmed(place, class, from, first.min(known_to));
        }
        for (class, record) in records {
            if self.subscribers[place].is_broken || self.subscribers[place].reader.is_none() {
                return;
            }
            self.take_record(place, class, &record, cx);
        }
        let Some(reader) = &mut self.subscribers[place].reader else { return };
        for &class in classes {
            reader.has_read_to(class, known_to);
        }
    }

    fn take_record(&mut self, place: usize, class: usize, record: &PageRecord, cx: &mut Context<'_>) {
        let subscriber = &self.subscribers[place];
        let Some(reader) = &subscriber.reader else { return };
        let seq = record.seq;
        let is_news = if seq < reader.cursors[class].high {
            reader.resume[class].is_some() && reader.cursors[class].is_open(seq)
        } else {
            subscriber.entry.pattern.matches(&record.name)
        };
        if record.name.as_ref() == MARK || !is_news {
            return;
        }
        let damage = match Envelope::from_record(&record.bytes) {
            Ok(event) if event.priority.class() == class && *event.name.as_str() == *record.name => {
                return self.deliver_logged(place, seq, &Arc::new(event), cx);
            }
            Ok(_) => "it is another than the log says".to_owned(),
            Err(error) => error.to_string(),
        };
        let what = format!("event {} of the log ({damage})", seq.0);
        self.cannot_read(place, &[class], StoreError::Corrupt { what });
    }

    /// Damage stops the subscription that has met it, and nobody else; any other failure loses the partition. Whether
    /// others go on.
    pub(super) fn cannot_read(&mut self, place: usize, classes: &[usize], error: StoreError) -> bool {
        if !matches!(error, StoreError::Corrupt { .. }) {
            self.lose(error);
            return false;
        }
        let subscriber = &mut self.subscribers[place];
        let name = subscriber.entry.name();
        tracing::error!(subscription = &**name, error = %error, "a subscription cannot read on");
        self.parts.intake.lock().log.damage.insert(unread(name), with_advice(&error));
        (subscriber.is_broken, subscriber.is_opening) = (true, false);
        if let Some(reader) = &mut subscriber.reader {
            for &class in classes {
                reader.is_reading[class] = false;
            }
        }
        true
    }
}

/// Reads the next page of each of these classes. Several are read up to one and the same place: what lands while one is read after
/// the other comes later, or it would be passed over in those that were read first.
pub(super) async fn found(
    tenure: Arc<Tenure>,
    from: Vec<(usize, Seq)>,
    mut wanted: Wanted,
) -> Result<Vec<Found>, StoreError> {
    let reader = tenure.reader();
    if from.len() > 1 {
        wanted.below = Some(reader.extent().await?.end);
    }
    let mut pages = Vec::with_capacity(from.len());
    for (class, from) in from {
        #[expect(clippy::cast_possible_truncation, reason = "there are four classes")]
        let page = reader.read(Class(class as u8), from, PAGE_BYTES, &wanted).await;
        pages.push(match page {
            Err(StoreError::Trimmed { first }) => Found::Trimmed { from, first },
            page => Found::Page(known_below(page?, wanted.below)),
        });
    }
    Ok(pages)
}

/// What was found in these classes, in the order of the log, as far as it is known of all of them.
pub(super) fn in_order(classes: &[usize], found: Vec<Found>) -> (Seq, Vec<(usize, PageRecord)>) {
    let pages: Vec<_> = found.into_iter().map(Found::into_page).collect();
    let known_to = pages.iter().map(|page| page.next).min().unwrap_or_default();
    let mut records: Vec<(usize, PageRecord)> = classes
        .iter()
        .zip(pages)
        .flat_map(|(&class, page)| page.records.into_iter().map(move |record| (class, record)))
        .filter(|(_, record)| record.seq < known_to)
        .collect();
    records.sort_by_key(|(_, record)| record.seq);
    (known_to, records)
}

/// A page that was read to its end knows all before the place up to which it was read.
fn known_below(page: Page, below: Option<Seq>) -> Page {
    let below = below.filter(|_| page.is_end).unwrap_or_default();
    Page { next: page.next.max(below), ..page }
}

/// What is said of a subscription that has met damage.
pub(super) fn unread(name: &str) -> String {
    format!("subscription `{name}` cannot read on")
}

/// What a subscription asks the store for. Patterns without wildcards name what they want.
fn wanted(entry: &Entry, since: Option<Timestamp>) -> Wanted {
    let names = entry.pattern.as_exact().map(|name: &str| BTreeSet::from([Arc::from(name)]));
    Wanted { names, since, ..Wanted::default() }
}

impl super::Reader {
    /// It was told all before `told`, and is told no more.
    fn detach(&mut self, told: Seq) {
        for (cursor, is_attached) in self.cursors.iter_mut().zip(&mut self.is_attached) {
            if std::mem::take(is_attached) {
                cursor.pass(told);
            }
        }
    }

    /// Where it reads on: after a restart first what was open.
    fn reads_from(&self, class: usize) -> Seq {
        self.resume[class].unwrap_or(self.cursors[class].high)
    }

    fn has_read_to(&mut self, class: usize, seq: Seq) {
        let cursor: &mut Cursor = &mut self.cursors[class];
        if let Some(resume) = &mut self.resume[class] {
            *resume = seq;
            if seq >= cursor.high {
                self.resume[class] = None;
            }
        }
        cursor.pass(seq);
    }
}
